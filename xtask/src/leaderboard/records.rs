//! What runs left on disk, as far as a table needs it.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde::Deserialize;
use serde_json::Value;

use super::plan::{Matrix, RANDOM, Step};
use crate::{mistake, sha256_of, short};

/// The parts of a `record.json` that are read here.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Record {
    pub(super) kind: String,
    pub(super) seed: u64,
    pub(super) seconds: f64,
    /// What the processor took, where that was known.
    #[serde(default)]
    pub(super) joules: Option<f64>,
    pub(super) recipe: Value,
    pub(super) data: Data,
    pub(super) code: Code,
    pub(super) machine: Machine,
    pub(super) initial_weights: Value,
    pub(super) epochs: Vec<Epoch>,
    pub(super) result: Score,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Data {
    pub(super) name: String,
    pub(super) fingerprint: String,
    pub(super) pretrained_on: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Code {
    pub(super) version: String,
    /// `COMMIT`, or `COMMIT+HASH` with changes that were not committed.
    pub(super) commit: Option<String>,
}

impl Code {
    /// The commit that can be checked out, and whether there were changes to it.
    pub(super) fn committed(&self) -> Option<(&str, bool)> {
        let commit = self.commit.as_deref()?;
        Some(commit.split_once('+').map_or((commit, false), |(commit, _)| (commit, true)))
    }
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Machine {
    pub(super) processor: String,
    pub(super) threads: usize,
    /// `cpu`, or a GPU; records of old have none.
    pub(super) device: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Epoch {
    pub(super) train_loss: f64,
    pub(super) val_loss: Option<f64>,
    pub(super) val_accuracy: Option<f64>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Score {
    pub(super) accuracy: Option<f64>,
    pub(super) correct: Option<usize>,
    pub(super) total: Option<usize>,
    /// Width and height of what was scored, in pixels.
    pub(super) size: Option<u32>,
    /// Views of a picture that an answer came from.
    pub(super) views: Option<u32>,
    #[serde(default)]
    pub(super) per_class: Vec<ClassScore>,
    /// The surest first.
    #[serde(default)]
    pub(super) mistakes: Vec<Mistake>,
}

/// How often each class was answered for one.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct ClassScore {
    pub(super) class: String,
    #[serde(default)]
    pub(super) answers: BTreeMap<String, usize>,
}

/// A picture that was taken for something else.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Mistake {
    pub(super) picture: String,
    pub(super) class: String,
    pub(super) answer: String,
    pub(super) probability: f64,
}

/// A cell: the finished runs of one size, number of epochs and initialisation.
pub(super) struct Cell {
    pub(super) size: u32,
    pub(super) epochs: u32,
    pub(super) init: String,
    pub(super) runs: Vec<(PathBuf, Record)>,
}

/// A finished pretraining.
pub(super) struct Pretraining {
    pub(super) task: String,
    pub(super) size: u32,
    pub(super) folder: PathBuf,
    pub(super) record: Record,
}

/// Everything that was finished.
pub(super) struct Board {
    pub(super) cells: Vec<Cell>,
    pub(super) pretrainings: Vec<Pretraining>,
}

/// Whether a run is finished; a record of something else is refused.
pub(super) fn finished(step: &Step, matrix: &Matrix) -> Result<bool> {
    let path = step.out(matrix).join("record.json");
    if !path.exists() {
        return Ok(false);
    }
    let record = parse(&path)?;
    match difference(&record, step, matrix)? {
        None => Ok(true),
        Some(what) => Err(mistake(format!(
            "{} is of another run ({what}); delete its folder or give another --out",
            short(&path)
        ))),
    }
}

fn parse(path: &std::path::Path) -> Result<Record> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", short(path)))?;
    serde_json::from_slice(&bytes).map_err(|error| {
        let path = short(path);
        mistake(format!("{path} is no record; delete its folder to run it again: {error}"))
    })
}

/// In what a record differs from what is asked for.
fn difference(record: &Record, step: &Step, matrix: &Matrix) -> Result<Option<String>> {
    let recipe = &record.recipe;
    let mut pairs: Vec<(&str, Value, Value)> = vec![
        ("encoder", matrix.encoder.as_str().into(), recipe["encoder"].clone()),
        ("batch size", matrix.batch_size.into(), recipe["batch_size"].clone()),
        ("size", step.size().into(), recipe["size"].clone()),
        ("kind", step.command().into(), record.kind.as_str().into()),
        ("epochs", step.epochs(matrix).into(), recipe["epochs"].clone()),
        ("seed", step.seed(matrix).into(), record.seed.into()),
    ];
    let began = &record.initial_weights;
    match step {
        Step::Pretrain { task, .. } => {
            pairs.push(("task", task.as_str().into(), recipe["task"].clone()));
            let pixels = matrix.include_val_pixels;
            pairs.push(("val pixels", pixels.into(), recipe["include_val_pixels"].clone()));
        }
        Step::Finetune { init, .. } if init == RANDOM => {
            pairs.push(("initial weights", "random".into(), began["kind"].clone()));
        }
        Step::Finetune { .. } => {
            // A row may only claim weights that it really began with.
            let encoder = step.init_file(matrix);
            let sha256 =
                sha256_of(&encoder).with_context(|| format!("cannot read {}", short(&encoder)))?;
            pairs.push(("SHA-256 of the initial weights", sha256.into(), began["sha256"].clone()));
        }
    }
    let other = pairs.into_iter().find(|(_, want, got)| want != got);
    Ok(other.map(|(name, want, got)| format!("{name} {got}, not {want}")))
}

/// Reads the records of all steps.
pub(super) fn read(steps: &[Step], matrix: &Matrix) -> Result<Board> {
    let mut board = Board { cells: Vec::new(), pretrainings: Vec::new() };
    for step in steps {
        let folder = step.out(matrix);
        let record = parse(&folder.join("record.json"))?;
        match step {
            Step::Pretrain { task, size } => {
                let (task, size) = (task.clone(), *size);
                board.pretrainings.push(Pretraining { task, size, folder, record });
            }
            Step::Finetune { init, size, epochs, .. } => {
                let same = |cell: &&mut Cell| {
                    (cell.size, cell.epochs, &cell.init) == (*size, *epochs, init)
                };
                match board.cells.iter_mut().find(same) {
                    Some(cell) => cell.runs.push((folder, record)),
                    None => board.cells.push(Cell {
                        size: *size,
                        epochs: *epochs,
                        init: init.clone(),
                        runs: vec![(folder, record)],
                    }),
                }
            }
        }
    }
    Ok(board)
}

impl Cell {
    /// The seeds of its runs, and their accuracies, `0..=1`.
    pub(super) fn accuracies(&self) -> Vec<(u64, f64)> {
        let records = self.runs.iter().map(|(_, record)| record);
        records.filter_map(|record| Some((record.seed, record.result.accuracy?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_no_part_of_what_can_be_checked_out() {
        let code = |commit: Option<&str>| Code {
            version: "0.1.0".into(),
            commit: commit.map(str::to_owned),
        };
        assert_eq!(code(Some("c0ffee")).committed(), Some(("c0ffee", false)));
        assert_eq!(code(Some("c0ffee+12ab")).committed(), Some(("c0ffee", true)));
        assert_eq!(code(None).committed(), None);
    }
}
