//! The cells of a leaderboard's folder, frozen: `cells.json` says which run an index stands for, and
//! is only ever appended to.
//!
//! A run's directory is named after the SHA-256 of its `recipe.toml`, which holds all that decides
//! its result: recipe, data and code.

use std::fs::File;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::binary::Pretext;
use super::gpus::Device;
use super::plan::{Matrix, RANDOM, Step};
use crate::{hex, mistake, short, write_whole};

/// The file's name in a leaderboard's folder.
pub(super) const FILE: &str = "cells.json";
/// Which cells the last start asked for.
const WANTED: &str = "wanted.json";
const FORMAT: u32 = 1;
/// What a pretraining leaves for fine-tuning, in its directory.
pub(super) const ENCODER: &str = "encoder.safetensors";

/// One run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Frozen {
    pub(super) index: usize,
    /// Its directory.
    pub(super) name: String,
    /// The cell whose encoder it begins with.
    pub(super) after: Option<usize>,
    /// What the binary is told, besides folders, threads and device.
    pub(super) arguments: Vec<String>,
    pub(super) code: Value,
    pub(super) fingerprint: String,
}

#[derive(Default, Serialize, Deserialize)]
struct Document {
    format: u32,
    cells: Vec<Frozen>,
}

/// The frozen cells of a folder; none if there is no such file yet.
pub(super) fn read(out: &Path) -> Result<Vec<Frozen>> {
    let path = out.join(FILE);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", short(&path))),
    };
    let document: Document = serde_json::from_slice(&bytes).map_err(|error| {
        mistake(format!(
            "{} is damaged; delete it, the runs beside it stay and are found again: {error}",
            short(&path)
        ))
    })?;
    let in_order = (0..).zip(&document.cells).all(|(i, cell): (usize, _)| {
        cell.index == i && cell.after.is_none_or(|after| after < i) && plain(&cell.name)
    });
    if document.format != FORMAT || !in_order {
        return Err(mistake(format!(
            "{} contradicts itself or is of another version; delete it, the runs beside it stay and \
             are found again",
            short(&path)
        )));
    }
    Ok(document.cells)
}

/// A name that leads nowhere else.
fn plain(name: &str) -> bool {
    !name.is_empty() && !name.contains(['/', '\\']) && !name.starts_with('.')
}

/// Freezes the steps of a matrix: finds their indices, appends those that are new, and writes each
/// run's recipe into its directory. Gives the matrix its directories and the steps' indices.
pub(super) fn freeze(matrix: &mut Matrix, pretext: &mut Pretext) -> Result<Vec<usize>> {
    let steps = matrix.steps();
    let mut asked: Vec<(Step, Frozen, String)> = Vec::new();
    let mut previews: Vec<(Vec<String>, Value)> = Vec::new();
    for step in &steps {
        // Seeds apart, runs of a cell differ in nothing: one look at the data for all of them.
        let arguments = step.recipe_arguments(matrix);
        let seedless: Vec<_> = step.seedless_arguments(matrix);
        let known = previews.iter().find(|(of, _)| *of == seedless).map(|(_, value)| value.clone());
        let mut preview = match known {
            Some(value) => value,
            None => {
                let value = pretext.preview(&arguments).with_context(|| matrix.blame(step))?;
                previews.push((seedless, value.clone()));
                value
            }
        };
        preview["recipe"]["seed"] = step.seed(matrix).into();
        let before = match step {
            Step::Finetune { init, size, .. } if init != RANDOM => asked
                .iter()
                .find(|(other, ..)| {
                    matches!(other, Step::Pretrain { task, size: s } if (task, s) == (init, size))
                })
                .map(|(_, cell, _)| cell.name.clone()),
            _ => None,
        };
        let recipe = canonical(&preview, before.as_deref())?;
        let hash = hex(&Sha256::digest(&recipe)[..4]);
        let cell = Frozen {
            index: 0,
            name: format!("{}-{hash}", step.name(matrix)),
            after: None,
            arguments,
            code: preview["code"].clone(),
            fingerprint: preview["fingerprint"].as_str().unwrap_or_default().into(),
        };
        matrix.directories.push((step.clone(), cell.name.clone()));
        matrix.previews.push(preview);
        asked.push((step.clone(), cell, recipe));
    }
    std::fs::create_dir_all(&matrix.out).map_err(|error| {
        mistake(format!("cannot create {}; give another --out: {error}", short(&matrix.out)))
    })?;
    let lock = lock(&matrix.out)?;
    let mut cells = read(&matrix.out)?;
    let mut wanted = Vec::new();
    let frozen = cells.len();
    for (step, mut cell, recipe) in asked {
        let found = cells.iter().position(|other| other.name == cell.name);
        let index = match found {
            Some(index) => index,
            None => {
                let encoder = step.init_name(matrix);
                cell.index = cells.len();
                cell.after = cells.iter().position(|other| encoder.as_ref() == Some(&other.name));
                cells.push(cell);
                cells.len() - 1
            }
        };
        let folder = matrix.out.join(&cells[index].name);
        // One that was changed would not have the hash that the directory is named after.
        if std::fs::read(folder.join("recipe.toml")).ok().as_deref() != Some(recipe.as_bytes()) {
            write_whole(&folder.join("recipe.toml"), recipe.as_bytes())?;
        }
        wanted.push(index);
    }
    if cells.len() > frozen {
        let document = Document { format: FORMAT, cells };
        write_whole(&matrix.out.join(FILE), &serde_json::to_vec_pretty(&document)?)?;
    }
    write_whole(&matrix.out.join(WANTED), &serde_json::to_vec(&wanted)?)?;
    drop(lock);
    Ok(wanted)
}

