//! What runs left on disk, as far as a table needs it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::Deserialize;
use serde_json::{Value, json};

use super::cells::{ENCODER, without_nulls};
use super::plan::{Matrix, RANDOM, Step};
use crate::{mistake, say_error, sha256_of, short};

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
    /// Of a pretraining: the SHA-256 of the encoder that it wrote; records of old have none.
    #[serde(default)]
    pub(super) encoder_sha256: Option<String>,
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
    /// All that the record says of it.
    #[serde(skip)]
    pub(super) whole: Value,
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
    /// The SHA-256 of the encoder that is there now, if one is.
    pub(super) encoder: Option<String>,
}

/// Everything that was finished.
pub(super) struct Board {
    pub(super) cells: Vec<Cell>,
    pub(super) pretrainings: Vec<Pretraining>,
}

/// Refuses the record of something else, and an encoder that is no longer what its pretraining wrote.
pub(super) fn check(step: &Step, matrix: &Matrix) -> Result<()> {
    let path = step.out(matrix).join("record.json");
    if !path.exists() {
        return Ok(());
    }
    let record = parse(&path)?;
    let changed = match difference(&record, step, matrix)? {
        None => encoder(&record, &step.out(matrix)),
        changed => changed,
    };
    match changed {
        None => Ok(()),
        Some(what) => Err(mistake(format!(
            "{} is of another run ({what}); delete its folder or give another --out",
            short(&path)
        ))),
    }
}

/// Whether a run counts in a table of what there is: what is of another run is named, and does not. Whose
/// encoder was changed still counts, for the rules look at that.
pub(super) fn counts(step: &Step, matrix: &Matrix) -> Result<bool> {
    let path = step.out(matrix).join("record.json");
    if !path.exists() {
        return Ok(false);
    }
    let Some(what) = difference(&parse(&path)?, step, matrix)? else { return Ok(true) };
    say_error(&format!(
        "{} is of another run ({what}) and does not count; delete its folder to run it again",
        short(&path)
    ));
    Ok(false)
}

fn parse(path: &std::path::Path) -> Result<Record> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", short(path)))?;
    let damaged = |error: serde_json::Error| {
        let path = short(path);
        mistake(format!("{path} is no record; delete its folder to run it again: {error}"))
    };
    let whole: Value = serde_json::from_slice(&bytes).map_err(damaged)?;
    let code = whole["code"].clone();
    let mut record: Record = serde_json::from_value(whole).map_err(damaged)?;
    record.code.whole = code;
    Ok(record)
}

/// In what a record differs from what is asked for: recipe, data and code, all that its directory's
/// name is a hash of.
fn difference(record: &Record, step: &Step, matrix: &Matrix) -> Result<Option<String>> {
    let preview = step.preview(matrix).context("the cells are not frozen yet")?;
    let mut want = json!({
        "kind": preview["kind"],
        "seed": step.seed(matrix),
        "code": preview["code"],
        "fingerprint": preview["fingerprint"],
        "recipe": preview["recipe"],
    });
    let mut got = json!({
        "kind": record.kind,
        "seed": record.seed,
        "code": record.code.whole,
        "fingerprint": record.data.fingerprint,
        "recipe": record.recipe,
    });
    if let Step::Finetune { init, .. } = step {
        want["initial weights"] = if init == RANDOM { "random" } else { "file" }.into();
        got["initial weights"] = record.initial_weights["kind"].clone();
    }
    if let Some(recipe) = got["recipe"].as_object_mut() {
        // The recipe in words, and the initial weights, which the rules look at.
        recipe.remove("line");
        recipe.remove("init");
    }
    without_nulls(&mut want);
    without_nulls(&mut got);
    Ok(first_difference("", &want, &got))
}

/// The first place where two values differ, and how: `recipe learning_rate 0.1, not 0.004`.
fn first_difference(at: &str, want: &Value, got: &Value) -> Option<String> {
    let (Value::Object(wanted), Value::Object(found)) = (want, got) else {
        return (want != got).then(|| format!("{} {got}, not {want}", at.trim_start()));
    };
    let keys: BTreeSet<&String> = wanted.keys().chain(found.keys()).collect();
    keys.into_iter().find_map(|key| first_difference(&format!("{at} {key}"), &want[key], &got[key]))
}

/// Refuses an encoder that is no longer what the pretraining of this folder wrote.
pub(super) fn check_encoder(folder: &Path) -> Result<()> {
    match encoder(&parse(&folder.join("record.json"))?, folder) {
        None => Ok(()),
        Some(what) => Err(mistake(format!(
            "{} cannot be begun with ({what}); put its encoder back or delete the folder",
            short(folder)
        ))),
    }
}

/// In what the encoder beside a pretraining's record differs from the one that it wrote.
fn encoder(record: &Record, folder: &Path) -> Option<String> {
    let wrote = record.encoder_sha256.as_ref()?;
    match sha256_of(&folder.join(ENCODER)) {
        Ok(there) if there == *wrote => None,
        Ok(there) => Some(format!("the SHA-256 of its encoder is {there}, not {wrote}")),
        Err(error) => Some(format!("its encoder cannot be read: {error}")),
    }
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
                let encoder = sha256_of(&step.init_file(matrix)).ok();
                board.pretrainings.push(Pretraining { task, size, folder, record, encoder });
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
            whole: Value::Null,
        };
        assert_eq!(code(Some("c0ffee")).committed(), Some(("c0ffee", false)));
        assert_eq!(code(Some("c0ffee+12ab")).committed(), Some(("c0ffee", true)));
        assert_eq!(code(None).committed(), None);
    }
}
