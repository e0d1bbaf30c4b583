//! What was measured on one GPU, in however many calls: a file beside the page that is made of it.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::cell::Cell;
use super::kernels::Kernel;
use super::ready::Gpu;
use super::steps::Row;

/// Everything that was measured on a GPU; what is measured again takes the place of what was.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Results {
    pub(super) gpu: Gpu,
    pub(super) kernels: Vec<Kernel>,
    pub(super) steps: Vec<Row>,
    pub(super) epochs: Vec<Cell>,
    /// For each command that measured any of it, what it ran on.
    pub(super) commands: BTreeMap<String, String>,
}

impl Results {
    /// Nothing yet.
    pub(super) fn new(gpu: Gpu) -> Self {
        let (kernels, steps, epochs) = (vec![], vec![], vec![]);
        Self { gpu, kernels, steps, epochs, commands: BTreeMap::new() }
    }

    /// Those of earlier calls, if they are of the same GPU and driver; a page is of one.
    pub(super) fn open(path: &Path, gpu: Gpu) -> Result<Self> {
        let Ok(text) = std::fs::read_to_string(path) else { return Ok(Self::new(gpu)) };
        let before: Self = serde_json::from_str(&text).map_err(|error| {
            let path = crate::short(path);
            crate::mistake(format!("{path} is not as this command writes it; remove it: {error}"))
        })?;
        if before.gpu == gpu {
            return Ok(before);
        }
        crate::say(format!(
            "{} is of {}, driver {}: begun anew",
            crate::short(path),
            before.gpu.name,
            before.gpu.driver
        ));
        Ok(Self::new(gpu))
    }

    pub(super) fn save(&self, path: &Path) -> Result<()> {
        crate::write_whole(path, serde_json::to_string_pretty(self)?.as_bytes())
    }

    /// Adds the steps of a network on pictures of one size.
    pub(super) fn add_steps(&mut self, row: Row) {
        let key = |row: &Row| (row.name.clone(), row.side);
        put(&mut self.steps, row, key);
    }

    /// Adds the epochs of a network on pictures of one size.
    pub(super) fn add_epochs(&mut self, cell: Cell) {
        let key = |cell: &Cell| (cell.name.clone(), cell.side);
        put(&mut self.epochs, cell, key);
    }
}

/// Puts a result in the place of that with the same key, else behind all.
fn put<T, K: PartialEq>(all: &mut Vec<T>, new: T, key: impl Fn(&T) -> K) {
    match all.iter().position(|old| key(old) == key(&new)) {
        Some(place) => all[place] = new,
        None => all.push(new),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{cell, kernels, steps};
    use super::*;

    fn gpu(name: &str) -> Gpu {
        Gpu { name: name.into(), driver: "580.1".into() }
    }

    #[test]
    fn several_calls_make_one_page() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("benchmarks-gpu.json");
        let mut first = Results::open(&path, gpu("NVIDIA H200")).unwrap();
        first.add_steps(steps::tests::row("xresnet34", 0.01));
        first.commands.insert("cargo xtask bench gpu --parts steps".into(), "A machine.".into());
        first.save(&path).unwrap();

        let mut second = Results::open(&path, gpu("NVIDIA H200")).unwrap();
        assert_eq!(second, first);
        second.kernels = kernels::tests::told();
        second.add_steps(steps::tests::row("resnet18", 0.03));
        second.add_steps(steps::tests::row("xresnet34", 0.02));
        second.add_epochs(cell::tests::cell());
        second.save(&path).unwrap();

        let third = Results::open(&path, gpu("NVIDIA H200")).unwrap();
        assert_eq!(third, second);
        let seconds = third.steps.iter().map(|row| (row.name.as_str(), row.ours[0]));
        assert!(seconds.eq([("xresnet34", 0.02), ("resnet18", 0.03)]));
        assert_eq!(
            Results::open(&path, gpu("NVIDIA H100")).unwrap(),
            Results::new(gpu("NVIDIA H100"))
        );
    }

    #[test]
    fn a_file_of_something_else_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("results.json");
        std::fs::write(&path, "{}").unwrap();
        let error = Results::open(&path, gpu("a GPU")).unwrap_err();
        assert!(error.to_string().contains("remove it"), "{error}");
    }
}
