//! Flags, and the recipes they make: the only place that knows how a flag is spelt.

mod recipe;

use std::path::PathBuf;

use clap::builder::{PossibleValue, PossibleValuesParser};
use clap::{Parser, Subcommand};
use pretext_train::device::DeviceChoice;
use pretext_train::finetune::Init;
use pretext_train::recipe::{Common, FinetuneRecipe, Layers, PretrainRecipe};
use pretext_train::tasks;

use self::recipe::{CommonArgs, PuzzleArgs, table};

/// Self-supervised learning on images: pretrain on a pretext task, fine-tune, see what it bought.
#[derive(Parser)]
#[command(name = "pretext", version, max_term_width = 100, after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
A first session, on the sample that comes with the source:
  pretext show     --data data/sample --task grey-blur --size 64 --out puzzle.png
  pretext pretrain --data data/sample --task grey-blur --encoder xresnet18 --size 64 --epochs 5 --out runs/pre
  pretext finetune --data data/sample --init runs/pre/encoder.safetensors --encoder xresnet18 --size 64 --out runs/fine
  pretext finetune --data data/sample --init random --encoder xresnet18 --size 64 --out runs/baseline
  pretext evaluate --data data/sample --weights runs/fine/classifier.safetensors

Exit codes: 0 done, 1 failed, 2 a mistake in the command or its files, 75 another process works
on --out, 130 stopped by a signal. SIGINT, SIGTERM, SIGHUP and SIGUSR1 stop a training after the step
under way, with a checkpoint; a second SIGINT ends it at once.";

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Train an encoder on a pretext task, without labels
    Pretrain(PretrainArgs),
    /// Train a classifier on labels, from random or pretrained weights
    Finetune(FinetuneArgs),
    /// Score weights on val/
    Evaluate(EvaluateArgs),
    /// Classify single pictures
    Predict(PredictArgs),
    /// Write the features of every picture to a file
    Embed(EmbedArgs),
    /// Draw a task's input and target, and with weights its prediction
    Show(ShowArgs),
    /// Decode a data set once, into one file; again only if the pictures changed
    Cache(CacheArgs),
    /// Say what a weight file, a cache, a run, a folder of pictures or this machine holds
    Info(InfoArgs),
}

