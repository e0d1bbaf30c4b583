//! The one interface of all augmentations.

use rand::Rng;

use crate::{Image, Plan, Size};

/// An augmentation: chance first, pixels second.
pub trait Transform: Send + Sync {
    /// Decides what happens to an image of this size (a side of 0, which no image has, counts as
    /// 1). Draws, and touches no pixel.
    fn sample(&self, size: Size, rng: &mut dyn Rng) -> Plan;

    /// Decides and carries out.
    fn augment(&self, image: Image, rng: &mut dyn Rng) -> Image {
        self.sample(image.size(), rng).apply(image)
    }
}

impl<T: Transform + ?Sized> Transform for Box<T> {
    fn sample(&self, size: Size, rng: &mut dyn Rng) -> Plan {
        (**self).sample(size, rng)
    }
}

/// A uniform number within a range, `low..=high`; `low` where the range is empty.
pub(crate) fn uniform(range: &std::ops::RangeInclusive<f32>, rng: &mut dyn Rng) -> f32 {
    use rand::RngExt as _;
    let (low, high) = (*range.start(), *range.end());
    if high > low { low + (high - low) * rng.random::<f32>() } else { low }
}

/// A uniform whole number within `low..=high`; `low` where the range is empty.
pub(crate) fn whole(low: u32, high: u32, rng: &mut dyn Rng) -> u32 {
    use rand::RngExt as _;
    if high > low { rng.random_range(low..=high) } else { low }
}

/// Whether something of probability `p` happens. Always draws, so that what follows in the stream
/// does not depend on `p`.
pub(crate) fn happens(p: f32, rng: &mut dyn Rng) -> bool {
    use rand::RngExt as _;
    rng.random::<f32>() < p
}
