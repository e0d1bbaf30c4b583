//! Colourisation: restore the colours of the whole picture (Zhang et al., "Colorful Image
//! Colorization", 2016; here by regression).

use pretext_augment::{Colourise, Transform as _};

use super::{Goal, Options, Poser, PretextTask, Puzzle};
use crate::error::Result;

pub(super) struct Task;

impl PretextTask for Task {
    fn name(&self) -> &'static str {
        "colourise"
    }

    fn about(&self) -> &'static str {
        "restore the colours of the whole picture"
    }

    fn goal(&self, _: &Options) -> Goal {
        Goal::Restore
    }

    fn poser(&self, _: &Options) -> Result<Poser> {
        Ok(Box::new(|size, rng| Puzzle::restore(Colourise.sample(size, rng))))
    }
}
