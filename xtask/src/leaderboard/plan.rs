//! The matrix: which runs there are, where they lie, and which commands make them.

use std::path::PathBuf;

use anyhow::Result;

use super::gpus::Device;
use super::recipe::{self, Recipe};
use super::{Args, rows, shell};
use crate::{mistake, short};

/// The initial weights that are no pretext task.
pub(super) const RANDOM: &str = "random";
/// Runs of a matrix, pretraining aside: beyond it is a slip of the keyboard, not an experiment.
const MOST_RUNS: u128 = 10_000;

/// The matrix on the embedded sample: sizes and epochs that end within ten minutes on two cores.
mod quick {
    pub(super) const SIZE: u32 = 32;
    pub(super) const EPOCHS: u32 = 8;
    pub(super) const RUNS: u32 = 3;
    pub(super) const PRETRAIN_EPOCHS: u32 = 2;
    pub(super) const ENCODER: &str = "xresnet18";
    pub(super) const BATCH_SIZE: usize = 32;
}

/// The public leaderboard's matrix.
mod full {
    pub(super) const SIZES: [u32; 3] = [128, 192, 256];
    pub(super) const EPOCHS: [u32; 4] = [5, 20, 80, 200];
    pub(super) const PRETRAIN_EPOCHS: u32 = 15;
    pub(super) const ENCODER: &str = "xresnet34";
    pub(super) const BATCH_SIZE: usize = 64;

    pub(super) fn runs(epochs: u32) -> u32 {
        match epochs {
            ..=5 => 5,
            6..=20 => 3,
            _ => 1,
        }
    }
}

/// Everything that is asked for.
pub(super) struct Matrix {
    data: String,
    sizes: Vec<u32>,
    /// Epochs of fine-tuning, with the runs of each.
    epochs: Vec<(u32, u32)>,
    inits: Vec<String>,
    seed: u64,
    pub(super) pretrain_epochs: u32,
    pub(super) encoder: String,
    pub(super) batch_size: usize,
    pub(super) include_val_pixels: bool,
    threads: Option<usize>,
    device: Device,
    /// The file the recipe was read from, and its tables of further flags.
    file: Option<PathBuf>,
    tables: [toml::Table; 2],
    /// Each step's directory, once it is known.
    pub(super) directories: Vec<(Step, String)>,
    /// What each of these steps would be of, as the binary tells it: a record has to say the same.
    pub(super) previews: Vec<serde_json::Value>,
    pub(super) out: PathBuf,
}

/// One run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// An encoder, shared by all runs that begin with it.
    Pretrain {
        /// Its task.
        task: String,
        /// Its pictures' size.
        size: u32,
    },
    /// One run of a cell.
    Finetune {
        /// What it begins with: [`RANDOM`] or a task.
        init: String,
        /// Its pictures' size.
        size: u32,
        /// Its epochs.
        epochs: u32,
        /// Its seed.
        seed: u64,
    },
}

/// The last part of the data's path, also where that is spelt `.`.
fn data_name(data: &str) -> String {
    let whole = std::fs::canonicalize(data).unwrap_or_else(|_| data.into());
    whole.file_name().map_or_else(|| "data".into(), |name| name.to_string_lossy().into_owned())
}

/// Refuses a matrix of more than [`MOST_RUNS`], and seeds that TOML has no number for.
fn bounded(sizes: &[u32], inits: &[String], runs: &[u32], seed: u64) -> Result<()> {
    let each: u128 = runs.iter().map(|&runs| u128::from(runs)).sum();
    let all = each * (sizes.len() * inits.len()) as u128;
    if all > MOST_RUNS {
        return Err(mistake(format!(
            "--runs: that is {all} runs in all; a leaderboard has at most {MOST_RUNS}, give fewer"
        )));
    }
    let most = runs.iter().max().map_or(0, |&runs| u64::from(runs));
    let last = i64::MAX as u64;
    if seed > last - most.saturating_sub(1) {
        return Err(mistake(format!(
            "--seed: {seed} and {most} runs count beyond {last}; give a smaller seed"
        )));
    }
    Ok(())
}

