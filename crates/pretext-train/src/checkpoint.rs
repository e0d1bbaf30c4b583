//! Checkpoints: everything a run needs to go on as if it had never stopped.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Tensor};
use pretext_models::weights::{self, Source};
use pretext_models::{Parameters, Result as ModelResult};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::lease::Lease;
use crate::optimisers::Optimiser;
use crate::progress::Progress;
use crate::record::{self, Epoch, Record};

/// The file's name in a run's out folder.
pub const FILE: &str = "checkpoint.safetensors";

const MODEL: &str = "model.";
const OPTIMISER: &str = "optimiser.";
const STATE: &str = "pretext.checkpoint";

/// What a checkpoint says beside its tensors.
#[derive(Serialize, Deserialize)]
struct State {
    recipe: Value,
    fingerprint: String,
    optimiser_steps: u64,
    progress: Progress,
}

/// What a run is of; a checkpoint of anything else is refused.
pub(crate) struct Identity {
    pub(crate) recipe: Value,
    pub(crate) fingerprint: String,
}

/// How an out folder stands before a run.
pub(crate) enum Before {
    /// Nothing is there.
    Fresh,
    /// A checkpoint is there and shall be resumed.
    Checkpoint(PathBuf),
    /// The run is finished.
    Finished(Box<Record>),
}

/// The record in an out folder, if there is a finished run that may stay as it is.
///
/// # Errors
/// If a finished run is there and `resume` is not set, so that no run overwrites another.
pub(crate) fn finished(out: &Path, resume: bool) -> Result<Option<Box<Record>>> {
    if out.exists() && !out.is_dir() {
        return refuse(out, "is a file; --out takes a folder".into());
    }
    match Record::read(out)? {
        Some(_) if !resume => refuse(
            out,
            format!(
                "already holds a finished run ({}); choose another --out or delete it",
                record::FILE
            ),
        ),
        record => Ok(record.map(Box::new)),
    }
}

/// Looks into an out folder, so that no run overwrites another.
///
/// # Errors
/// If a run is there that is not to be resumed.
pub(crate) fn look(out: &Path, resume: bool) -> Result<Before> {
    if let Some(record) = finished(out, resume)? {
        return Ok(Before::Finished(record));
    }
    let checkpoint = out.join(FILE);
    match (checkpoint.exists(), resume) {
        (true, true) => Ok(Before::Checkpoint(checkpoint)),
        (true, false) => refuse(
            out,
            "holds an unfinished run; go on with --resume, choose another --out or delete it"
                .into(),
        ),
        (false, _) => Ok(Before::Fresh),
    }
}

fn refuse<T>(out: &Path, problem: String) -> Result<T> {
    Err(Error::Out { path: out.to_owned(), problem })
}

/// Writes a checkpoint in one step.
///
/// # Errors
/// If the folder cannot be written to, or is another process's by now.
pub(crate) fn save(
    lease: &Lease,
    identity: &Identity,
    parameters: &Parameters,
    optimiser: &Optimiser,
    progress: &Progress,
) -> Result<PathBuf> {
    let mut tensors = prefixed(MODEL, parameters.tensors());
    tensors.extend(prefixed(OPTIMISER, optimiser.state()?));
    let state = State {
        recipe: identity.recipe.clone(),
        fingerprint: identity.fingerprint.clone(),
        optimiser_steps: optimiser.steps(),
        progress: progress.clone(),
    };
    let path = lease.folder().join(FILE);
    let state = serde_json::to_string(&state).map_err(|error| Error::File {
        path: path.clone(),
        problem: format!("cannot be written: {error}"),
    })?;
    lease.check()?;
    weights::save(&path, &tensors, &BTreeMap::from([(STATE.to_owned(), state)]))?;
    Ok(path)
}

/// How far a run had come when it wrote a checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    /// The recipe as one line.
    pub recipe: String,
    /// The fingerprint of the run's data.
    pub fingerprint: String,
    /// Finished epochs.
    pub epochs: Vec<Epoch>,
    /// Steps done in the epoch after them.
    pub step: usize,
}

