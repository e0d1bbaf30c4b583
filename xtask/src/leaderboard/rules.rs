//! The rules of Image网's leaderboard, checked in the records of a row's runs.
//!
//! From the README of fastai's imagenette repository: no tricks at inference time (no test-time
//! augmentation, no validation size above the training size), and random weights at the start, on
//! Image网 perhaps pretrained on its own pictures without labels.

use serde::Deserialize;

use super::plan::RANDOM;
use super::records::{Board, Cell, Pretraining, Record};

/// The task of an encoder that labels have trained.
const SUPERVISED: &str = "classify";

/// What weights were before the first step, as records tell it.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum InitialWeights {
    Random { seed: u64, sha256: String },
    File { sha256: String, pretrained: Option<Pretrained> },
}

/// How a file of weights came to be.
#[derive(Debug, PartialEq, Deserialize)]
struct Pretrained {
    task: String,
    seed: u64,
    epochs: u32,
    fingerprint: String,
    pretrained_on: Vec<String>,
    initial_weights: Box<InitialWeights>,
}

/// The rules that a row breaks, or does not prove to keep, a sentence each.
pub(super) fn broken(cell: &Cell, board: &Board) -> Vec<String> {
    let mut broken: Vec<String> = Vec::new();
    for (_, record) in &cell.runs {
        let found = [weights(record, cell, board), size(record), views(record), counts(record)];
        for rule in found.into_iter().filter_map(Result::err) {
            if !broken.contains(&rule) {
                broken.push(rule);
            }
        }
    }
    broken
}

/// Random weights at the start, proven from link to link.
fn weights(record: &Record, cell: &Cell, board: &Board) -> Result<(), String> {
    let began = read(record)?;
    match began {
        InitialWeights::Random { seed, ref sha256 } => {
            is_random(seed, record.seed, sha256)?;
            same_as_others(record, sha256, board)?;
            named(record, "random")
        }
        InitialWeights::File { sha256, pretrained } => {
            let Some(pretrained) = pretrained else {
                return Err("the file of initial weights does not say how it came to be".into());
            };
            if cell.init == RANDOM || pretrained.task != cell.init {
                return Err(format!(
                    "the initial weights are of the task {}, not of {}",
                    pretrained.task, cell.init
                ));
            }
            if pretrained.fingerprint != record.data.fingerprint {
                return Err("the initial weights were pretrained on other pictures".into());
            }
            let same = |run: &&Pretraining| (run.size, &run.task) == (cell.size, &cell.init);
            let Some(run) = board.pretrainings.iter().find(same) else {
                return Err("no record of the pretraining proves the initial weights".into());
            };
            agrees(&pretrained, &run.record)?;
            chain(&pretrained)?;
            same_file(&sha256, run)?;
            named(record, &format!("sha256:{sha256}"))
        }
    }
}

fn read(record: &Record) -> Result<InitialWeights, String> {
    serde_json::from_value(record.initial_weights.clone())
        .map_err(|_| "the record does not tell what the initial weights were".into())
}

/// Whether the recipe names the initial weights that the record tells.
fn named(record: &Record, init: &str) -> Result<(), String> {
    if record.recipe["init"] == init {
        Ok(())
    } else {
        Err("the recipe names other initial weights than the record".into())
    }
}

/// Follows the links back to where the weights were drawn.
fn chain(pretrained: &Pretrained) -> Result<(), String> {
    if pretrained.task == SUPERVISED {
        return Err("the initial weights were trained with labels".into());
    }
    match &*pretrained.initial_weights {
        InitialWeights::Random { seed, sha256 } => is_random(*seed, pretrained.seed, sha256),
        InitialWeights::File { pretrained: Some(earlier), .. } => chain(earlier),
        InitialWeights::File { pretrained: None, .. } => {
            Err("pretraining began from a file that does not say how it came to be".into())
        }
    }
}

fn is_random(seed: u64, of_the_run: u64, sha256: &str) -> Result<(), String> {
    let fingerprint = sha256.len() == 64 && sha256.bytes().all(|byte| byte.is_ascii_hexdigit());
    if fingerprint && seed == of_the_run {
        Ok(())
    } else {
        Err("nothing proves that the random weights were drawn from the run's seed".into())
    }
}

/// One seed draws the same weights for every run of one encoder: another fingerprint is no draw.
fn same_as_others(record: &Record, sha256: &str, board: &Board) -> Result<(), String> {
    let encoder = |record: &Record| {
        (record.recipe["encoder"].clone(), record.recipe["encoder_options"].clone())
    };
    let others = board.cells.iter().flat_map(|cell| &cell.runs).map(|(_, other)| other);
    for other in others.filter(|other| {
        (other.seed, &other.code) == (record.seed, &record.code)
            && encoder(other) == encoder(record)
    }) {
        if let Ok(InitialWeights::Random { sha256: theirs, .. }) = read(other)
            && theirs != sha256
        {
            return Err("runs of one seed began from different random weights".into());
        }
    }
    Ok(())
}

/// Whether a file's own story is that of the pretraining in this matrix.
fn agrees(pretrained: &Pretrained, run: &Record) -> Result<(), String> {
    let same = (pretrained.seed, &pretrained.pretrained_on) == (run.seed, &run.data.pretrained_on)
        && run.recipe["epochs"] == pretrained.epochs
        && read(run).is_ok_and(|began| began == *pretrained.initial_weights);
    if same {
        Ok(())
    } else {
        Err("the initial weights tell another pretraining than its record".into())
    }
}

/// Whether a run began with the very file that the pretraining wrote, and that was not changed since.
fn same_file(sha256: &str, run: &Pretraining) -> Result<(), String> {
    let Some(wrote) = &run.record.encoder_sha256 else {
        return Err(
            "the record of the pretraining is of an earlier version, which does not tell the \
                    SHA-256 of its encoder: nothing proves that the initial weights are its own"
                .into(),
        );
    };
    if sha256 != wrote {
        return Err(
            "the initial weights are not the encoder that the pretraining wrote: its record \
                    has another SHA-256"
                .into(),
        );
    }
    if run.encoder.as_ref().is_some_and(|there| there != wrote) {
        return Err(
            "the encoder of the pretraining was changed after its record was written".into()
        );
    }
    Ok(())
}

/// Validation at no more than the training size.
fn size(record: &Record) -> Result<(), String> {
    let trained = record.recipe["size"].as_u64();
    match (record.result.size, trained) {
        (Some(scored), Some(trained)) if u64::from(scored) <= trained => Ok(()),
        (Some(scored), _) => Err(format!("scored at {scored} px, above the training size")),
        (None, _) => Err("the record does not tell the size that was scored at".into()),
    }
}

/// No test-time augmentation.
fn views(record: &Record) -> Result<(), String> {
    match record.result.views {
        Some(1) => Ok(()),
        Some(views) => Err(format!("test-time augmentation: {views} views of each picture")),
        None => Err("the record does not tell how many views of a picture were scored".into()),
    }
}

/// An accuracy that follows from its counts.
fn counts(record: &Record) -> Result<(), String> {
    let result = &record.result;
    match (result.accuracy, result.correct, result.total) {
        (Some(accuracy), Some(correct), Some(total))
            if total > 0 && (accuracy - correct as f64 / total as f64).abs() < 1e-9 =>
        {
            Ok(())
        }
        _ => Err("the accuracy is not the number of right answers over that of pictures".into()),
    }
}