impl Matrix {
    pub(super) fn new(args: &Args) -> Result<Self> {
        let (file, out) = (args.recipe.clone(), args.out.clone());
        let (threads, device) = (args.threads, args.device);
        let args = Recipe::of(args)?;
        let data = args.data.unwrap_or_else(|| "sample".into());
        let wang = data == "imagewang";
        let sample = data == "sample";
        let sizes = args
            .sizes
            .clone()
            .unwrap_or_else(|| if wang { full::SIZES.to_vec() } else { vec![quick::SIZE] });
        let epochs = args
            .epochs
            .clone()
            .unwrap_or_else(|| if wang { full::EPOCHS.to_vec() } else { vec![quick::EPOCHS] });
        let runs = match &args.runs {
            Some(runs) => runs.clone(),
            // Fewer runs of longer trainings, as the public leaderboard has them.
            None if wang => epochs.iter().map(|&epochs| full::runs(epochs)).collect(),
            None => vec![quick::RUNS],
        };
        let runs = match runs[..] {
            [one] => vec![one; epochs.len()],
            _ if runs.len() == epochs.len() => runs,
            _ => {
                return Err(mistake(format!(
                    "--runs names {} numbers, --epochs {}; give one for all, or one for each",
                    runs.len(),
                    epochs.len()
                )));
            }
        };
        let inits = args
            .init
            .clone()
            .unwrap_or_else(|| [RANDOM, "grey-blur", "inpaint"].map(str::to_owned).to_vec());
        if sizes.contains(&0) || epochs.contains(&0) || runs.contains(&0) {
            return Err(mistake("--sizes, --epochs and --runs take numbers from 1"));
        }
        let seed = args.seed.unwrap_or(0);
        bounded(&sizes, &inits, &runs, seed)?;
        let choose = |asked: &Option<String>, quick: &str, full: &str| {
            asked.clone().unwrap_or_else(|| if sample { quick } else { full }.to_owned())
        };
        let out = out.unwrap_or_else(|| crate::root().join("runs").join(data_name(&data)));
        // Jobs are started from elsewhere, and so the folder has one name everywhere.
        let out = std::path::absolute(&out).unwrap_or(out);
        // A folder of pictures too; the data sets with names of their own have their places.
        let data = match data.as_str() {
            "sample" | "imagewang" => data,
            folder => std::path::absolute(folder)?.display().to_string(),
        };
        Ok(Self {
            data,
            sizes,
            epochs: epochs.into_iter().zip(runs).collect(),
            inits,
            seed,
            pretrain_epochs: args.pretrain_epochs.unwrap_or(if sample {
                quick::PRETRAIN_EPOCHS
            } else {
                full::PRETRAIN_EPOCHS
            }),
            encoder: choose(&args.encoder, quick::ENCODER, full::ENCODER),
            batch_size: args.batch_size.unwrap_or(if sample {
                quick::BATCH_SIZE
            } else {
                full::BATCH_SIZE
            }),
            include_val_pixels: args.include_val_pixels.unwrap_or(false),
            threads,
            device,
            file,
            tables: [args.pretrain, args.finetune],
            directories: Vec::new(),
            previews: Vec::new(),
            out,
        })
    }