/// What a checkpoint says of itself.
///
/// # Errors
/// If the file cannot be read or is no checkpoint.
pub fn inspect(path: &Path) -> Result<Standing> {
    let (_, State { recipe, fingerprint, progress, .. }) = open(path)?;
    let recipe = recipe["line"].as_str().unwrap_or_default().to_owned();
    Ok(Standing { recipe, fingerprint, epochs: progress.epochs, step: progress.step })
}

/// A checkpoint's file, of which no tensor has been read, and what it says beside them.
fn open(path: &Path) -> Result<(weights::Reader, State)> {
    let refuse = |problem: String| Error::File { path: path.to_owned(), problem };
    let file = weights::open(path)?;
    let state = file
        .metadata()
        .get(STATE)
        .ok_or_else(|| refuse("is not a checkpoint; delete it to start this run afresh".into()))?;
    let state = serde_json::from_str(state)
        .map_err(|error| refuse(format!("is not a checkpoint of this version ({error})")))?;
    Ok((file, state))
}

/// Puts network and optimiser where the checkpoint left them.
///
/// # Errors
/// If the checkpoint is damaged, or of another recipe or other data.
pub(crate) fn load(
    path: &Path,
    identity: &Identity,
    parameters: &Parameters,
    optimiser: &mut Optimiser,
) -> Result<Progress> {
    let refuse = |problem: String| Error::File { path: path.to_owned(), problem };
    let (file, state) = open(path)?;
    if let Some(field) = difference(&state.recipe, &identity.recipe) {
        return Err(refuse(format!(
            "belongs to another recipe ({field}); give the same flags, or another --out"
        )));
    }
    if state.fingerprint != identity.fingerprint {
        return Err(refuse(
            "was made with other data; give the same --data, or another --out".into(),
        ));
    }
    let model = Under { file: &file, prefix: MODEL };
    parameters.load(&model).map_err(|error| error.about(path))?;
    let remembered = Under { file: &file, prefix: OPTIMISER };
    let mut tensors = BTreeMap::new();
    for name in remembered.names() {
        let shape = remembered.about(name).map_or(&[][..], |(_, shape)| shape);
        let remembers = optimiser.remembers(name, shape);
        if remembers.map_err(|error| refuse(format!("does not fit its run ({error})")))? {
            tensors.extend(remembered.tensor(name)?.map(|tensor| (name.to_owned(), tensor)));
        }
    }
    optimiser.restore(state.optimiser_steps, &tensors)?;
    Ok(state.progress)
}

/// The first field in which two recipes differ, and how.
fn difference(then: &Value, now: &Value) -> Option<String> {
    let (Value::Object(a), Value::Object(b)) = (then, now) else {
        return (then != now).then(|| format!("{then} then, {now} now"));
    };
    let field = a.keys().chain(b.keys()).find(|&key| key != "line" && a.get(key) != b.get(key))?;
    let show = |value: Option<&Value>| value.map_or("nothing".into(), Value::to_string);
    Some(format!("{field}: {} then, {} now", show(a.get(field)), show(b.get(field))))
}

fn prefixed(prefix: &str, tensors: BTreeMap<String, Tensor>) -> BTreeMap<String, Tensor> {
    tensors.into_iter().map(|(name, tensor)| (format!("{prefix}{name}"), tensor)).collect()
}

/// The tensors of a file whose names begin so, by what follows.
struct Under<'a> {
    file: &'a weights::Reader,
    prefix: &'static str,
}

impl Source for Under<'_> {
    fn names(&self) -> impl Iterator<Item = &str> {
        self.file.names().filter_map(|name| name.strip_prefix(self.prefix))
    }

    fn about(&self, name: &str) -> Option<(DType, &[usize])> {
        self.file.about(&format!("{}{name}", self.prefix))
    }

    fn tensor(&self, name: &str) -> ModelResult<Option<Tensor>> {
        self.file.tensor(&format!("{}{name}", self.prefix))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_difference_is_named() {
        let (then, now) = (json!({"size": 32, "line": "a"}), json!({"size": 64, "line": "b"}));
        assert_eq!(difference(&then, &now).as_deref(), Some("size: 32 then, 64 now"));
        assert_eq!(difference(&then, &then), None);
    }
}
