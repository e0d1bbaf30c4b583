//! How a run under way stands, for whoever watches from outside: `progress.json`.

use std::path::Path;
use std::time::Instant;

use serde::Serialize;

use crate::control::Event;
use crate::error::Result;
use crate::files;

/// The file's name in a run's out folder.
pub const FILE: &str = "progress.json";

/// What the file says; rewritten with each heartbeat of the lease.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Status {
    /// From 1; 0 before the first step.
    epoch: u32,
    epochs: u32,
    /// Steps done in the epoch.
    step: usize,
    steps: usize,
    /// The mean loss of the epoch so far.
    loss: Option<f64>,
    /// On the held-out pictures, after the last epoch, `0..=1`.
    val_accuracy: Option<f64>,
    images_per_second: Option<f64>,
    /// The share of all steps that is done, `0..=1`.
    share: f64,
    /// How long this sitting has taken, in seconds.
    seconds: f64,
    /// How long the rest will take at this sitting's pace, in seconds.
    remaining: Option<f64>,
    /// When the sitting began, and the share that was done then.
    #[serde(skip)]
    began: Option<(Instant, f64)>,
}

impl Status {
    pub(crate) fn note(&mut self, event: &Event<'_>) {
        match event {
            Event::Begin { epochs, steps, .. } => {
                (self.epochs, self.steps) = (*epochs, *steps);
                self.began = Some((Instant::now(), 0.0));
            }
            Event::Resume { epoch, step } => {
                (self.epoch, self.step) = (*epoch, *step);
                self.began = Some((Instant::now(), self.done()));
            }
            Event::Step { epoch, step, loss, images_per_second, .. } => {
                (self.epoch, self.step) = (*epoch, *step);
                self.loss = Some(*loss);
                self.images_per_second = Some(*images_per_second);
            }
            Event::Epoch(epoch) => self.val_accuracy = epoch.val_accuracy,
            _ => {}
        }
    }

    fn done(&self) -> f64 {
        let steps = self.epoch.saturating_sub(1) as usize * self.steps + self.step;
        steps as f64 / (self.epochs as usize * self.steps).max(1) as f64
    }

    /// Writes the file, whole but without waiting for the disk.
    pub(crate) fn write(mut self, folder: &Path) -> Result<()> {
        let Some((began, before)) = self.began else { return Ok(()) };
        self.share = self.done();
        self.seconds = began.elapsed().as_secs_f64();
        let gained = self.share - before;
        self.remaining = (gained > 0.0).then(|| self.seconds * (1.0 - self.share) / gained);
        files::replace_json(&folder.join(FILE), &self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resumed_run_counts_its_own_pace() {
        let mut status = Status::default();
        let folder = tempfile::tempdir().unwrap();
        status.clone().write(folder.path()).unwrap();
        assert!(!folder.path().join(FILE).exists(), "nothing began");

        let (recipe, pictures, parameters) = ("", 1, 1);
        status.note(&Event::Begin { recipe, epochs: 4, steps: 10, pictures, parameters });
        status.note(&Event::Resume { epoch: 3, step: 0 });
        let (loss, images_per_second, data_wait) = (0.5, 9.0, 0.0);
        status.note(&Event::Step { epoch: 3, step: 10, loss, images_per_second, data_wait });
        status.write(folder.path()).unwrap();
        let text = std::fs::read(folder.path().join(FILE)).unwrap();
        let value: serde_json::Value = serde_json::from_slice(&text).unwrap();
        // A quarter was done in this sitting, a quarter is left.
        assert_eq!(value["share"], 0.75);
        assert_eq!(value["remaining"], value["seconds"]);
    }
}