    /// Every run, each pretraining before the runs that begin with it.
    pub(super) fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        for &size in &self.sizes {
            for task in self.inits.iter().filter(|init| *init != RANDOM) {
                steps.push(Step::Pretrain { task: task.clone(), size });
            }
            for &(epochs, runs) in &self.epochs {
                for init in &self.inits {
                    steps.extend((0..u64::from(runs)).map(|run| Step::Finetune {
                        init: init.clone(),
                        size,
                        epochs,
                        seed: self.seed + run,
                    }));
                }
            }
        }
        steps
    }

    /// The whole recipe, as `--recipe` reads it.
    pub(super) fn recipe(&self) -> Recipe {
        let [pretrain, finetune] = self.tables.clone();
        Recipe {
            data: Some(self.data.clone()),
            sizes: Some(self.sizes.clone()),
            epochs: Some(self.epochs.iter().map(|(epochs, _)| *epochs).collect()),
            init: Some(self.inits.clone()),
            runs: Some(self.epochs.iter().map(|(_, runs)| *runs).collect()),
            seed: Some(self.seed),
            pretrain_epochs: Some(self.pretrain_epochs),
            encoder: Some(self.encoder.clone()),
            batch_size: Some(self.batch_size),
            include_val_pixels: Some(self.include_val_pixels),
            pretrain,
            finetune,
        }
    }

    /// Where a step's flags come from, for a message about them.
    pub(super) fn blame(&self, step: &Step) -> String {
        match &self.file {
            Some(file) => format!("{}, [{}]", short(file), step.command()),
            None => step.describe(),
        }
    }

    /// The data set's name.
    pub(super) fn name(&self) -> String {
        data_name(&self.data)
    }

    /// Whether published rows stand beside this matrix's.
    pub(super) fn is_imagewang(&self) -> bool {
        self.data == "imagewang"
    }

    /// The folder to train on at a size: the smallest archive that is large enough, as the
    /// published recipes have it.
    pub(super) fn data_for(&self, size: u32) -> Result<PathBuf> {
        let data = crate::root().join("data");
        let names: &[&str] = match self.data.as_str() {
            "sample" => &["sample"],
            "imagewang" if size <= 160 => &["imagewang-160"],
            "imagewang" if size <= 224 => &["imagewang-320", "imagewang"],
            "imagewang" => &["imagewang", "imagewang-320"],
            other => return Ok(other.into()),
        };
        match names.iter().map(|name| data.join(name)).find(|folder| folder.is_dir()) {
            Some(folder) => Ok(folder),
            None => Err(mistake(format!(
                "{} is not there; run `cargo xtask fetch-data {}`",
                short(&data.join(names[0])),
                names[0]
            ))),
        }
    }
}

impl Step {
    /// The whole command, as a shell takes it.
    pub(super) fn command_line(&self, matrix: &Matrix) -> String {
        format!("pretext {}", shell::line(&self.arguments(matrix)))
    }

