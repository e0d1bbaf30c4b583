//! Where a run stands: what a checkpoint keeps and an epoch's entry is made of.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::control::Event;
use crate::error::{Error, Result};
use crate::record::{Epoch, InitialWeights};
use crate::run::Timer;
use crate::scaling::LossScale;

/// Where a run stands between two steps.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Progress {
    pub(crate) started: String,
    pub(crate) initial_weights: InitialWeights,
    /// Finished epochs.
    pub(crate) epochs: Vec<Epoch>,
    /// Steps done in the epoch under way.
    pub(crate) step: usize,
    /// Seconds of finished sittings.
    pub(crate) seconds: f64,
    /// Joules of finished sittings, if all of them could tell.
    #[serde(default)]
    pub(crate) joules: Option<f64>,
    /// What losses are scaled by, in a precision that needs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) loss_scale: Option<LossScale>,
    tally: Tally,
}

/// Sums over the epoch under way.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Tally {
    loss: f64,
    /// Steps that had a loss: a batch whose pictures are all damaged has none.
    losses: usize,
    images: usize,
    damaged: usize,
    train_seconds: f64,
    wait_seconds: f64,
    learning_rate: f64,
}

impl Progress {
    pub(crate) fn new(started: String, initial_weights: InitialWeights) -> Self {
        let (epochs, tally) = (Vec::new(), Tally::default());
        Self {
            started,
            initial_weights,
            epochs,
            step: 0,
            seconds: 0.0,
            joules: Some(0.0),
            loss_scale: None,
            tally,
        }
    }

    /// The epoch under way, from 0.
    pub(crate) fn epoch(&self) -> u32 {
        self.epochs.len() as u32
    }

    /// The share of all steps that is done, `0..=1`, with `more` that are not noted yet.
    pub(crate) fn share(&self, more: usize, epochs: u32, steps: usize) -> f64 {
        let done = self.epochs.len() * steps + self.step + more;
        done as f64 / (f64::from(epochs) * steps as f64)
    }

    /// This progress with the sitting's time and energy added, for a checkpoint or the record.
    pub(crate) fn paused(&self, timer: &Timer) -> Self {
        let joules = self.joules.zip(timer.joules()).map(|(before, now)| before + now);
        Self { seconds: self.seconds + timer.seconds(), joules, ..self.clone() }
    }

    /// Notes a step; `loss` is `None` where too few sound pictures were left to take it.
    ///
    /// # Errors
    /// [`Error::Diverged`] if the loss is not a number.
    pub(crate) fn note(
        &mut self,
        loss: Option<f32>,
        images: usize,
        damaged: usize,
        learning_rate: f64,
        (waited, took): (Duration, Duration),
    ) -> Result<()> {
        self.step += 1;
        let tally = &mut self.tally;
        tally.damaged += damaged;
        tally.wait_seconds += waited.as_secs_f64();
        tally.train_seconds += (waited + took).as_secs_f64();
        tally.learning_rate = learning_rate;
        match loss {
            Some(loss) if !loss.is_finite() => {
                Err(Error::Diverged { loss, epoch: self.epoch() + 1, step: self.step })
            }
            Some(loss) => {
                let tally = &mut self.tally;
                tally.loss += f64::from(loss);
                tally.losses += 1;
                tally.images += images;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// How the epoch under way goes.
    pub(crate) fn event(&self) -> Event<'static> {
        Event::Step {
            epoch: self.epoch() + 1,
            step: self.step,
            loss: self.tally.mean_loss(),
            images_per_second: self.tally.images_per_second(),
            data_wait: self.tally.data_wait(),
        }
    }

    /// Closes the epoch under way.
    pub(crate) fn end_epoch(
        &mut self,
        val_loss: Option<f64>,
        val_accuracy: Option<f64>,
        validation: Duration,
    ) -> &Epoch {
        let tally = std::mem::take(&mut self.tally);
        let epoch = Epoch {
            epoch: self.epoch() + 1,
            train_loss: tally.mean_loss(),
            val_loss,
            val_accuracy,
            learning_rate: tally.learning_rate,
            seconds: tally.train_seconds + validation.as_secs_f64(),
            images: tally.images,
            images_per_second: tally.images_per_second(),
            data_wait: tally.data_wait(),
            damaged: tally.damaged,
        };
        self.step = 0;
        self.epochs.push(epoch);
        &self.epochs[self.epochs.len() - 1]
    }
}

impl Tally {
    fn mean_loss(&self) -> f64 {
        self.loss / self.losses.max(1) as f64
    }

    fn images_per_second(&self) -> f64 {
        self.images as f64 / self.train_seconds.max(1e-9)
    }

    fn data_wait(&self) -> f64 {
        self.wait_seconds / self.train_seconds.max(1e-9)
    }
}
