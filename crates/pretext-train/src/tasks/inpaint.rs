//! In-painting: restore pictures in which several regions were blacked out (Pathak et al.,
//! "Context Encoders", 2016; the rectangles are those of Varty's Image网 entry, 2020).

use pretext_augment::{CutOut, Transform as _};

use super::{Goal, Options, Poser, PretextTask, Puzzle};
use crate::error::Result;

pub(super) struct Task;

impl PretextTask for Task {
    fn name(&self) -> &'static str {
        "inpaint"
    }

    fn about(&self) -> &'static str {
        "restore regions that were blacked out"
    }

    fn goal(&self, _: &Options) -> Goal {
        Goal::Restore
    }

    fn poser(&self, options: &Options) -> Result<Poser> {
        let (count, side) = (options.count(), options.side());
        let transform = CutOut { count, side, ..CutOut::default() };
        Ok(Box::new(move |size, rng| Puzzle::restore(transform.sample(size, rng))))
    }
}
