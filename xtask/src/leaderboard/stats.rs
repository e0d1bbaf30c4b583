//! Honest statistics of a handful of runs.

/// A mean of runs.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Summary {
    pub(super) runs: usize,
    pub(super) mean: f64,
    /// The sample standard deviation; one run has none.
    pub(super) std: Option<f64>,
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
    Some(Summary { runs, mean, std })
}

/// The probability that `a`'s true mean is above `b`'s, by Welch's t (1947) on flat priors; `None`
/// unless both have a spread.
pub(super) fn probability_above(a: &Summary, b: &Summary) -> Option<f64> {
    let (va, vb) = (a.std?.powi(2) / a.runs as f64, b.std?.powi(2) / b.runs as f64);
    if va + vb == 0.0 {
        return Some(match a.mean.total_cmp(&b.mean) {
            std::cmp::Ordering::Less => 0.0,
            std::cmp::Ordering::Equal => 0.5,
            std::cmp::Ordering::Greater => 1.0,
        });
    }
    let t = (a.mean - b.mean) / (va + vb).sqrt();
    let freedom =
        (va + vb).powi(2) / (va.powi(2) / (a.runs - 1) as f64 + vb.powi(2) / (b.runs - 1) as f64);
    Some(student(t, freedom))
}

/// Student's t distribution function, by integrating its density with Simpson's rule.
fn student(t: f64, freedom: f64) -> f64 {
    let scale = ln_gamma((freedom + 1.0) / 2.0)
        - ln_gamma(freedom / 2.0)
        - 0.5 * (freedom * std::f64::consts::PI).ln();
    // x = tan(angle) brings the whole axis within reach of an even grid.
    let density = |angle: f64| {
        let x = angle.tan();
        let log = scale - (freedom + 1.0) / 2.0 * (x * x / freedom).ln_1p();
        log.exp() / angle.cos().powi(2)
    };
    const STEPS: u32 = 2000;
    let end = t.abs().atan();
    let step = end / f64::from(STEPS);
    let inside: f64 = (0..=STEPS)
        .map(|i| {
            let weight = match i {
                0 | STEPS => 1.0,
                i if i % 2 == 1 => 4.0,
                _ => 2.0,
            };
            weight * density(f64::from(i) * step)
        })
        .sum::<f64>()
        * step
        / 3.0;
    (0.5 + inside.copysign(t)).clamp(0.0, 1.0)
}

/// The logarithm of the gamma function (Lanczos, 1964, in Numerical Recipes' coefficients).
fn ln_gamma(x: f64) -> f64 {
    const C: [f64; 6] = [
        76.180_091_729_471_46,
        -86.505_320_329_416_77,
        24.014_098_240_830_91,
        -1.231_739_572_450_155,
        0.120_865_097_386_617_9e-2,
        -0.539_523_938_495_3e-5,
    ];
    let base = x + 5.5;
    let series: f64 = (1..).zip(C).map(|(i, c)| c / (x + f64::from(i))).sum();
    (x + 0.5) * base.ln() - base
        + (2.506_628_274_631_000_5 * (1.000_000_000_190_015 + series) / x).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_run_has_no_spread() {
        assert_eq!(summary(&[0.5]), Some(Summary { runs: 1, mean: 0.5, std: None }));
        assert_eq!(summary(&[]), None);
        let two = summary(&[0.5, 0.7]).unwrap();
        assert!((two.std.unwrap() - 0.141_421_356).abs() < 1e-9);
        assert_eq!(probability_above(&summary(&[0.9]).unwrap(), &two), None);
    }

    #[track_caller]
    fn check(t: f64, freedom: f64, want: f64) {
        let got = student(t, freedom);
        assert!((got - want).abs() < 1e-6, "t {t}, {freedom} degrees: {got}, not {want}");
    }

    #[test]
    fn student_has_its_table() {
        check(0.0, 3.0, 0.5);
        check(1.0, 1.0, 0.75);
        check(-1.0, 1.0, 0.25);
        check(2.776_445_105, 4.0, 0.975);
        check(1.812_461_123, 10.0, 0.95);
    }

    #[test]
    fn equal_runs_say_nothing() {
        let a = summary(&[0.4, 0.5, 0.6]).unwrap();
        assert!((probability_above(&a, &a).unwrap() - 0.5).abs() < 1e-9);
    }
}
