//! `cargo xtask bench train`: steps of whole networks, ours and PyTorch's in turn.

mod epoch;
mod report;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};
use clap::ValueEnum;

use self::epoch::Setting;
use self::report::{Row, Times};
use super::data::corpus::Corpus;
use super::ours;
use super::peer::{Peer, Script};
use super::report::{Machine, replaced};
use super::stepper::{MEASURED, Stepper, interleave};
use crate::mistake;

/// PyTorch's side.
const SCRIPT: Script = Script {
    text: include_str!("peer.py"),
    requirements: include_str!("requirements.txt"),
    modules: &[("torch", "PyTorch"), ("torchvision", "torchvision"), ("fastai", "fastai")],
    folder: "bench-venv",
};

/// The networks, as both sides know them, and their names in the report.
const NETWORKS: &[(&str, &str)] = &[
    ("resnet18", "ResNet-18"),
    ("resnet50", "ResNet-50"),
    ("xresnet34", "xresnet34"),
    ("unet-xresnet34", "U-Net on xresnet34"),
];

/// Steps before the measured ones.
const WARM_UP: usize = 2;

/// Whom we are measured beside.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Against {
    /// PyTorch on the CPU, channels-last, eager and compiled
    Pytorch,
}

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Whom to measure beside ours [default: nobody]
    #[arg(long, value_enum)]
    against: Option<Against>,
    /// Networks: resnet18, resnet50, xresnet34, unet-xresnet34 [default: all]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    networks: Vec<String>,
    /// Precisions
    #[arg(long, value_name = "NAMES", value_delimiter = ',', default_value = "f32,bf16")]
    precisions: Vec<String>,
    /// Pictures a step
    #[arg(long, value_name = "N", default_value_t = 32)]
    batch: usize,
    /// Width and height of the pictures, in pixels
    #[arg(long, value_name = "PX", default_value_t = 128)]
    size: usize,
    /// Threads [default: all cores]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Turns of each process, of three steps, the last two of which are measured
    #[arg(long, value_name = "N", default_value_t = 3)]
    rounds: usize,
    /// Leave out torch.compile, which takes minutes a network
    #[arg(long)]
    no_compile: bool,
    /// An interpreter with PyTorch [default: one in an environment that this command makes]
    #[arg(long, value_name = "FILE")]
    python: Option<PathBuf>,
    /// The file whose section on training is replaced
    #[arg(long, value_name = "FILE", default_value = "docs/benchmarks.md")]
    out: PathBuf,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    for name in &args.networks {
        if !NETWORKS.iter().any(|(known, _)| known == name) {
            let known: Vec<&str> = NETWORKS.iter().map(|(known, _)| *known).collect();
            let known = known.join(", ");
            return Err(mistake(format!("--networks: there is no {name}; choose of {known}")));
        }
    }
    if let Some(name) = args.precisions.iter().find(|name| !["f32", "bf16"].contains(&&***name)) {
        let told = format!("--precisions: there is no {name}; choose of f32, bf16");
        return Err(mistake(told));
    }
    if args.rounds == 0 || args.batch < 2 {
        return Err(mistake("--rounds must be at least 1 and --batch at least 2"));
    }
    let peer = match args.against {
        Some(Against::Pytorch) => Some(Peer::find(&SCRIPT, args.python.as_deref())?),
        None => None,
    };
    let ours = ours::build("step", &[])?;
    let pretext = ours::build_binary(&[])?;
    let corpus = Corpus::make(&ours::build("data", &[])?, args.batch * epoch::STEPS)?;
    let data = epoch::lay_out(&corpus, args.batch)?;
    let all = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = args.threads.unwrap_or(all);
    let (mut rows, mut epochs) = (Vec::new(), Vec::new());
    for (name, title) in NETWORKS {
        if !args.networks.is_empty() && !args.networks.iter().any(|wanted| wanted == name) {
            continue;
        }
        for precision in &args.precisions {
            crate::say(format!("{title}, {precision}"));
            let row = measure(args, &ours, peer.as_ref(), (name, title, precision), threads)
                .with_context(|| format!("{title}, {precision}"))?;
            crate::say(row.line());
            rows.push(row);
            if name.starts_with("unet-") {
                continue; // No classifier.
            }
            let setting = Setting {
                network: name,
                title,
                precision,
                batch: args.batch,
                size: args.size,
                threads,
            };
            let mut bare = start(&ours, args, (name, precision), threads)?;
            let row = epoch::measure(&pretext, &mut bare, &data, &setting, args.rounds)
                .with_context(|| format!("{title}, {precision}: an epoch"))?;
            crate::say(row.line());
            epochs.push(row);
        }
    }
    let versions = peer.as_ref().map(Peer::versions).transpose()?;
    let machine = Machine::this(threads, Some(instructions(&ours)?), versions);
    let setting = format!("batches of {} at {} px", args.batch, args.size);
    let mut section = report::section(&rows, &setting, args.rounds * MEASURED);
    if !epochs.is_empty() {
        section += &epoch::table(&epochs, &setting, &corpus);
    }
    section += &format!("\n{machine}\n");
    let out = crate::root().join(&args.out);
    let before = std::fs::read_to_string(&out).unwrap_or_default();
    crate::write_whole(&out, replaced(&before, "train", &section).as_bytes())?;
    crate::say(section);
    crate::say(format!("written to {}", crate::short(&out)));
    Ok(())
}