    /// The subcommand that makes it.
    pub(super) fn command(&self) -> &'static str {
        match self {
            Self::Pretrain { .. } => "pretrain",
            Self::Finetune { .. } => "finetune",
        }
    }

    pub(super) fn size(&self) -> u32 {
        match self {
            Self::Pretrain { size, .. } | Self::Finetune { size, .. } => *size,
        }
    }

    pub(super) fn epochs(&self, matrix: &Matrix) -> u32 {
        match self {
            Self::Pretrain { .. } => matrix.pretrain_epochs,
            Self::Finetune { epochs, .. } => *epochs,
        }
    }

    pub(super) fn seed(&self, matrix: &Matrix) -> u64 {
        match self {
            Self::Pretrain { .. } => matrix.seed,
            Self::Finetune { seed, .. } => *seed,
        }
    }

    /// What it would be of, once that is known.
    pub(super) fn preview<'a>(&self, matrix: &'a Matrix) -> Option<&'a serde_json::Value> {
        let at = matrix.directories.iter().position(|(step, _)| step == self)?;
        matrix.previews.get(at)
    }

    /// The encoder that a run begins with, if it is not [`RANDOM`].
    pub(super) fn init_file(&self, matrix: &Matrix) -> PathBuf {
        let pretraining = match self {
            Self::Finetune { init, size, .. } => Self::Pretrain { task: init.clone(), size: *size },
            Self::Pretrain { .. } => self.clone(),
        };
        pretraining.out(matrix).join(super::cells::ENCODER)
    }

    /// The run's folder.
    pub(super) fn out(&self, matrix: &Matrix) -> PathBuf {
        let known = matrix.directories.iter().find(|(step, _)| step == self);
        // Before data and binary are looked at, the hash that ends the name is not known.
        matrix.out.join(known.map_or_else(|| self.name(matrix), |(_, name)| name.clone()))
    }

    /// The readable part of its directory's name.
    pub(super) fn name(&self, matrix: &Matrix) -> String {
        let val = if matrix.include_val_pixels { "-with-val-pixels" } else { "" };
        match self {
            Self::Pretrain { task, size } => {
                let epochs = matrix.pretrain_epochs;
                format!("pretrain-{size}px-{epochs}ep-{task}{val}-s{}", matrix.seed)
            }
            Self::Finetune { init, size, epochs, seed } => {
                let val = if init == RANDOM { "" } else { val };
                format!("finetune-{size}px-{epochs}ep-{init}{val}-s{seed}")
            }
        }
    }

    /// The directory of the encoder that it begins with.
    pub(super) fn init_name(&self, matrix: &Matrix) -> Option<String> {
        let Self::Finetune { init, size, .. } = self else { return None };
        let before = Self::Pretrain { task: init.clone(), size: *size };
        let known = matrix.directories.iter().find(|(step, _)| *step == before);
        known.map(|(_, name)| name.clone())
    }

    /// The arguments of `pretext`.
    pub(super) fn arguments(&self, matrix: &Matrix) -> Vec<String> {
        let mut arguments = self.recipe_arguments(matrix);
        let mut flag = |name: &str, value: String| {
            arguments.extend([format!("--{name}"), value]);
        };
        if matches!(self, Self::Finetune { init, .. } if init != RANDOM) {
            flag("init", self.init_file(matrix).display().to_string());
        }
        flag("out", self.out(matrix).display().to_string());
        if let Some(threads) = matrix.threads {
            flag("threads", threads.to_string());
        }
        arguments.extend(matrix.device.flag().into_iter().flatten());
        arguments
    }

    /// The same but for the seed: what all runs of a cell share.
    pub(super) fn seedless_arguments(&self, matrix: &Matrix) -> Vec<String> {
        let mut arguments = self.recipe_arguments(matrix);
        if let Some(at) = arguments.iter().position(|word| word == "--seed") {
            arguments.drain(at..at + 2);
        }
        arguments
    }

    /// The arguments that decide the result, besides an encoder to begin with; the folder of the data
    /// is as it will be where it is missing.
    pub(super) fn recipe_arguments(&self, matrix: &Matrix) -> Vec<String> {
        let size = self.size();
        let data = matrix.data_for(size).unwrap_or_else(|_| matrix.data.clone().into());
        let mut arguments: Vec<String> = vec![self.command().into()];
        let mut flag = |name: &str, value: String| {
            arguments.extend([format!("--{name}"), value]);
        };
        flag("data", data.display().to_string());
        match self {
            Self::Pretrain { task, .. } => flag("task", task.clone()),
            Self::Finetune { init, .. } if init == RANDOM => flag("init", init.clone()),
            Self::Finetune { .. } => {}
        }
        flag("encoder", matrix.encoder.clone());
        flag("size", size.to_string());
        flag("epochs", self.epochs(matrix).to_string());
        flag("batch-size", matrix.batch_size.to_string());
        flag("seed", self.seed(matrix).to_string());
        let [pretrain, finetune] = &matrix.tables;
        let table = if matches!(self, Self::Pretrain { .. }) { pretrain } else { finetune };
        arguments.extend(recipe::flags(table));
        if matches!(self, Self::Pretrain { .. }) && matrix.include_val_pixels {
            arguments.push("--include-val-pixels".into());
        }
        arguments
    }

    /// The run in a few words.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Pretrain { task, size } => format!("pretraining on {task} at {size} px"),
            Self::Finetune { init, size, epochs, seed } => {
                let epochs = rows::counted(*epochs, "epoch");
                format!("fine-tuning at {size} px for {epochs} from {init}, seed {seed}")
            }
        }
    }
}
