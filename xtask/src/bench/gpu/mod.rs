//! `cargo xtask bench gpu`: kernels, training steps and whole runs on a GPU, ours and PyTorch's.
//!
//! All of it takes long: a call measures what its flags pick, and the page is made of what
//! all calls found.

mod cell;
mod kernels;
mod ready;
mod report;
mod results;
mod steps;

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use self::cell::Extent;
use self::ready::Libraries;
use self::results::Results;
use self::steps::Effort;
use super::ours;
use super::peer::{Peer, Script};
use super::report::{Machine, replaced};
use crate::mistake;

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
    /// Parts: kernels, steps, epochs [default: all]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    parts: Vec<String>,
    /// Networks of steps and epochs: xresnet34, xresnet50, resnet18, unet-xresnet34 [default: all]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    networks: Vec<String>,
    /// Sides of their pictures, in pixels: 128, 192, 256 [default: all]
    #[arg(long, value_name = "PX", value_delimiter = ',')]
    sizes: Vec<String>,
    /// An interpreter with PyTorch for CUDA [default: one in an environment that this command makes]
    #[arg(long, value_name = "FILE")]
    python: Option<PathBuf>,
    /// The page whose section on GPUs is replaced; beside it, as .json, lies what earlier calls measured,
    /// and what this one measures takes its place there
    #[arg(long, value_name = "FILE", default_value = "docs/benchmarks-gpu.md")]
    out: PathBuf,
}

const PARTS: [&str; 3] = ["kernels", "steps", "epochs"];

impl Args {
    fn check(&self) -> Result<()> {
        let networks: Vec<&str> = steps::NETWORKS.iter().map(|(name, ..)| *name).collect();
        let sizes = steps::SIDES.map(|side| side.to_string());
        let sizes: Vec<&str> = sizes.iter().map(String::as_str).collect();
        for (flag, given, known) in [
            ("--parts", &self.parts, &PARTS[..]),
            ("--networks", &self.networks, &networks),
            ("--sizes", &self.sizes, &sizes),
        ] {
            if let Some(name) = given.iter().find(|name| !known.contains(&name.as_str())) {
                let told = format!("{flag}: there is no {name}; choose of {}", known.join(", "));
                return Err(mistake(told));
            }
        }
        Ok(())
    }

    fn wants(&self, part: &str) -> bool {
        self.parts.is_empty() || self.parts.iter().any(|wanted| wanted == part)
    }

    /// The networks that are wanted, each with every size that is, by their places in
    /// [`steps::NETWORKS`] and [`steps::SIDES`].
    fn cells(&self) -> Vec<(usize, usize)> {
        let among =
            |given: &[String], name: &str| given.is_empty() || given.iter().any(|g| g == name);
        let sizes =
            (0..steps::SIDES.len()).filter(|&size| match self.quick && self.sizes.is_empty() {
                true => size == 0,
                false => among(&self.sizes, &steps::SIDES[size].to_string()),
            });
        let networks = steps::NETWORKS.iter().enumerate();
        let networks = networks.filter(|(_, (name, ..))| among(&self.networks, name));
        networks.flat_map(|(i, _)| sizes.clone().map(move |size| (i, size))).collect()
    }

    /// The command that does the same again.
    fn command(&self) -> String {
        let mut command = "cargo xtask bench gpu".to_owned();
        for (flag, given) in [(" --quick", self.quick), (" --alone", self.alone)] {
            command += if given { flag } else { "" };
        }
        for (flag, names) in
            [("--parts", &self.parts), ("--networks", &self.networks), ("--sizes", &self.sizes)]
        {
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
    let out = crate::root().join(&args.out);
    let kept = out.with_extension("json");
    let mut results = Results::open(&kept, gpu)?;
    let versions = peer.as_ref().map(Peer::versions).transpose()?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let machine = Machine::this(threads, None, versions).to_string();
    // After each part, so that a call that is cut short leaves what it has measured.
    let write = |results: &mut Results| -> Result<()> {
        results.commands.insert(args.command(), machine.clone());
        results.save(&kept)?;
        let before = std::fs::read_to_string(&out).unwrap_or_default();
        let section = report::section(results);
        crate::write_whole(&out, replaced(&before, "gpu", &section).as_bytes())
    };

    let cuda = ["cuda".to_owned()];
    let libraries = Libraries::find(peer.as_ref())?;
    let bench = ours::build("gpu", &cuda)?;
    libraries.check(&bench)?;
    if args.wants("kernels") {
        crate::say("kernels");
        results.kernels = kernels::measure(&bench, &libraries, if args.quick { 3 } else { 10 })?;
        write(&mut results)?;
    }
    if args.wants("steps") {
        let effort = match args.quick {
            true => Effort { group: 5, rounds: 1 },
            false => Effort { group: 20, rounds: 5 },
        };
        let step = ours::build("step", &cuda)?;
        for (network, size) in args.cells() {
            let ((name, title, batches), side) = (steps::NETWORKS[network], steps::SIDES[size]);
            crate::say(format!("steps: {title}, {side} px"));
            let (ours, work) = ((&*step, &libraries), (name, batches[size]));
            let row = steps::measure(ours, peer.as_ref(), work, side, effort);
            results.add_steps(row.with_context(|| format!("{title}, {side} px"))?);
            write(&mut results)?;
        }
    }
    if args.wants("epochs") {
        let extent = |name, side| match args.quick {
            true => Extent { train: 512, val: 64, epochs: 3 },
            false => Extent::of(name, side),
        };
        let pictures = cell::Pictures::make(&ours::build("data", &cuda)?, extent("", 0))?;
        let pretext = ours::build_binary(&cuda)?;
        for (network, size) in args.cells() {
            let ((name, title, _), side) = (steps::NETWORKS[network], steps::SIDES[size]);
            crate::say(format!("epochs: {title}, {side} px"));
            let (ours, extent) = ((&*pretext, &libraries), extent(name, side));
            let keep = |cell: &cell::Cell| {
                results.add_epochs(cell.clone());
                write(&mut results)
            };
            cell::measure(ours, &pictures, peer.as_ref(), (name, size), extent, keep)
                .with_context(|| format!("{title}, {side} px"))?;
        }
    }
    crate::say(report::section(&results));
    crate::say(format!("written to {} and {}", crate::short(&out), crate::short(&kept)));
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
        let words = "--quick --parts steps,epochs --networks resnet18 --sizes 192,256";
        let args = parse(words);
        assert_eq!(args.command(), format!("cargo xtask bench gpu {words}"));
        assert!(args.wants("epochs") && !args.wants("kernels") && parse("").wants("kernels"));
        assert_eq!(args.cells(), [(2, 1), (2, 2)]);
        assert_eq!(parse("--quick").cells(), [0, 1, 2, 3].map(|network| (network, 0)));
        assert_eq!(parse("").cells().len(), 12);
        assert!(args.check().is_ok());
        let refused = parse("--networks vgg").check().unwrap_err().to_string();
        assert!(parse("--sizes 224").check().unwrap_err().to_string().ends_with("128, 192, 256"));
        assert!(
            refused.starts_with("--networks: there is no vgg; choose of xresnet34"),
            "{refused}"
        );
    }
}