#[derive(clap::Args)]
pub(crate) struct PretrainArgs {
    #[command(flatten)]
    pub(crate) data: DataArgs,
    /// What the network has to solve
    #[arg(long, value_name = "NAME", default_value = "grey-blur", value_parser = task_names())]
    task: String,
    /// Also train on the pixels (never the labels) of val/, as the public leaderboard's standing
    /// rows did; the record says so
    #[arg(long)]
    include_val_pixels: bool,
    /// Passes over the pictures
    #[arg(long, value_name = "N", default_value_t = PretrainRecipe::default().common.epochs)]
    epochs: u32,
    #[command(flatten)]
    common: CommonArgs,
    #[command(flatten)]
    puzzle: PuzzleArgs,
    /// End the restoring network in a sigmoid
    #[arg(long, help_heading = "Task")]
    sigmoid: bool,
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

#[derive(clap::Args)]
pub(crate) struct FinetuneArgs {
    #[command(flatten)]
    pub(crate) data: DataArgs,
    /// `random`, or a file of pretrained weights such as a run's encoder.safetensors
    #[arg(long, value_name = "random|FILE", value_parser = parse_init)]
    pub(crate) init: Init,
    /// Which layers learn
    #[arg(long, value_name = "LAYERS", default_value = "all", value_parser = table(Layers::ALL))]
    train: Layers,
    /// Passes over the pictures
    #[arg(long, value_name = "N", default_value_t = FinetuneRecipe::default().common.epochs)]
    epochs: u32,
    #[command(flatten)]
    common: CommonArgs,
    /// How much of the target is spread over all classes
    #[arg(long, value_name = "SHARE", default_value_t = FinetuneRecipe::default().label_smoothing)]
    label_smoothing: f64,
    /// Alpha of mixup; 0 does not mix
    #[arg(long, value_name = "ALPHA", default_value_t = 0.0)]
    mixup: f64,
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

#[derive(clap::Args)]
pub(crate) struct EvaluateArgs {
    /// A classifier, an encoder of ours, or a pretrained one from elsewhere (safetensors)
    #[arg(long, value_name = "FILE")]
    pub(crate) weights: PathBuf,
    #[command(flatten)]
    pub(crate) data: DataArgs,
    /// Print the score as JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) machine: MachineArgs,
}

#[derive(clap::Args)]
pub(crate) struct PredictArgs {
    /// A run's classifier.safetensors
    #[arg(long, value_name = "FILE")]
    pub(crate) weights: PathBuf,
    /// Pictures to classify
    #[arg(value_name = "IMAGE", required = true)]
    pub(crate) images: Vec<PathBuf>,
    /// Print one JSON object a picture
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(clap::Args)]
pub(crate) struct EmbedArgs {
    /// A classifier, an encoder of ours, or a pretrained one from elsewhere (safetensors)
    #[arg(long, value_name = "FILE")]
    pub(crate) weights: PathBuf,
    #[command(flatten)]
    pub(crate) data: DataArgs,
    /// Where the features go
    #[arg(long, value_name = "FILE.safetensors")]
    pub(crate) out: PathBuf,
    #[command(flatten)]
    pub(crate) machine: MachineArgs,
}

#[derive(clap::Args)]
pub(crate) struct ShowArgs {
    /// Folder of pictures, or a cache, or shards
    #[arg(long, value_name = "PATH")]
    pub(crate) data: PathBuf,
    /// What the network has to solve
    #[arg(long, value_name = "NAME", default_value = "grey-blur", value_parser = task_names())]
    task: String,
    /// A fine-tuning run's folder: draw the pictures that it was most wrong about instead
    #[arg(long, value_name = "DIR", conflicts_with_all = [
        "task", "weights", "size", "count", "seed", "regions", "side", "sigma", "tiles", "permutations",
    ])]
    pub(crate) mistakes: Option<PathBuf>,
    /// A run's pretext.safetensors, to draw its predictions; its size and parameters are used
    #[arg(long, value_name = "FILE")]
    pub(crate) weights: Option<PathBuf>,
    /// Width and height of each picture, in pixels
    #[arg(long, value_name = "PX", default_value_t = 128)]
    size: u32,
    /// Rows
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = parse_count)]
    count: usize,
    /// Which pictures
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    puzzle: PuzzleArgs,
    /// Where the picture goes
    #[arg(long, value_name = "FILE.png")]
    pub(crate) out: PathBuf,
}

#[derive(clap::Args)]
pub(crate) struct CacheArgs {
    #[command(flatten)]
    pub(crate) data: DataArgs,
    /// Where the cache goes; give it as --data afterwards
    #[arg(long, value_name = "FILE.safetensors")]
    pub(crate) out: PathBuf,
    /// Shrink larger pictures until their shorter side has so many pixels
    #[arg(long, value_name = "PX")]
    pub(crate) size: Option<u32>,
    #[command(flatten)]
    pub(crate) machine: MachineArgs,
}

#[derive(clap::Args)]
pub(crate) struct InfoArgs {
    /// A file or folder
    #[arg(value_name = "PATH", required_unless_present = "machine")]
    pub(crate) path: Option<PathBuf>,
    /// Say what this machine computes with; PRETEXT_ISA (amx-bf16, avx512-bf16, avx512, avx2 or
    /// portable) forces its instructions, PRETEXT_WINOGRAD=0 turns off the convolutions that trade
    /// rounding for speed
    #[arg(long, conflicts_with = "path")]
    pub(crate) machine: bool,
}

/// What is read, and how strictly.
#[derive(clap::Args)]
pub(crate) struct DataArgs {
    /// Folder of pictures (train/CLASS/, unsup/, val/CLASS/, or any other), or a cache, or shards:
    /// a *.tar, a *.parquet, a folder of them, or a range such as shard-{000..017}.tar
    #[arg(long = "data", value_name = "PATH")]
    pub(crate) path: PathBuf,
    /// End at the first damaged picture instead of leaving it out
    #[arg(long)]
    pub(crate) strict: bool,
}

