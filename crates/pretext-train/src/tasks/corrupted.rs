//! Corrupted-image classification: tell how a patch of the picture was corrupted.

use pretext_augment::Corruption;

use super::{Goal, Options, Poser, PretextTask, Puzzle};
use crate::error::Result;

pub(super) struct Task;

impl PretextTask for Task {
    fn name(&self) -> &'static str {
        "corrupted"
    }

    fn about(&self) -> &'static str {
        "tell how a patch was corrupted: shuffled, blurred, noised or swapped"
    }

    fn goal(&self, _: &Options) -> Goal {
        Goal::Classify(Corruption::CLASSES.len())
    }

    fn poser(&self, _: &Options) -> Result<Poser> {
        let corruption = Corruption::default();
        Ok(Box::new(move |size, rng| {
            let (plan, class) = corruption.sample_labelled(size, rng);
            Puzzle { plan, class }
        }))
    }
}
