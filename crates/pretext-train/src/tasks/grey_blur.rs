//! RandomGreyBlur: restore pictures in which several regions were blurred and turned grey
//! (Whitaker, "Self-supervised learning with Image网", 2020).

use pretext_augment::{RandomGreyBlur, Transform as _};

use super::{Goal, Options, Poser, PretextTask, Puzzle, REFERENCE_SIDE};
use crate::error::Result;

pub(super) struct Task;

impl PretextTask for Task {
    fn name(&self) -> &'static str {
        "grey-blur"
    }

    fn about(&self) -> &'static str {
        "restore regions that were blurred and turned grey"
    }

    fn goal(&self, _: &Options) -> Goal {
        Goal::Restore
    }

    fn poser(&self, options: &Options) -> Result<Poser> {
        let Options { sigma: (least, most), .. } = *options;
        let (count, side) = (options.count(), options.side());
        Ok(Box::new(move |size, rng| {
            let scale = size.width as f32 / REFERENCE_SIDE;
            let blur = Some(least * scale..=most * scale);
            let transform = RandomGreyBlur { count: count.clone(), side: side.clone(), blur };
            Puzzle::restore(transform.sample(size, rng))
        }))
    }
}
