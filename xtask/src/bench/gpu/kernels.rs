//! Kernels one by one: what our bench says of each, and the tables of it.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use super::super::report::median;
use super::ready::Libraries;

/// One kernel as `crates/pretext-train/benches/gpu` tells it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Kernel {
    /// `copy`, `augment`, `operator`, `product` or `optimiser`.
    pub(super) part: String,
    pub(super) name: String,
    /// That it reads and writes at least.
    bytes: f64,
    /// Additions and multiplications.
    operations: f64,
    /// Views of pictures that it makes.
    views: f64,
    /// Of each round, on the GPU.
    seconds: Vec<f64>,
    /// The same with the host's part; of views alone.
    whole: Vec<f64>,
}

impl Kernel {
    /// Bytes a second.
    fn speed(&self) -> f64 {
        self.bytes / median(&self.seconds)
    }

    /// The share of the copy's speed, `0..`.
    pub(super) fn share(&self, copy: &Self) -> f64 {
        self.speed() / copy.speed()
    }

    /// Views a second, the host's part included.
    pub(super) fn views(&self) -> f64 {
        self.views / median(&self.whole)
    }
}

/// Runs the bench and reads what it says.
pub(super) fn measure(bench: &Path, libraries: &Libraries, rounds: usize) -> Result<Vec<Kernel>> {
    let output = libraries
        .command(bench)
        .args(["kernels", &rounds.to_string()])
        .stderr(std::process::Stdio::inherit())
        .output()
        .context("cannot run the bench of kernels")?;
    if !output.status.success() {
        bail!("the bench of kernels failed; what it said stands above")
    }
    parse(&String::from_utf8_lossy(&output.stdout))
}

fn parse(text: &str) -> Result<Vec<Kernel>> {
    let kernels: Vec<Kernel> = text
        .lines()
        .map(|line| serde_json::from_str(line).with_context(|| format!("the bench says {line:?}")))
        .collect::<Result<_>>()?;
    if !kernels.iter().any(|kernel| kernel.part == "copy") {
        bail!("the bench does not say how fast a copy is")
    }
    Ok(kernels)
}

/// Tables of all of them.
pub(super) fn tables(kernels: &[Kernel]) -> String {
    let Some(copy) = kernels.iter().find(|kernel| kernel.part == "copy") else {
        return String::new();
    };
    let of = |part: &'static str| kernels.iter().filter(move |kernel| kernel.part == part);
    let micro = |kernel: &Kernel| format!("{:.1}", median(&kernel.seconds) * 1e6);
    let mut text = format!(
        "### Kernels\n\n\
         Bytes that a kernel reads and writes at least, its time by the GPU's clock, and how near that is \
         to a copy from device to device, which moves {:.0} GB/s here. The share of an operator's gradient \
         is too low by what candle does besides: it adds each to zeros.\n\n\
         | | MB | µs | GB/s | share of a copy | thousand views/s, with the host |\n\
         |---|---:|---:|---:|---:|---:|\n",
        copy.speed() / 1e9
    );
    for kernel in of("augment").chain(of("operator")).chain(of("optimiser")) {
        let views = match kernel.whole[..] {
            [] => "–".into(),
            _ => format!("{:.0}", kernel.views() / 1e3),
        };
        text += &format!(
            "| {} | {:.1} | {} | {:.0} | {:.0}% | {views} |\n",
            kernel.name,
            kernel.bytes / 1e6,
            micro(kernel),
            kernel.speed() / 1e9,
            100.0 * kernel.share(copy),
        );
    }
    text += "\n### Convolutions and linear layers\n\n\
             Convolutions are in `bf16`, batches of 256: kernel and stride, channels, side of the pictures. \
             They are cuDNN's, with what the operator does beside it. Linear layers are in `f32`, as heads \
             are: rows, numbers in and out; cuBLAS's. The share is of a copy's speed.\n\n\
             | | GFLOP | µs | TFLOP/s | share of a copy |\n|---|---:|---:|---:|---:|\n";
    for kernel in of("product") {
        text += &format!(
            "| {} | {:.1} | {} | {:.1} | {:.0}% |\n",
            kernel.name,
            kernel.operations / 1e9,
            micro(kernel),
            kernel.operations / median(&kernel.seconds) / 1e12,
            100.0 * kernel.share(copy),
        );
    }
    text
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    const TOLD: &str = r#"
{"part":"copy","name":"device to device","bytes":4000000000,"operations":0.0,"views":0,"seconds":[0.001,0.001],"whole":[]}
{"part":"augment","name":"RandomGreyBlur","bytes":300000000,"operations":0.0,"views":2048,"seconds":[0.0001,0.0002,0.0001],"whole":[0.0005]}
{"part":"augment","name":"RandomResizedCrop, flip, normalise","bytes":300000000,"operations":0.0,"views":2048,"seconds":[0.0002],"whole":[0.0005]}
{"part":"augment","name":"SimCLR, two views","bytes":300000000,"operations":0.0,"views":2048,"seconds":[0.004],"whole":[0.008]}
{"part":"product","name":"3x3","bytes":8000000,"operations":6e11,"views":0,"seconds":[0.001],"whole":[]}
"#;

    pub(in super::super) fn told() -> Vec<Kernel> {
        parse(TOLD.trim()).unwrap()
    }

    #[test]
    fn shares_and_speeds() {
        let kernels = told();
        let text = tables(&kernels);
        assert!(text.contains("which moves 4000 GB/s here"), "{text}");
        assert!(text.contains("| RandomGreyBlur | 300.0 | 100.0 | 3000 | 75% | 4096 |"), "{text}");
        assert!(text.contains("| 3x3 | 600.0 | 1000.0 | 600.0 | 0% |"), "{text}");
    }

    #[test]
    fn nonsense_is_named() {
        assert!(parse("{}").unwrap_err().to_string().contains("the bench says \"{}\""));
        assert!(parse("").is_err());
    }
}
