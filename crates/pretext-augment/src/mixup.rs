//! Mixup: blend each sample of a batch with another, labels too.

use rand::seq::SliceRandom as _;
use rand::{Rng, RngExt as _};

/// Blends each sample of a batch with another, by a `lambda` from Beta(alpha, alpha) (Zhang et al.,
/// "mixup: Beyond Empirical Risk Minimization", 2018).
///
#[cfg_attr(doc, doc = include_str!("../docs/Mixup.md"))]
///
/// ```
/// use pretext_augment::Mixup;
/// use rand::{SeedableRng, rngs::StdRng};
///
/// let mix = Mixup { alpha: 0.4 }.sample(2, &mut StdRng::seed_from_u64(0));
/// let mut images = [vec![0.0, 0.0], vec![1.0, 1.0]]; // any numbers of samples, labels too
/// mix.apply(&mut images);
/// assert!(images[0][0] <= 0.5 && images[1][0] >= 0.5);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mixup {
    /// The larger, the stronger; fastai's default is 0.4. 0 and below do not mix.
    pub alpha: f64,
}

/// How a batch is mixed.
#[derive(Clone, Debug, PartialEq)]
pub struct MixupParams {
    /// What is left of each sample, `0.5..=1`; its partner gives the rest.
    pub lambda: f32,
    /// The partner of each sample: a permutation.
    pub partner: Vec<usize>,
}

impl Mixup {
    /// Decides how a batch of `n` is mixed.
    ///
    /// All of the batch shares one `lambda`. As `lambda` and `1 - lambda` are alike in the mixture of
    /// a batch with itself, the larger of the two is taken, as fastai does, so that no sample is
    /// drowned by its partner.
    pub fn sample(&self, n: usize, rng: &mut dyn Rng) -> MixupParams {
        let mut partner: Vec<usize> = (0..n).collect();
        partner.shuffle(rng);
        let lambda = if self.alpha > 0.0 { beta(self.alpha, rng) } else { 1.0 };
        MixupParams { lambda: lambda.max(1.0 - lambda) as f32, partner }
    }
}

impl MixupParams {
    /// Mixes the samples of a batch, each as many numbers as its partner.
    ///
    /// ```
    /// use pretext_augment::MixupParams;
    ///
    /// let mut batch = [vec![0.0], vec![4.0]];
    /// MixupParams { lambda: 0.75, partner: vec![1, 0] }.apply(&mut batch);
    /// assert_eq!(batch, [[1.0], [3.0]]);
    /// ```
    ///
    /// # Panics
    /// If the batch has another number of samples than was decided for, or a partner is none of them.
    pub fn apply(&self, batch: &mut [impl AsRef<[f32]> + AsMut<[f32]>]) {
        assert_eq!(batch.len(), self.partner.len(), "a batch of the size that was decided for");
        let before: Vec<Vec<f32>> = batch.iter().map(|sample| sample.as_ref().to_vec()).collect();
        for (sample, &partner) in batch.iter_mut().zip(&self.partner) {
            for (value, other) in sample.as_mut().iter_mut().zip(&before[partner]) {
                *value = self.lambda * *value + (1.0 - self.lambda) * other;
            }
        }
    }
}

/// A number from Beta(a, a), by two numbers from Gamma(a, 1).
fn beta(a: f64, rng: &mut dyn Rng) -> f64 {
    let (x, y) = (gamma(a, rng), gamma(a, rng));
    // Both can underflow to 0 for a tiny alpha, whose beta is 0 or 1 with equal chances.
    if x + y > 0.0 { x / (x + y) } else { f64::from(u8::from(rng.random::<bool>())) }
}

/// A number from Gamma(a, 1) (Marsaglia and Tsang, 2000).
fn gamma(a: f64, rng: &mut dyn Rng) -> f64 {
    if a < 1.0 {
        let boost = (1.0 - rng.random::<f64>()).powf(1.0 / a);
        return gamma(a + 1.0, rng) * boost;
    }
    let d = a - 1.0 / 3.0;
    let c = 1.0 / (9.0 * d).sqrt();
    loop {
        let x = normal(rng);
        let v = (1.0 + c * x).powi(3);
        if v > 0.0 {
            let u = 1.0 - rng.random::<f64>();
            if u.ln() < 0.5 * x * x + d - d * v + d * v.ln() {
                return d * v;
            }
        }
    }
}

/// A standard normal number (Box and Muller, 1958).
pub(crate) fn normal(rng: &mut dyn Rng) -> f64 {
    let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
    radius * (std::f64::consts::TAU * rng.random::<f64>()).cos()
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng as _, rngs::StdRng};

    use super::*;

    #[track_caller]
    fn check(alpha: f64) {
        let mut rng = StdRng::seed_from_u64(7);
        let draws: Vec<f64> = (0..40_000).map(|_| beta(alpha, &mut rng)).collect();
        let mean = draws.iter().sum::<f64>() / 40_000.0;
        let variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 40_000.0;
        let want = 1.0 / (4.0 * (2.0 * alpha + 1.0));
        assert!((mean - 0.5).abs() < 0.01, "alpha {alpha}: mean {mean}");
        assert!((variance / want - 1.0).abs() < 0.04, "alpha {alpha}: {variance}, not {want}");
    }

    #[test]
    fn beta_has_its_moments() {
        for alpha in [0.2, 0.4, 1.0, 2.5] {
            check(alpha);
        }
    }

    #[test]
    fn partners_are_a_permutation() {
        let mix = Mixup { alpha: 0.4 }.sample(64, &mut StdRng::seed_from_u64(0));
        let mut partners = mix.partner.clone();
        partners.sort_unstable();
        assert_eq!(partners, (0..64).collect::<Vec<_>>());
        assert!((0.5..=1.0).contains(&mix.lambda));
    }
}
