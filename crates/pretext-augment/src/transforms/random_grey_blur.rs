//! RandomGreyBlur: the input of the home task.

use std::ops::RangeInclusive;

use rand::Rng;

use super::side::rectangles;
use crate::ops::{GreyBlur, Region};
use crate::transform::uniform;
use crate::{Op, Plan, Side, Size, Transform};

/// Blurs several random rectangles and turns them grey (Whitaker, "Self-supervised learning with
/// Image网", 2020). Undoing it is in-painting and colourisation in one.
///
#[cfg_attr(doc, doc = include_str!("../../docs/RandomGreyBlur.md"))]
///
/// Pixels outside of the rectangles keep their exact values. The article does not give the
/// rectangles' or the blur's parameters: the defaults are the rectangles of [`crate::CutOut`] and
/// standard deviations of 2 to 6 px, one for each rectangle.
///
/// ```
/// use pretext_augment::{Image, RandomGreyBlur, Size, Transform};
/// use rand::{SeedableRng, rngs::StdRng};
///
/// let red = Image::filled(Size::square(128), [255, 0, 0]);
/// let out = RandomGreyBlur::default().augment(red, &mut StdRng::seed_from_u64(0));
/// let (pixels, _) = out.pixels().as_chunks::<3>();
/// assert!(pixels.iter().all(|p| *p == [255, 0, 0] || *p == [76, 76, 76]));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct RandomGreyBlur {
    /// Rectangles in an image.
    pub count: RangeInclusive<u32>,
    /// Their sides.
    pub side: Side,
    /// Standard deviations of the blur in pixels; `None` turns grey only.
    ///
    #[cfg_attr(doc, doc = include_str!("../../docs/RandomGreyBlur-blur-off.md"))]
    pub blur: Option<RangeInclusive<f32>>,
}

impl Default for RandomGreyBlur {
    fn default() -> Self {
        Self { count: 5..=9, side: Side::published(), blur: Some(2.0..=6.0) }
    }
}

impl Transform for RandomGreyBlur {
    fn sample(&self, size: Size, rng: &mut dyn Rng) -> Plan {
        let rects = rectangles(&self.count, &self.side, size, rng);
        let regions = rects
            .into_iter()
            .map(|rect| {
                let sigma = self.blur.as_ref().map(|range| uniform(range, rng));
                Region { rect, sigma }
            })
            .collect();
        Op::GreyBlur(GreyBlur { regions }).into()
    }
}
