//! Cut-out with several rectangles: the input of the in-painting task.

use std::ops::RangeInclusive;

use rand::Rng;

use super::side::rectangles;
use crate::ops::{Fill, Paint};
use crate::{Op, Plan, Side, Size, Transform};

/// Fills several random rectangles with one colour (DeVries and Taylor, "Cutout", 2017).
///
#[cfg_attr(doc, doc = include_str!("../../docs/CutOut.md"))]
///
/// The defaults are those of Varty's in-painting entry for Image网 (2020): 5 to 9 rectangles,
/// centres anywhere, sides in proportion to 5 to 49 px of 128, clipped at the border, black.
///
/// ```
/// use pretext_augment::{CutOut, Image, Size, Transform};
/// use rand::{SeedableRng, rngs::StdRng};
///
/// let white = Image::filled(Size::square(128), [255; 3]);
/// let out = CutOut::default().augment(white, &mut StdRng::seed_from_u64(0));
/// assert!(out.pixels().iter().all(|&value| value == 0 || value == 255));
/// assert!(out.pixels().contains(&0));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct CutOut {
    /// Rectangles in an image.
    pub count: RangeInclusive<u32>,
    /// Their sides.
    pub side: Side,
    /// What they are filled with.
    pub colour: [u8; 3],
}

impl Default for CutOut {
    fn default() -> Self {
        Self { count: 5..=9, side: Side::published(), colour: [0; 3] }
    }
}

impl Transform for CutOut {
    fn sample(&self, size: Size, rng: &mut dyn Rng) -> Plan {
        let rects = rectangles(&self.count, &self.side, size, rng);
        Op::Fill(Fill { rects, paint: Paint::Colour(self.colour) }).into()
    }
}
