//! Jigsaw: tell in which order the picture's tiles lie (Noroozi and Favaro, "Unsupervised Learning
//! of Visual Representations by Solving Jigsaw Puzzles", 2016; here on the whole picture).

use pretext_augment::Jigsaw;

use super::{Goal, Options, Poser, PretextTask, Puzzle};
use crate::error::Result;

pub(super) struct Task;

impl PretextTask for Task {
    fn name(&self) -> &'static str {
        "jigsaw"
    }

    fn about(&self) -> &'static str {
        "tell in which order the picture's tiles were laid"
    }

    fn goal(&self, options: &Options) -> Goal {
        Goal::Classify(options.permutations)
    }

    fn poser(&self, options: &Options) -> Result<Poser> {
        let jigsaw = Jigsaw::new(options.tiles, options.permutations)?;
        Ok(Box::new(move |size, rng| {
            let (plan, class) = jigsaw.sample_labelled(size, rng);
            Puzzle { plan, class }
        }))
    }
}
