//! Gaussian blur of random strength.

use std::ops::RangeInclusive;

use rand::Rng;

use crate::ops::Blur;
use crate::transform::uniform;
use crate::{Op, Plan, Size, Transform};

/// Blurs an image, as torchvision's `GaussianBlur`.
///
#[cfg_attr(doc, doc = include_str!("../../docs/GaussianBlur.md"))]
///
/// ```
/// use pretext_augment::{GaussianBlur, Image, Size, Transform};
/// use rand::{SeedableRng, rngs::StdRng};
///
/// let flat = Image::filled(Size::square(16), [1, 2, 3]);
/// let blur = GaussianBlur::new(9, 0.1..=2.0);
/// assert_eq!(blur.augment(flat.clone(), &mut StdRng::seed_from_u64(0)), flat);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct GaussianBlur {
    /// Taps of the kernel in each direction; `None` reaches three standard deviations.
    pub kernel: Option<u32>,
    /// Standard deviations in pixels.
    pub sigma: RangeInclusive<f32>,
}

impl GaussianBlur {
    /// A kernel of fixed length, as torchvision has it; an even one counts as the next odd one.
    pub fn new(kernel: u32, sigma: RangeInclusive<f32>) -> Self {
        Self { kernel: Some(kernel), sigma }
    }

    /// A kernel as long as it must be.
    pub fn of_sigma(sigma: RangeInclusive<f32>) -> Self {
        Self { kernel: None, sigma }
    }
}

impl Transform for GaussianBlur {
    fn sample(&self, _: Size, rng: &mut dyn Rng) -> Plan {
        let sigma = uniform(&self.sigma, rng);
        let blur = match self.kernel {
            Some(kernel) => Blur { kernel, sigma },
            None => Blur::of_sigma(sigma),
        };
        Op::Blur(blur).into()
    }
}
