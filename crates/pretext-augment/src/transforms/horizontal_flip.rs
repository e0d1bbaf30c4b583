//! Mirrors left and right, now and then.

use rand::Rng;

use crate::ops::Flip;
use crate::transform::happens;
use crate::{Op, Plan, Size, Transform};

/// Mirrors left and right with probability `p`.
///
#[cfg_attr(doc, doc = include_str!("../../docs/HorizontalFlip.md"))]
///
/// ```
/// use pretext_augment::{HorizontalFlip, Image, Size, Transform};
/// use rand::{SeedableRng, rngs::StdRng};
///
/// let image = Image::new(Size { width: 2, height: 1 }, vec![1, 2, 3, 4, 5, 6])?;
/// let mirrored = HorizontalFlip { p: 1.0 }.augment(image, &mut StdRng::seed_from_u64(0));
/// assert_eq!(mirrored.pixels(), [4, 5, 6, 1, 2, 3]);
/// # Ok::<(), pretext_augment::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HorizontalFlip {
    /// The probability, `0..=1`.
    pub p: f32,
}

impl Default for HorizontalFlip {
    fn default() -> Self {
        Self { p: 0.5 }
    }
}

impl Transform for HorizontalFlip {
    fn sample(&self, _: Size, rng: &mut dyn Rng) -> Plan {
        if happens(self.p, rng) { Op::Flip(Flip).into() } else { Plan::nothing() }
    }
}
