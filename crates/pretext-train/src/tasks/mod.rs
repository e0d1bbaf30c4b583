//! Pretext tasks: what is done to a picture and what the network must answer.
//!
//! A task is one small file here and one line in [`ALL`].

mod colourise;
mod corrupted;
mod grey;
mod grey_blur;
mod inpaint;
mod jigsaw;

use pretext_augment::{Plan, Side, Size};
use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::recipe::{names, require};

/// Every task a user can name, in the order `--help` lists them.
pub const ALL: &[&dyn PretextTask] = &[
    &grey_blur::Task,
    &grey::Task,
    &inpaint::Task,
    &colourise::Task,
    &corrupted::Task,
    &jigsaw::Task,
];

/// The task of that name.
///
/// # Errors
/// [`Error::Unknown`] with the names that there are.
pub fn by_name(name: &str) -> Result<&'static dyn PretextTask> {
    ALL.iter().copied().find(|task| task.name() == name).ok_or_else(|| Error::Unknown {
        what: "task",
        name: name.into(),
        known: names(ALL.iter().map(|task| task.name())),
    })
}

/// A puzzle made from unlabelled pictures, whose solution is known because we made it.
pub trait PretextTask: Send + Sync {
    /// The word for it on the command line and in result tables, such as `grey-blur`.
    fn name(&self) -> &'static str;

    /// One line for `--help`.
    fn about(&self) -> &'static str;

    /// What the network must produce; decides its head and its loss.
    fn goal(&self, options: &Options) -> Goal;

    /// What makes the puzzle; built once, called for every picture.
    ///
    /// # Errors
    /// If the options are not such a puzzle's.
    fn poser(&self, options: &Options) -> Result<Poser>;
}

/// Makes a puzzle for a cropped picture of that size, with the picture's own random stream.
pub type Poser = Box<dyn Fn(Size, &mut dyn Rng) -> Puzzle + Send + Sync>;

/// What the network must produce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// The picture as it was: a U-Net decoder and the mean squared error over all pixels.
    Restore,
    /// One of so many classes: a linear head and cross-entropy.
    Classify(usize),
}

/// What is done to the clean picture, and what must come out.
#[derive(Clone, Debug, PartialEq)]
pub struct Puzzle {
    /// What makes the network's input of the clean picture, of the same size.
    pub plan: Plan,
    /// The right class for [`Goal::Classify`]; 0 for [`Goal::Restore`], whose answer is the clean
    /// picture.
    pub class: u32,
}

impl Puzzle {
    /// A puzzle whose answer is the clean picture.
    fn restore(plan: Plan) -> Self {
        Self { plan, class: 0 }
    }
}

/// The parameters of all tasks; each reads those it has.
///
/// Sides are given for a picture of 128 px, where the published recipe has 5 to 49 px, and grow
/// and shrink with the picture.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Options {
    /// The fewest and the most rectangles of `grey-blur`, `grey` and `inpaint`.
    pub regions: (u32, u32),
    /// The shortest and the longest side of a rectangle, in pixels of a 128 px picture.
    pub side: (u32, u32),
    /// The smallest and the largest standard deviation of `grey-blur`'s blur, in pixels of a
    /// 128 px picture.
    pub sigma: (f32, f32),
    /// `jigsaw`'s tiles a side, 2 or 3.
    pub tiles: u32,
    /// `jigsaw`'s permutations to tell apart.
    pub permutations: usize,
}

/// The size at which the published rectangles are given.
const REFERENCE_SIDE: f32 = 128.0;

impl Default for Options {
    fn default() -> Self {
        Self { regions: (5, 9), side: (5, 49), sigma: (2.0, 6.0), tiles: 3, permutations: 30 }
    }
}

impl Options {
    /// Refuses what makes no sense.
    ///
    /// # Errors
    /// [`Error::Recipe`] naming the flag.
    pub fn check(&self) -> Result<()> {
        let (least, most) = self.regions;
        require("--regions", least <= most && (1..=1000).contains(&most), || {
            format!("{least}..{most} is not a range of 1 to 1000")
        })?;
        let (least, most) = self.side;
        require("--side", (1..=most).contains(&least) && most <= 128, || {
            format!("{least}..{most} is not a range within 1 to 128")
        })?;
        let (least, most) = self.sigma;
        require("--sigma", least > 0.0 && least <= most && most <= 64.0, || {
            format!("{least}..{most} is not a range above 0 and at most 64")
        })?;
        let most = if self.tiles == 2 { 24 } else { 1000 };
        require("--tiles", (2..=3).contains(&self.tiles), || {
            format!("{} is neither 2 nor 3", self.tiles)
        })?;
        require("--permutations", (2..=most).contains(&self.permutations), || {
            format!("{} is not within 2 to {most}", self.permutations)
        })
    }

