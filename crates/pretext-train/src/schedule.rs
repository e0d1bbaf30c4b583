//! Learning-rate schedules: the rate as a function of progress.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

/// How the learning rate moves over a run, as a multiple of the recipe's rate.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "kebab-case")]
pub enum Schedule {
    /// Flat, then a cosine down to a hundred-thousandth: fastai's `fit_flat_cos`.
    FlatCosine {
        /// The share of the run that is flat, `0..=1`; fastai's default is 0.75.
        flat: f64,
    },
    /// Up and down again by cosines: fastai's `fit_one_cycle` after Smith, "Super-Convergence"
    /// (2018), from a 25th of the rate to the rate and down to a hundred-thousandth.
    OneCycle {
        /// The share of the run that warms up, `0..=1`; fastai's default is 0.25.
        warm_up: f64,
    },
    /// The same rate throughout.
    Constant,
}

/// Every schedule by its name on the command line, with the published parameters.
pub const ALL: &[(&str, Schedule)] = &[
    ("flat-cosine", Schedule::FlatCosine { flat: 0.75 }),
    ("one-cycle", Schedule::OneCycle { warm_up: 0.25 }),
    ("constant", Schedule::Constant),
];

/// Where cosines end, as a share of the rate (fastai's `div_final`).
const FINAL: f64 = 1e-5;
/// Where one-cycle begins, as a share of the rate (fastai's `div`).
const START: f64 = 1.0 / 25.0;

impl Schedule {
    /// The factor on the learning rate at `progress`, the share of all steps already done,
    /// `0.0..=1.0`.
    ///
    /// ```
    /// use pretext_train::schedule::Schedule;
    ///
    /// let schedule = Schedule::FlatCosine { flat: 0.75 };
    /// assert_eq!(schedule.factor(0.5), 1.0);
    /// assert!((schedule.factor(0.875) - 0.500005).abs() < 1e-9);
    /// assert!((schedule.factor(1.0) - 1e-5).abs() < 1e-12);
    /// ```
    pub fn factor(self, progress: f64) -> f64 {
        match self {
            Self::Constant => 1.0,
            Self::FlatCosine { flat } if progress < flat => 1.0,
            Self::FlatCosine { flat } => cosine(1.0, FINAL, share(progress, flat, 1.0)),
            Self::OneCycle { warm_up } if progress < warm_up => {
                cosine(START, 1.0, share(progress, 0.0, warm_up))
            }
            Self::OneCycle { warm_up } => cosine(1.0, FINAL, share(progress, warm_up, 1.0)),
        }
    }
}

/// How far `at` has come from `from` to `to`, `0..=1`.
fn share(at: f64, from: f64, to: f64) -> f64 {
    if to > from { ((at - from) / (to - from)).clamp(0.0, 1.0) } else { 1.0 }
}

/// Half a cosine wave from `start` to `end`.
fn cosine(start: f64, end: f64, share: f64) -> f64 {
    start + (1.0 + (PI * (1.0 - share)).cos()) * (end - start) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(schedule: Schedule, progress: f64, want: f64) {
        let got = schedule.factor(progress);
        assert!((got - want).abs() < 1e-9, "{schedule:?} at {progress}: {got}, not {want}");
    }

    #[test]
    fn flat_cosine_as_fastai() {
        let schedule = Schedule::FlatCosine { flat: 0.75 };
        check(schedule, 0.0, 1.0);
        check(schedule, 0.7499, 1.0);
        check(schedule, 0.75, 1.0);
        check(schedule, 0.8, 0.904_509_452_027_532_6);
        check(schedule, 1.0, 1e-5);
    }

    #[test]
    fn one_cycle_as_fastai() {
        let schedule = Schedule::OneCycle { warm_up: 0.25 };
        check(schedule, 0.0, 0.04);
        check(schedule, 0.125, 0.52);
        check(schedule, 0.25, 1.0);
        check(schedule, 1.0, 1e-5);
    }

    #[test]
    fn a_flat_share_of_one_stays_flat_to_the_last_step() {
        check(Schedule::FlatCosine { flat: 1.0 }, 0.999, 1.0);
    }

    #[test]
    fn no_schedule_leaves_its_range() {
        for (name, schedule) in ALL {
            for i in 0..=1000 {
                let factor = schedule.factor(f64::from(i) / 1000.0);
                assert!((0.0..=1.0).contains(&factor), "{name} at {i}: {factor}");
            }
        }
    }
}
