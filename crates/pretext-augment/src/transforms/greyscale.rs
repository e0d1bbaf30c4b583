//! Turns grey, now and then.

use rand::Rng;

use crate::ops::Grey;
use crate::transform::happens;
use crate::{Op, Plan, Size, Transform};

/// Turns an image grey with probability `p`; it keeps three channels, all alike.
///
#[cfg_attr(doc, doc = include_str!("../../docs/Greyscale.md"))]
///
/// ```
/// use pretext_augment::{Greyscale, Image, Size, Transform};
/// use rand::{SeedableRng, rngs::StdRng};
///
/// let red = Image::filled(Size::square(1), [255, 0, 0]);
/// let grey = Greyscale { p: 1.0 }.augment(red, &mut StdRng::seed_from_u64(0));
/// assert_eq!(grey.pixels(), [76, 76, 76]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Greyscale {
    /// The probability, `0..=1`.
    pub p: f32,
}

impl Default for Greyscale {
    /// SimCLR's (Chen et al., 2020).
    fn default() -> Self {
        Self { p: 0.2 }
    }
}

impl Transform for Greyscale {
    fn sample(&self, _: Size, rng: &mut dyn Rng) -> Plan {
        if happens(self.p, rng) { Op::Grey(Grey).into() } else { Plan::nothing() }
    }
}
