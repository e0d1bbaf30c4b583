//! Honest statistics of a handful of runs.
//!
//! Runs that score all the same have shown no spread, which is no proof that there is none: like
//! one run they have no interval and no probability.

use statrs::distribution::{ContinuousCDF as _, StudentsT};

/// The share of intervals that hold the true value.
const CONFIDENCE: f64 = 0.95;

/// A spread below this is rounding: scores are shares of pictures, and one picture of a million is
/// far more.
const NO_SPREAD: f64 = 1e-9;

/// From where to where.
pub(super) type Interval = (f64, f64);

/// A mean of runs.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Summary {
    pub(super) runs: usize,
    pub(super) mean: f64,
    /// The sample standard deviation; one run has none.
    pub(super) std: Option<f64>,
    /// Where the true mean lies with 95 % confidence (Student, 1908); of one run nobody knows, nor of
    /// runs without spread.
    pub(super) interval: Option<Interval>,
}

/// What one set of runs has over another.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Gain {
    /// Difference of the means.
    pub(super) difference: f64,
    /// How sure that is, where it is known.
    pub(super) certainty: Result<Certainty, Unknown>,
}

/// Why nobody knows how sure a gain is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unknown {
    /// A side has but one run.
    OneRun,
    /// Every pair of runs, or every run of either side, differs by the same.
    NoSpread,
}

impl Unknown {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::OneRun => "one run",
            Self::NoSpread => "no spread seen",
        }
    }
}

/// How sure a gain is.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Certainty {
    pub(super) test: Test,
    /// Where the true gain lies with 95 % confidence.
    pub(super) interval: Interval,
    /// The probability that it is above zero, `0..=1`, on flat priors.
    pub(super) probability: f64,
}

/// How two sets of runs are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Test {
    /// Run by run, where both sides have the same seeds: what a seed brings to both cancels out.
    Paired,
    /// Mean by mean (Welch, 1947).
    Welch,
}

impl Test {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Paired => "paired t",
            Self::Welch => "Welch's t",
        }
    }
}

/// Something measured, with an error that follows Student's t distribution.
struct Estimate {
    value: f64,
    /// The standard error.
    error: f64,
    freedom: f64,
}

/// Mean and spread of values; `None` of no values.
pub(super) fn summary(values: &[f64]) -> Option<Summary> {
    let runs = values.len();
    if runs == 0 {
        return None;
    }
    let mean = values.iter().sum::<f64>() / runs as f64;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    let std = (runs > 1).then(|| (squares / (runs - 1) as f64).sqrt());
    let interval = std.and_then(|std| mean_of(runs, mean, std).interval().ok());
    Some(Summary { runs, mean, std, interval })
}

/// What runs have over the baseline's; each is its seed and its value.
pub(super) fn gain(runs: &[(u64, f64)], baseline: &[(u64, f64)]) -> Option<Gain> {
    let sorted = |runs: &[(u64, f64)]| {
        let mut runs = runs.to_vec();
        runs.sort_by_key(|(seed, _)| *seed);
        runs.into_iter().unzip::<_, _, Vec<_>, Vec<_>>()
    };
    let ((seeds, values), (other_seeds, other_values)) = (sorted(runs), sorted(baseline));
    let (a, b) = (summary(&values)?, summary(&other_values)?);
    let (test, estimate) = if seeds == other_seeds {
        let pairs: Vec<f64> = values.iter().zip(&other_values).map(|(a, b)| a - b).collect();
        let pairs = summary(&pairs)?;
        (Test::Paired, pairs.std.map(|std| mean_of(pairs.runs, pairs.mean, std)))
    } else {
        (Test::Welch, welch(&a, &b))
    };
    let certainty = estimate.ok_or(Unknown::OneRun).and_then(|estimate| {
        let (interval, probability) = (estimate.interval()?, estimate.probability_above_zero()?);
        Ok(Certainty { test, interval, probability })
    });
    Some(Gain { difference: a.mean - b.mean, certainty })
}

/// The probability that another run would score above a published figure: the public
/// leaderboard's rule asks for more than 80 %. `None` of one run, or without spread.
pub(super) fn probability_of_beating(runs: &Summary, published: f64) -> Option<f64> {
    let n = runs.runs as f64;
    Estimate {
        value: runs.mean - published,
        // A run's own spread, and that of the mean it is expected at.
        error: runs.std? * (1.0 + 1.0 / n).sqrt(),
        freedom: n - 1.0,
    }
    .probability_above_zero()
    .ok()
}

fn mean_of(runs: usize, mean: f64, std: f64) -> Estimate {
    Estimate { value: mean, error: std / (runs as f64).sqrt(), freedom: (runs - 1) as f64 }
}

fn welch(a: &Summary, b: &Summary) -> Option<Estimate> {
    let (va, vb) = (a.std?.powi(2) / a.runs as f64, b.std?.powi(2) / b.runs as f64);
    let spread = va.powi(2) / (a.runs - 1) as f64 + vb.powi(2) / (b.runs - 1) as f64;
    let freedom = (va + vb).powi(2) / spread;
    Some(Estimate { value: a.mean - b.mean, error: (va + vb).sqrt(), freedom })
}

