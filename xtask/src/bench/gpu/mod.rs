//! `cargo xtask bench gpu`: kernels, training steps and whole runs on a GPU, ours and PyTorch's.

mod cell;
mod kernels;
mod ready;
mod report;
mod steps;

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use self::cell::Extent;
use self::report::Measured;
use self::steps::Effort;
use super::ours;
use super::peer::{Peer, Script};
use super::report::{Machine, replaced};
use crate::Ends;

/// PyTorch's side.
const SCRIPT: Script = Script {
    text: include_str!("peer.py"),
    requirements: include_str!("../train/requirements.txt"),
    modules: &[("torch", "PyTorch"), ("torchvision", "torchvision"), ("fastai", "fastai")],
    folder: "bench-venv",
};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Fewer rounds, one size of pictures, a small data set: to see that all of it runs
    #[arg(long)]
    quick: bool,
    /// Ours alone, without PyTorch
    #[arg(long, conflicts_with = "python")]
    alone: bool,
    /// Parts: kernels, steps, run [default: all]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    parts: Vec<String>,
    /// Networks of the steps: xresnet34, xresnet50, resnet18, unet-xresnet34 [default: all]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    networks: Vec<String>,
    /// An interpreter with PyTorch for CUDA [default: one in an environment that this command makes]
    #[arg(long, value_name = "FILE")]
    python: Option<PathBuf>,
    /// The file whose section on GPUs is replaced
    #[arg(long, value_name = "FILE", default_value = "docs/benchmarks-gpu.md")]
    out: PathBuf,
}

const PARTS: [&str; 3] = ["kernels", "steps", "run"];

impl Args {
    fn check(&self) -> Result<()> {
        let networks: Vec<&str> = steps::NETWORKS.iter().map(|(name, ..)| *name).collect();
        for (flag, given, known) in
            [("--parts", &self.parts, &PARTS[..]), ("--networks", &self.networks, &networks)]
        {
            if let Some(name) = given.iter().find(|name| !known.contains(&name.as_str())) {
                let told = format!("{flag}: there is no {name}; choose of {}", known.join(", "));
                return Err(Ends { code: 2, told }.into());
            }
        }
        Ok(())
    }

    fn wants(&self, part: &str) -> bool {
        self.parts.is_empty() || self.parts.iter().any(|wanted| wanted == part)
    }

    /// The command that does the same again.
    fn command(&self) -> String {
        let mut command = "cargo xtask bench gpu".to_owned();
        for (flag, given) in [(" --quick", self.quick), (" --alone", self.alone)] {
            command += if given { flag } else { "" };
        }
        for (flag, names) in [("--parts", &self.parts), ("--networks", &self.networks)] {
            if !names.is_empty() {
                command += &format!(" {flag} {}", names.join(","));
            }
        }
        command
    }
}

pub(crate) fn run(args: &Args) -> Result<()> {
    args.check()?;
    let gpu = ready::check()?;
    let peer = match args.alone {
        true => None,
        false => Some(Peer::find(&SCRIPT, args.python.as_deref())?),
    };
    let cuda = ["cuda".to_owned()];
    let mut kernels = vec![];
    if args.wants("kernels") {
        crate::say("kernels");
        kernels = kernels::measure(&ours::build("gpu", &cuda)?, if args.quick { 3 } else { 20 })?;
    }
    let effort = match args.quick {
        true => Effort { group: 5, rounds: 1 },
        false => Effort { group: 20, rounds: 5 },
    };
    let mut rows = vec![];
    if args.wants("steps") {
        let step = ours::build("step", &cuda)?;
        for &(name, title, batches) in steps::NETWORKS {
            if !args.networks.is_empty() && !args.networks.iter().any(|wanted| wanted == name) {
                continue;
            }
            for (side, batch) in steps::SIDES.into_iter().zip(batches) {
                if args.quick && side != steps::SIDES[0] {
                    continue;
                }
                crate::say(format!("{title}, {side} px"));
                let row = steps::measure(&step, peer.as_ref(), (name, title, batch), side, effort);
                rows.push(row.with_context(|| format!("{title}, {side} px"))?);
            }
        }
    }
    let extent = match args.quick {
        true => Extent { train: 512, val: 64, epochs: 3 },
        false => cell::GOAL,
    };
    let mut whole = None;
    if args.wants("run") {
        crate::say("a whole run");
        let corpus = cell::corpus(&ours::build("data", &cuda)?, extent)?;
        let pretext = ours::build_binary(&cuda)?;
        let cell = cell::measure(&pretext, &corpus, peer.as_ref(), extent)?;
        whole = Some((cell, corpus));
    }
    let versions = peer.as_ref().map(Peer::versions).transpose()?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let machine = Machine::this(threads, None, versions);
    let section = report::section(&Measured {
        gpu: &gpu,
        kernels: &kernels,
        rows: &rows,
        effort,
        cell: whole.as_ref().map(|(cell, corpus)| (cell, corpus)),
        command: &args.command(),
        machine: &machine,
    });
    let out = crate::root().join(&args.out);
    let before = std::fs::read_to_string(&out).unwrap_or_default();
    crate::write_whole(&out, replaced(&before, "gpu", &section).as_bytes())?;
    crate::say(section);
    crate::say(format!("written to {}", crate::short(&out)));
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn parse(words: &str) -> Args {
        Line::try_parse_from(["gpu"].into_iter().chain(words.split_whitespace())).unwrap().args
    }

    #[test]
    fn the_report_says_how_it_was_made() {
        let words = "--quick --parts steps,run --networks resnet18";
        let args = parse(words);
        assert_eq!(args.command(), format!("cargo xtask bench gpu {words}"));
        assert!(args.wants("run") && !args.wants("kernels") && parse("").wants("kernels"));
        assert!(args.check().is_ok());
        let refused = parse("--networks vgg").check().unwrap_err().to_string();
        assert!(
            refused.starts_with("--networks: there is no vgg; choose of xresnet34"),
            "{refused}"
        );
    }
}
