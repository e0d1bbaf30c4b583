//! The random rectangles that several transforms share.

use std::ops::RangeInclusive;

use rand::Rng;

use crate::transform::whole;
use crate::{Rect, Size};

/// How long the sides of random rectangles are; each side is drawn on its own.
#[derive(Clone, Debug, PartialEq)]
pub enum Side {
    /// In pixels, whatever the image's size.
    Pixels(RangeInclusive<u32>),
    /// As a share of the image's own side, within `0..=1`; rounded to whole pixels, at least one.
    Fraction(RangeInclusive<f32>),
}

impl Side {
    /// The published rectangles (Varty, 2020), 5 to 49 px of a picture of 128 px, in proportion.
    pub fn published() -> Self {
        Self::Fraction(5.0 / 128.0..=49.0 / 128.0)
    }

    fn sample(&self, extent: u32, rng: &mut dyn Rng) -> u32 {
        match self {
            Self::Pixels(range) => whole(*range.start(), *range.end(), rng),
            Self::Fraction(range) => {
                let pixels = |share: f32| (share * extent as f32).round().max(1.0) as u32;
                whole(pixels(*range.start()), pixels(*range.end()), rng)
            }
        }
    }
}

/// Some rectangles whose centres are anywhere in the image, clipped at its border.
pub(super) fn rectangles(
    count: &RangeInclusive<u32>,
    side: &Side,
    size: Size,
    rng: &mut dyn Rng,
) -> Vec<Rect> {
    let size = size.of_an_image();
    let count = whole(*count.start(), *count.end(), rng);
    (0..count)
        .map(|_| {
            let mut interval = |extent: u32| {
                let length = side.sample(extent, rng);
                let centre = whole(0, extent - 1, rng);
                let start = i64::from(centre) - i64::from(length / 2);
                let end = (start + i64::from(length)).min(i64::from(extent)) as u32;
                let start = start.max(0) as u32;
                (start, end - start)
            };
            let ((y, height), (x, width)) = (interval(size.height), interval(size.width));
            Rect { x, y, width, height }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng as _, rngs::StdRng};

    use super::*;

    #[test]
    fn rectangles_lie_inside_any_image() {
        for seed in 0..2000 {
            let size = Size { width: 1 + seed as u32 % 31, height: 1 + seed as u32 % 17 };
            for side in [Side::published(), Side::Pixels(1..=40)] {
                let rects = rectangles(&(5..=9), &side, size, &mut StdRng::seed_from_u64(seed));
                assert!((5..=9).contains(&rects.len()));
                for rect in rects {
                    assert!(!rect.is_empty() && rect == rect.clipped(size), "{rect:?} {size:?}");
                }
            }
        }
    }

    #[test]
    fn sides_have_their_range_and_no_other() {
        let mut rng = StdRng::seed_from_u64(0);
        let mut range = |extent| {
            let sides: Vec<u32> =
                (0..5000).map(|_| Side::published().sample(extent, &mut rng)).collect();
            (sides.iter().min().copied(), sides.iter().max().copied())
        };
        assert_eq!(range(128), (Some(5), Some(49)));
        assert_eq!(range(32), (Some(1), Some(12)));
    }
}
