//! What a finished run leaves on disk: `record.json`.
//!
//! Tables are made from records alone, so a record says everything a reader could doubt: the
//! recipe, the data by fingerprint, the code, the machine, and what the initial weights were.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::device::Device;
use crate::error::{Error, Result};
use crate::files;

/// The file's name in a run's out folder; its presence means that the run is finished.
pub const FILE: &str = "record.json";

/// The format written by this version.
pub const FORMAT: u32 = 1;

/// A finished run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// [`FORMAT`].
    pub format: u32,
    /// `pretrain` or `finetune`.
    pub kind: String,
    /// When the run began: UTC, RFC 3339.
    pub started: String,
    /// How long it took, over all sittings, in seconds.
    pub seconds: f64,
    /// What the processor took in that time, in joules, whoever made it work: where the system
    /// tells it, in all sittings (Linux's power capping framework, which often only root may read).
    #[serde(default)]
    pub joules: Option<f64>,
    /// The recipe's seed.
    pub seed: u64,
    /// The recipe, and as `line` its one-line form.
    pub recipe: Value,
    /// What was trained on.
    pub data: DataRecord,
    /// What trained.
    pub code: Code,
    /// Where.
    pub machine: Machine,
    /// What the weights were before the first step.
    pub initial_weights: InitialWeights,
    /// SHA-256 of the encoder file that a pretraining left: what begins with that file says the same
    /// of its initial weights. Unknown in records of before it was noted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoder_sha256: Option<String>,
    /// One entry an epoch.
    pub epochs: Vec<Epoch>,
    /// How well it did in the end.
    pub result: Score,
}

/// The data of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DataRecord {
    /// The last part of the data set's path.
    pub name: String,
    /// SHA-256 over names and sizes.
    pub fingerprint: String,
    /// Labelled pictures to train on.
    pub train: usize,
    /// Pictures without labels.
    pub unsup: usize,
    /// Labelled pictures to score on.
    pub val: usize,
    /// Class names, sorted; a label is a place in this list.
    pub classes: Vec<String>,
    /// The splits whose pixels were trained on.
    pub pretrained_on: Vec<String>,
}

/// The code of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Code {
    /// The version of this crate.
    pub version: String,
    /// The commit it was built from, where it was built from a checkout; `COMMIT+HASH` if there were
    /// changes to it.
    pub commit: Option<String>,
    /// What decodes JPEGs: `zune-jpeg` or `libjpeg-turbo`; a few levels of a pixel depend on it.
    /// Empty in records of before there was a choice.
    #[serde(default)]
    pub jpeg_decoder: String,
}

impl Code {
    /// The code that is running.
    pub fn this() -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").into(),
            commit: option_env!("PRETEXT_COMMIT").map(str::to_owned),
            jpeg_decoder: pretext_data::jpeg_decoder().into(),
        }
    }
}

/// The machine of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// The processor's name.
    pub processor: String,
    /// Its logical cores.
    pub cores: usize,
    /// The threads that were used.
    pub threads: usize,
    /// The processes that shared the run, each with so many threads; this is the machine of the first.
    #[serde(default = "one")]
    pub processes: usize,
    /// Operating system and architecture.
    pub system: String,
    /// Where tensors lay: `cpu`, or such as `cuda:0 (NVIDIA H200)`.
    pub device: String,
    /// The processor's instructions that were used, such as `avx512`; results round differently
    /// with others. Empty in records of before they were noted.
    #[serde(default)]
    pub instructions: String,
}

impl Machine {
    /// The machine this runs on, for work on a device by so many processes.
    pub fn this(threads: usize, processes: usize, device: &Device) -> Self {
        Self {
            processor: processor(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            threads,
            processes,
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            device: device.name().into(),
            instructions: pretext_ops::Isa::current().to_string(),
        }
    }
}

fn one() -> usize {
    1
}

/// The processor's name where the system tells it, else the architecture.
fn processor() -> String {
    std::fs::read_to_string("/proc/cpuinfo")
        .ok()
        .and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("model name"))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        })
        .unwrap_or_else(|| std::env::consts::ARCH.into())
}