/// Where and on what it runs.
#[derive(clap::Args)]
pub(crate) struct RunArgs {
    /// Folder for weights and record
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Go on from the checkpoint in --out, if there is one
    #[arg(long)]
    pub(crate) resume: bool,
    /// Wait while another process works on --out, instead of giving up
    #[arg(long)]
    pub(crate) wait: bool,
    /// The longest time between two checkpoints, in seconds; there is always one after an epoch
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    pub(crate) checkpoint_every: u64,
    /// Print recipe, data and code as JSON, and train nothing
    #[arg(long)]
    pub(crate) print_recipe: bool,
    #[command(flatten)]
    pub(crate) machine: MachineArgs,
}

#[derive(clap::Args)]
pub(crate) struct MachineArgs {
    /// Where to compute: cpu, cuda (the first GPU; of several processes on a run, each its own), cuda:N
    /// (a GPU, by its number), or auto, cuda if there is a GPU. GPUs are for builds with the feature
    /// cuda
    ///
    /// There is no --deterministic, for there is nothing else: every kernel in use gives the same bits in
    /// each run on the same model of GPU with the same libraries. cuBLAS, cuRAND and cuDNN 9 for CUDA 13
    /// must be where the loader finds them: LD_LIBRARY_PATH names the folders of those that PyTorch or pip
    /// brought.
    #[arg(long, value_name = "DEVICE", default_value_t, help_heading = "Machine")]
    pub(crate) device: DeviceChoice,
    /// Threads; results do not depend on them [default: all cores]
    #[arg(long, value_name = "N", value_parser = parse_count, help_heading = "Machine")]
    threads: Option<usize>,
}

impl MachineArgs {
    pub(crate) fn threads(&self) -> usize {
        let all = || std::thread::available_parallelism().map_or(1, usize::from);
        self.threads.unwrap_or_else(all)
    }
}

impl PretrainArgs {
    pub(crate) fn recipe(&self) -> PretrainRecipe {
        PretrainRecipe {
            task: self.task.clone(),
            common: self.common.recipe(self.epochs),
            puzzle: self.puzzle.options(),
            sigmoid: self.sigmoid,
            include_val_pixels: self.include_val_pixels,
        }
    }
}

impl FinetuneArgs {
    pub(crate) fn recipe(&self) -> FinetuneRecipe {
        FinetuneRecipe {
            common: self.common.recipe(self.epochs),
            label_smoothing: self.label_smoothing,
            train: self.train,
            mixup: self.mixup,
        }
    }
}

impl ShowArgs {
    pub(crate) fn figure(&self) -> pretext_train::show::Figure {
        let common = Common { size: self.size, seed: self.seed, ..Common::default() };
        let recipe = PretrainRecipe {
            task: self.task.clone(),
            common,
            puzzle: self.puzzle.options(),
            ..PretrainRecipe::default()
        };
        pretext_train::show::Figure { recipe, count: self.count }
    }
}

fn parse_init(text: &str) -> Result<Init, String> {
    match text {
        "random" => Ok(Init::Random),
        "" => Err("give `random` or a file".into()),
        path => Ok(Init::File(path.into())),
    }
}

fn parse_count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("give a whole number of at least 1".into()),
        Ok(count) => Ok(count),
    }
}

fn task_names() -> PossibleValuesParser {
    tasks::ALL.iter().map(|task| PossibleValue::new(task.name()).help(task.about())).into()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_flags_are_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn the_defaults_are_the_published_recipe() {
        let args = Args::parse_from(["pretext", "pretrain", "--data", "d", "--out", "o"]);
        let Command::Pretrain(args) = args.command else { panic!("not pretrain") };
        assert_eq!(args.recipe(), PretrainRecipe::default());
        let line = ["pretext", "finetune", "--data", "d", "--init", "random", "--out", "o"];
        let Command::Finetune(args) = Args::parse_from(line).command else { panic!("no finetune") };
        assert_eq!(args.recipe(), FinetuneRecipe::default());
    }
}