    /// Rectangles of `grey-blur`, `grey` and `inpaint`.
    fn count(&self) -> std::ops::RangeInclusive<u32> {
        self.regions.0..=self.regions.1
    }

    /// Rectangles' sides as fractions of a picture's sides.
    fn side(&self) -> Side {
        Side::Fraction(self.side.0 as f32 / REFERENCE_SIDE..=self.side.1 as f32 / REFERENCE_SIDE)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use pretext_augment::Image;

    use super::*;
    use crate::streams::{Purpose, stream};

    fn picture(width: u32, height: u32) -> Image {
        let bytes = (0..3 * width * height).map(|i| (i * 37 % 251) as u8).collect();
        Image::new(Size { width, height }, bytes).unwrap()
    }

    #[test]
    fn names_are_unique_and_findable() {
        let names: BTreeSet<_> = ALL.iter().map(|task| task.name()).collect();
        assert_eq!(names.len(), ALL.len());
        assert!(ALL.iter().all(|task| by_name(task.name()).is_ok()));
        let error = by_name("puzzle").err().unwrap();
        assert!(error.is_users_mistake() && error.to_string().contains("grey-blur"), "{error}");
    }

    #[test]
    fn a_puzzle_keeps_the_size_and_is_the_streams_alone() {
        let options = Options::default();
        for task in ALL {
            let poser = task.poser(&options).unwrap();
            for size in [16, 32, 50, 128] {
                let clean = picture(size, size);
                let pose = |seed| poser(clean.size(), &mut stream(seed, 0, 0, Purpose::Pose));
                let puzzle = pose(1);
                let input = puzzle.plan.apply(clean.clone());
                assert_eq!(input.size(), clean.size(), "{}", task.name());
                assert_eq!(puzzle, pose(1), "{}", task.name());
                let changes = |seed| pose(seed).plan.apply(clean.clone()) != clean;
                let changed = (0..20).filter(|&seed| changes(seed)).count();
                assert!(changed > 15, "{} at {size}: {changed} of 20 changed", task.name());
            }
        }
    }

    #[test]
    fn classes_are_all_used_and_none_is_beyond() {
        for options in
            [Options::default(), Options { tiles: 2, permutations: 24, ..Options::default() }]
        {
            for task in ALL {
                let Goal::Classify(classes) = task.goal(&options) else { continue };
                let (size, poser) = (Size::square(32), task.poser(&options).unwrap());
                let seen: BTreeSet<u32> = (0..2000)
                    .map(|i| poser(size, &mut stream(0, 0, i, Purpose::Pose)).class)
                    .collect();
                assert_eq!(seen, (0..classes as u32).collect(), "{}", task.name());
            }
        }
    }

    #[test]
    fn grey_is_grey_where_it_differs() {
        let clean = picture(64, 64);
        for name in ["grey", "grey-blur", "colourise"] {
            let poser = by_name(name).unwrap().poser(&Options::default()).unwrap();
            let puzzle = poser(clean.size(), &mut stream(3, 0, 0, Purpose::Pose));
            let input = puzzle.plan.apply(clean.clone());
            let pairs = clean.pixels().chunks_exact(3).zip(input.pixels().chunks_exact(3));
            for (before, after) in pairs {
                assert!(before == after || after.iter().all(|v| *v == after[0]), "{name}");
            }
        }
    }

    #[track_caller]
    fn refused(options: Options, flag: &str) {
        let error = options.check().unwrap_err();
        assert!(error.to_string().starts_with(flag), "{error}");
    }

    #[test]
    fn nonsense_is_refused_by_flag() {
        refused(Options { regions: (9, 5), ..Options::default() }, "--regions");
        refused(Options { side: (0, 5), ..Options::default() }, "--side");
        refused(Options { sigma: (0.0, 5.0), ..Options::default() }, "--sigma");
        refused(Options { tiles: 4, ..Options::default() }, "--tiles");
        refused(Options { tiles: 2, permutations: 25, ..Options::default() }, "--permutations");
    }
}