/// What the weights were before the first step: the proof that a row began where it says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum InitialWeights {
    /// Drawn from the seed's stream.
    Random {
        /// The seed.
        seed: u64,
        /// SHA-256 over all names and values.
        sha256: String,
    },
    /// Read from a file, as far as the file goes; the rest drawn from the seed's stream.
    File {
        /// The file as it was named; left out of files of weights, for equal weights are equal
        /// files wherever they were made.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        path: Option<String>,
        /// SHA-256 of the file.
        sha256: String,
        /// How the file came to be, where it says so.
        pretrained: Option<Pretrained>,
    },
}

impl InitialWeights {
    /// The same without a path.
    pub(crate) fn anywhere(&self) -> Self {
        match self {
            Self::File { sha256, pretrained, .. } => {
                Self::File { path: None, sha256: sha256.clone(), pretrained: pretrained.clone() }
            }
            random @ Self::Random { .. } => random.clone(),
        }
    }
}

/// How an encoder file came to be; written into the file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pretrained {
    /// The task, or `classify` for an encoder from a classifier.
    pub task: String,
    /// Its epochs.
    pub epochs: u32,
    /// Its seed.
    pub seed: u64,
    /// The splits whose pixels it was trained on.
    pub pretrained_on: Vec<String>,
    /// The fingerprint of its data.
    pub fingerprint: String,
    /// What its weights were before the first step.
    pub initial_weights: Box<InitialWeights>,
}

/// What one epoch brought.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Epoch {
    /// From 1.
    pub epoch: u32,
    /// The mean loss over its steps.
    pub train_loss: f64,
    /// The mean loss on the held-out pictures, where there are any.
    pub val_loss: Option<f64>,
    /// The share of held-out pictures classified right, `0..=1`, where there are labels.
    pub val_accuracy: Option<f64>,
    /// The learning rate at its last step.
    pub learning_rate: f64,
    /// Training and validation, in seconds.
    pub seconds: f64,
    /// Pictures trained on.
    pub images: usize,
    /// Pictures a second, training alone.
    pub images_per_second: f64,
    /// The share of training time spent waiting for data, `0..=1`.
    pub data_wait: f64,
    /// Damaged pictures left out.
    pub damaged: usize,
}

/// How well a run did in the end.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// The mean loss on the held-out pictures.
    pub val_loss: Option<f64>,
    /// The share classified right, `0..=1`.
    pub accuracy: Option<f64>,
    /// How many that is.
    pub correct: Option<usize>,
    /// Of how many.
    pub total: Option<usize>,
    /// Width and height of what the network saw of a picture, in pixels; unknown in records of
    /// before it was noted.
    #[serde(default)]
    pub size: Option<u32>,
    /// Views of a picture that an answer came from: more than one is test-time augmentation.
    #[serde(default)]
    pub views: Option<u32>,
    /// The same for each class that was scored.
    pub per_class: Vec<ClassScore>,
    /// The pictures that were mistaken with most confidence, the surest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mistakes: Vec<Mistake>,
}

/// One class's share of a score.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassScore {
    /// The class's name.
    pub class: String,
    /// Pictures classified right.
    pub correct: usize,
    /// Of how many.
    pub total: usize,
    /// How often each class was the answer, for those that were: a row of the confusion matrix.
    /// Empty in records of before it was noted.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub answers: BTreeMap<String, usize>,
}

/// A picture that was taken for something else.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mistake {
    /// Its name in the data set.
    pub picture: String,
    /// Its place in `val/`, in the data set's stable order.
    pub index: usize,
    /// What it shows.
    pub class: String,
    /// What it was taken for.
    pub answer: String,
    /// How sure the network was of that: the softmax's share, `0..=1`.
    pub probability: f64,
}

impl Record {
    /// The record in a run's out folder, if the run is finished.
    ///
    /// # Errors
    /// If the file is there but cannot be read, or is of a later format.
    pub fn read(out: &Path) -> Result<Option<Self>> {
        let path = out.join(FILE);
        if !path.exists() {
            return Ok(None);
        }
        let record: Self = files::read_json(&path)?;
        if record.format == FORMAT {
            Ok(Some(record))
        } else {
            let problem = format!(
                "is of format {}, this version reads {FORMAT}; update pretext",
                record.format
            );
            Err(Error::File { path, problem })
        }
    }

    /// Writes the record into a run's out folder, in one step.
    ///
    /// # Errors
    /// If the folder cannot be written to.
    pub fn write(&self, out: &Path) -> Result<()> {
        files::write_json(&out.join(FILE), self)
    }
}
