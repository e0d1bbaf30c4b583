//! Grey-only: restore the colours of several regions.

use pretext_augment::{RandomGreyBlur, Transform as _};

use super::{Goal, Options, Poser, PretextTask, Puzzle};
use crate::error::Result;

pub(super) struct Task;

impl PretextTask for Task {
    fn name(&self) -> &'static str {
        "grey"
    }

    fn about(&self) -> &'static str {
        "restore regions that were turned grey"
    }

    fn goal(&self, _: &Options) -> Goal {
        Goal::Restore
    }

    fn poser(&self, options: &Options) -> Result<Poser> {
        let transform = RandomGreyBlur { count: options.count(), side: options.side(), blur: None };
        Ok(Box::new(move |size, rng| Puzzle::restore(transform.sample(size, rng))))
    }
}