/// One network in one precision.
fn measure(
    args: &Args,
    ours: &Path,
    peer: Option<&Peer>,
    (name, title, precision): (&str, &str, &str),
    threads: usize,
) -> Result<Row> {
    let arguments = arguments(args, (name, precision));
    let us = start(ours, args, (name, precision), threads)?;
    let (mut eager, mut compiled, mut alone) = (None, None, None);
    if let Some(peer) = peer {
        eager = Some(Stepper::start(&mut command(peer, &arguments, threads, "eager"))?);
        if !args.no_compile {
            compiled = compile(peer, &arguments, threads);
        }
    }
    if threads > 1 {
        alone = Some(start(ours, args, (name, precision), 1)?);
    }
    let mut steppers = Steppers { us, eager, compiled, alone };
    let train = steppers.run("train", args.rounds)?;
    let peaks = (steppers.us.peak()?, steppers.eager.as_mut().map(Stepper::peak).transpose()?);
    let evaluate = steppers.run("evaluate", args.rounds)?;
    Ok(Row { title: title.into(), precision: precision.into(), train, evaluate, peaks })
}

/// What both sides' processes are told at their start.
fn arguments(args: &Args, (name, precision): (&str, &str)) -> [String; 4] {
    [name, &args.batch.to_string(), &args.size.to_string(), precision].map(str::to_owned)
}

/// Our process.
fn start(ours: &Path, args: &Args, network: (&str, &str), threads: usize) -> Result<Stepper> {
    let mut command = Command::new(ours);
    command.args(arguments(args, network)).env("RAYON_NUM_THREADS", threads.to_string());
    Stepper::start(&mut command)
}

/// The processes that are measured side by side.
struct Steppers {
    us: Stepper,
    eager: Option<Stepper>,
    compiled: Option<Stepper>,
    /// Ours with one thread.
    alone: Option<Stepper>,
}

impl Steppers {
    fn run(&mut self, work: &str, rounds: usize) -> Result<Times> {
        let there = [&self.eager, &self.compiled, &self.alone].map(Option::is_some);
        let mut all = vec![&mut self.us];
        let others = [&mut self.eager, &mut self.compiled, &mut self.alone];
        all.extend(others.into_iter().flatten());
        for stepper in &mut all {
            stepper.tell(work)?;
        }
        let mut seconds = interleave(&mut all, (WARM_UP, rounds))?.into_iter();
        let ours = seconds.next().unwrap_or_default();
        let [eager, compiled, alone] = there.map(|there| if there { seconds.next() } else { None });
        Ok(Times { ours, eager, compiled, alone })
    }
}

fn command(peer: &Peer, arguments: &[String], threads: usize, how: &str) -> Command {
    let mut command = peer.command();
    command.args(arguments).arg(threads.to_string()).arg(how);
    command
}

/// A compiled network that has taken its first steps, or nothing where PyTorch cannot compile it.
fn compile(peer: &Peer, arguments: &[String], threads: usize) -> Option<Stepper> {
    let mut command = command(peer, arguments, threads, "compile");
    let mut try_it = || {
        let mut stepper = Stepper::start(command.stderr(Stdio::null()))?;
        stepper.tell("train")?;
        stepper.steps(1)?;
        Ok::<_, anyhow::Error>(stepper)
    };
    match try_it() {
        Ok(stepper) => Some(stepper),
        Err(_) => {
            crate::say("torch.compile fails here; eager alone is measured");
            None
        }
    }
}

/// What our steps are computed with. The process says it itself, for it is what picks them.
fn instructions(step: &Path) -> Result<String> {
    let output = Command::new(step).arg("instructions").output().context("cannot run the bench")?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