/// All that decides a run's result as TOML, keys in order.
fn canonical(preview: &Value, before: Option<&str>) -> Result<String> {
    let mut value = json!({
        "kind": preview["kind"],
        "code": preview["code"],
        "fingerprint": preview["fingerprint"],
        "recipe": preview["recipe"],
    });
    if preview["kind"] == "finetune" {
        value["init"] = before.unwrap_or(RANDOM).into();
    }
    without_nulls(&mut value);
    toml::to_string(&value).context("--seed: TOML has no number that large; give a smaller one")
}

/// TOML has no word for nothing: what is nothing is left out.
pub(super) fn without_nulls(value: &mut Value) {
    if let Value::Object(fields) = value {
        fields.retain(|_, value| !value.is_null());
        fields.values_mut().for_each(without_nulls);
    }
}

/// Held while `cells.json` grows. Where the file system has no locks, processes are to be started one
/// after the other; a cell is done once all the same, for its directory has a lease.
fn lock(out: &Path) -> Result<File> {
    let path = out.join("cells.lock");
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(|error| {
        mistake(format!("cannot write into {}; give another --out: {error}", short(out)))
    })?;
    let _ = file.lock();
    Ok(file)
}

/// The cells that the last start asked for.
pub(super) fn wanted(out: &Path, cells: &[Frozen]) -> Result<Vec<usize>> {
    let path = out.join(WANTED);
    let known = |wanted: &Vec<usize>| wanted.iter().all(|&index| index < cells.len());
    std::fs::read(&path)
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .filter(known)
        .ok_or_else(|| {
            mistake(format!("{} holds no leaderboard; start one with this --out first", short(out)))
        })
}

impl Frozen {
    /// Whether its record is there, which a run writes last.
    pub(super) fn is_done(&self, out: &Path) -> bool {
        out.join(&self.name).join("record.json").exists()
    }

    /// Everything the binary is told.
    pub(super) fn command(
        &self,
        out: &Path,
        cells: &[Self],
        threads: Option<usize>,
        device: Device,
    ) -> Vec<String> {
        let mut arguments = self.arguments.clone();
        let mut flag = |name: &str, value: String| arguments.extend([format!("--{name}"), value]);
        if let Some(after) = self.after {
            let encoder = out.join(&cells[after].name).join(ENCODER);
            flag("init", encoder.display().to_string());
        }
        flag("out", out.join(&self.name).display().to_string());
        if let Some(threads) = threads {
            flag("threads", threads.to_string());
        }
        arguments.extend(device.flag().into_iter().flatten());
        arguments.push("--resume".into());
        arguments
    }
}