impl Estimate {
    fn student(&self) -> Result<StudentsT, Unknown> {
        if self.error < NO_SPREAD {
            return Err(Unknown::NoSpread);
        }
        StudentsT::new(0.0, 1.0, self.freedom).map_err(|_| Unknown::NoSpread)
    }

    fn interval(&self) -> Result<Interval, Unknown> {
        let half = self.student()?.inverse_cdf(f64::midpoint(1.0, CONFIDENCE)) * self.error;
        Ok((self.value - half, self.value + half))
    }

    fn probability_above_zero(&self) -> Result<f64, Unknown> {
        Ok(self.student()?.cdf(self.value / self.error))
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    /// Made by `tests/reference/make.py` with `scipy`.
    const REFERENCE: &str = include_str!("../../tests/reference/statistics.json");

    #[derive(Deserialize)]
    struct Case {
        name: String,
        runs: Vec<(u64, f64)>,
        baseline: Vec<(u64, f64)>,
        published: f64,
        mean: f64,
        std: f64,
        interval: Interval,
        test: String,
        gain: f64,
        gain_interval: Interval,
        gain_probability: f64,
        beats: f64,
    }

    #[test]
    fn scipy_agrees() {
        let cases: Vec<Case> = serde_json::from_str(REFERENCE).unwrap();
        assert!(cases.iter().any(|case| case.test == Test::Paired.name()));
        assert!(cases.iter().any(|case| case.test == Test::Welch.name()));
        for case in cases {
            let name = &case.name;
            let near = |what: &str, got: f64, want: f64| {
                assert!((got - want).abs() < 1e-9, "{name}, {what}: {got}, not {want}");
            };
            let values: Vec<f64> = case.runs.iter().map(|(_, value)| *value).collect();
            let summary = summary(&values).unwrap();
            near("mean", summary.mean, case.mean);
            near("std", summary.std.unwrap(), case.std);
            near("low", summary.interval.unwrap().0, case.interval.0);
            near("high", summary.interval.unwrap().1, case.interval.1);
            let gain = gain(&case.runs, &case.baseline).unwrap();
            let certainty = gain.certainty.unwrap();
            assert_eq!(certainty.test.name(), case.test, "{name}");
            near("gain", gain.difference, case.gain);
            near("gain's low", certainty.interval.0, case.gain_interval.0);
            near("gain's high", certainty.interval.1, case.gain_interval.1);
            near("P(gain)", certainty.probability, case.gain_probability);
            near("P(beats)", probability_of_beating(&summary, case.published).unwrap(), case.beats);
        }
    }

    #[test]
    fn one_run_has_no_spread() {
        let one = summary(&[0.5]).unwrap();
        assert_eq!(one, Summary { runs: 1, mean: 0.5, std: None, interval: None });
        assert_eq!(summary(&[]), None);
        assert_eq!(probability_of_beating(&one, 0.4), None);
        let against = |baseline: &[(u64, f64)]| gain(&[(0, 0.5)], baseline).unwrap();
        let certainty = Err(Unknown::OneRun);
        assert_eq!(against(&[(0, 0.25)]), Gain { difference: 0.25, certainty });
        assert_eq!(against(&[(0, 0.25), (1, 0.25)]).certainty, Err(Unknown::OneRun));
        assert_eq!(gain(&[(0, 0.5)], &[]), None);
    }

    #[test]
    fn the_order_of_runs_plays_no_part() {
        let (a, b) = ([(0, 0.3), (1, 0.5), (2, 0.4)], [(2, 0.35), (0, 0.2), (1, 0.48)]);
        let mut turned = a;
        turned.reverse();
        assert_eq!(gain(&a, &b), gain(&turned, &b));
        assert_eq!(gain(&a, &b).unwrap().certainty.unwrap().test, Test::Paired);
    }

    #[test]
    fn runs_without_spread_are_not_sure_of_themselves() {
        // Means and differences of equal numbers come out unequal by rounding.
        let equal = summary(&[0.1; 3]).unwrap();
        assert!(equal.mean != 0.1 && equal.std.unwrap() < 1e-12, "{equal:?}");
        assert_eq!((equal.interval, probability_of_beating(&equal, 0.05)), (None, None));
        let (runs, apart) = ([(0, 0.4), (1, 0.41), (2, 0.42)], [(0, 0.3), (1, 0.31), (2, 0.32)]);
        for baseline in [runs, apart] {
            assert_eq!(gain(&runs, &baseline).unwrap().certainty, Err(Unknown::NoSpread));
        }
        let (flat, other) = ([(0, 0.4), (1, 0.4)], [(2, 0.3), (3, 0.3)]);
        assert_eq!(gain(&flat, &other).unwrap().certainty, Err(Unknown::NoSpread));
        // One picture of a hundred thousand is a spread.
        let close = summary(&[0.1, 0.1, 0.10001]).unwrap();
        let (low, high) = close.interval.unwrap();
        assert!(high - low > 1e-5 && probability_of_beating(&close, 0.05).unwrap() < 1.0);
        let other = [(3, 0.40), (4, 0.41), (5, 0.42)];
        let other = gain(&runs, &other).unwrap().certainty.unwrap();
        assert!((other.probability - 0.5).abs() < 1e-12);
        assert_eq!(other.test, Test::Welch);
    }
}
