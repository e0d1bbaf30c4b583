//! Honest statistics of a handful of runs.

use statrs::distribution::{ContinuousCDF as _, StudentsT};

/// The share of intervals that hold the true value.
const CONFIDENCE: f64 = 0.95;

/// From where to where.
pub(super) type Interval = (f64, f64);

/// A mean of runs.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Summary {
    pub(super) runs: usize,
    pub(super) mean: f64,
    /// The sample standard deviation; one run has none.
    pub(super) std: Option<f64>,
    /// Where the true mean lies with 95 % confidence (Student, 1908); of one run nobody knows.
    pub(super) interval: Option<Interval>,
}

/// What one set of runs has over another.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Gain {
    /// Difference of the means.
    pub(super) difference: f64,
    /// How sure that is, where both sides have more than one run.
    pub(super) certainty: Option<Certainty>,
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
    let interval = std.and_then(|std| mean_of(runs, mean, std).interval());
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
    let certainty = estimate.and_then(|estimate| {
        Some(Certainty {
            test,
            interval: estimate.interval()?,
            probability: estimate.probability_above_zero()?,
        })
    });
    Some(Gain { difference: a.mean - b.mean, certainty })
}

/// The probability that another run would score above a published figure: the public
/// leaderboard's rule asks for more than 80 %. `None` of one run.
pub(super) fn probability_of_beating(runs: &Summary, published: f64) -> Option<f64> {
    let n = runs.runs as f64;
    Estimate {
        value: runs.mean - published,
        // A run's own spread, and that of the mean it is expected at.
        error: runs.std? * (1.0 + 1.0 / n).sqrt(),
        freedom: n - 1.0,
    }
    .probability_above_zero()
}

fn mean_of(runs: usize, mean: f64, std: f64) -> Estimate {
    Estimate { value: mean, error: std / (runs as f64).sqrt(), freedom: (runs - 1) as f64 }
}

fn welch(a: &Summary, b: &Summary) -> Option<Estimate> {
    let (va, vb) = (a.std?.powi(2) / a.runs as f64, b.std?.powi(2) / b.runs as f64);
    let spread = va.powi(2) / (a.runs - 1) as f64 + vb.powi(2) / (b.runs - 1) as f64;
    // Without any spread the degrees of freedom play no part.
    let freedom = if spread > 0.0 { (va + vb).powi(2) / spread } else { 1.0 };
    Some(Estimate { value: a.mean - b.mean, error: (va + vb).sqrt(), freedom })
}

impl Estimate {
    fn interval(&self) -> Option<Interval> {
        let student = StudentsT::new(0.0, 1.0, self.freedom).ok()?;
        let half = student.inverse_cdf(f64::midpoint(1.0, CONFIDENCE)) * self.error;
        Some((self.value - half, self.value + half))
    }

    fn probability_above_zero(&self) -> Option<f64> {
        if self.error == 0.0 {
            return Some(match self.value.total_cmp(&0.0) {
                _ if self.value == 0.0 => 0.5,
                std::cmp::Ordering::Less => 0.0,
                _ => 1.0,
            });
        }
        let student = StudentsT::new(0.0, 1.0, self.freedom).ok()?;
        Some(student.cdf(self.value / self.error))
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
        assert_eq!(against(&[(0, 0.25)]), Gain { difference: 0.25, certainty: None });
        assert_eq!(against(&[(0, 0.25), (1, 0.25)]).certainty, None);
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
    fn equal_runs_say_nothing() {
        let runs = [(0, 0.4), (1, 0.5), (2, 0.6)];
        let same = gain(&runs, &runs).unwrap().certainty.unwrap();
        assert_eq!((same.interval, same.probability), ((0.0, 0.0), 0.5));
        let other = [(3, 0.4), (4, 0.5), (5, 0.6)];
        let other = gain(&runs, &other).unwrap().certainty.unwrap();
        assert!((other.probability - 0.5).abs() < 1e-12);
        assert_eq!(other.test, Test::Welch);
    }
}
