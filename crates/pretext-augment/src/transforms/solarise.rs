//! Inverts bright values, now and then.

use rand::Rng;

use crate::ops::Solarise;
use crate::transform::happens;
use crate::{Op, Plan, Size, Transform};

/// Inverts values from `threshold` on with probability `p`, as torchvision's `RandomSolarize`.
///
#[cfg_attr(doc, doc = include_str!("../../docs/RandomSolarise.md"))]
///
/// ```
/// use pretext_augment::{Image, RandomSolarise, Size, Transform};
/// use rand::{SeedableRng, rngs::StdRng};
///
/// let image = Image::filled(Size::square(1), [127, 128, 255]);
/// let solarise = RandomSolarise { p: 1.0, ..RandomSolarise::default() };
/// let out = solarise.augment(image, &mut StdRng::seed_from_u64(0));
/// assert_eq!(out.pixels(), [127, 127, 0]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RandomSolarise {
    /// The smallest value that is inverted.
    pub threshold: u8,
    /// The probability, `0..=1`.
    pub p: f32,
}

impl Default for RandomSolarise {
    /// BYOL's second view (Grill et al., 2020).
    fn default() -> Self {
        Self { threshold: 128, p: 0.2 }
    }
}

impl Transform for RandomSolarise {
    fn sample(&self, _: Size, rng: &mut dyn Rng) -> Plan {
        let op = Op::Solarise(Solarise { threshold: self.threshold });
        if happens(self.p, rng) { op.into() } else { Plan::nothing() }
    }
}
