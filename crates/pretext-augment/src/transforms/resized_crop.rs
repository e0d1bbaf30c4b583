//! A random crop of random area and shape, brought to one size.

use std::ops::RangeInclusive;

use rand::Rng;

use crate::ops::CropResize;
use crate::transform::{uniform, whole};
use crate::{Op, Plan, Rect, Size, Transform};

/// Cuts out a random part and brings it to `size` (Szegedy et al., "Going Deeper with
/// Convolutions", 2015).
///
#[cfg_attr(doc, doc = include_str!("../../docs/RandomResizedCrop.md"))]
///
/// Area and ratio are drawn up to ten times until the part fits; then a central part is taken. Both
/// libraries do so, and differ in how that last part is rounded, so begin with one of the two
/// presets and change what should differ.
///
/// ```
/// use pretext_augment::{Image, RandomResizedCrop, Size, Transform};
/// use rand::{SeedableRng, rngs::StdRng};
///
/// let image = Image::filled(Size { width: 213, height: 160 }, [90, 120, 60]);
/// let crop = RandomResizedCrop::torchvision(128).augment(image, &mut StdRng::seed_from_u64(0));
/// assert_eq!(crop.size(), Size::square(128));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct RandomResizedCrop {
    /// The size to bring it to.
    pub size: Size,
    /// The part's share of the image's area, within `0..=1`.
    pub scale: RangeInclusive<f32>,
    /// The part's width over its height; drawn evenly in the logarithm.
    pub ratio: RangeInclusive<f32>,
    /// How a part is rounded to whole pixels where none of ten fits.
    fallback: Fallback,
}

/// The libraries differ in one rounding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fallback {
    Torchvision,
    Fastai,
}

/// Tries before the central part is taken.
const TRIES: usize = 10;

impl RandomResizedCrop {
    /// torchvision's defaults: 0.08 to 1 of the area, ratios from 3/4 to 4/3.
    pub fn torchvision(side: u32) -> Self {
        Self {
            size: Size::square(side),
            scale: 0.08..=1.0,
            ratio: 0.75..=4.0 / 3.0,
            fallback: Fallback::Torchvision,
        }
    }

    /// fastai's image recipes: at least 0.35 of the area.
    ///
    #[cfg_attr(doc, doc = include_str!("../../docs/RandomResizedCrop-fastai.md"))]
    pub fn fastai(side: u32) -> Self {
        Self { scale: 0.35..=1.0, fallback: Fallback::Fastai, ..Self::torchvision(side) }
    }

    /// The same with another smallest share of the area.
    pub fn with_min_scale(self, least: f32) -> Self {
        Self { scale: least..=*self.scale.end(), ..self }
    }

    /// The rectangle that is cut out of an image of this size.
    pub fn sample_rect(&self, size: Size, rng: &mut dyn Rng) -> Rect {
        let size = size.of_an_image();
        let logarithms = self.ratio.start().ln()..=self.ratio.end().ln();
        for _ in 0..TRIES {
            let area = size.area() as f64 * f64::from(uniform(&self.scale, rng));
            let ratio = f64::from(uniform(&logarithms, rng)).exp();
            let side = |square: f64| square.sqrt().round_ties_even() as u32;
            let (width, height) = (side(area * ratio), side(area / ratio));
            if (1..=size.width).contains(&width) && (1..=size.height).contains(&height) {
                let x = whole(0, size.width - width, rng);
                let y = whole(0, size.height - height, rng);
                return Rect { x, y, width, height };
            }
        }
        self.central(size)
    }

    /// The largest central part whose ratio is within range.
    fn central(&self, size: Size) -> Rect {
        let Size { width, height } = size;
        let ratio = width as f32 / height as f32;
        let pixels = |value: f32| match self.fallback {
            Fallback::Torchvision => value.round_ties_even() as u32,
            Fallback::Fastai => value as u32,
        };
        let (least, most) = (*self.ratio.start(), *self.ratio.end());
        let (w, h) = if ratio < least {
            (width, pixels(width as f32 / least).clamp(1, height))
        } else if ratio > most {
            (pixels(height as f32 * most).clamp(1, width), height)
        } else {
            (width, height)
        };
        Rect { x: (width - w) / 2, y: (height - h) / 2, width: w, height: h }
    }
}

impl Transform for RandomResizedCrop {
    fn sample(&self, size: Size, rng: &mut dyn Rng) -> Plan {
        Op::CropResize(CropResize { crop: self.sample_rect(size, rng), size: self.size }).into()
    }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng as _, rngs::StdRng};

    use super::*;

    #[test]
    fn crops_lie_inside_any_image() {
        for seed in 0..2000 {
            let size = Size { width: 1 + seed as u32 % 37, height: 1 + seed as u32 % 53 };
            for crop in [RandomResizedCrop::torchvision(8), RandomResizedCrop::fastai(8)] {
                let rect = crop.sample_rect(size, &mut StdRng::seed_from_u64(seed));
                assert!(!rect.is_empty() && rect == rect.clipped(size), "{rect:?} in {size:?}");
            }
        }
    }

    #[test]
    fn areas_and_ratios_are_as_asked_for() {
        let (size, crop) = (Size::square(500), RandomResizedCrop::fastai(8));
        let mut rng = StdRng::seed_from_u64(3);
        let mut mean = 0.0;
        for _ in 0..4000 {
            let rect = crop.sample_rect(size, &mut rng);
            let area = rect.size().area() as f64 / size.area() as f64;
            let ratio = f64::from(rect.width) / f64::from(rect.height);
            assert!((0.345..=1.0).contains(&area), "{area}");
            assert!((0.74..=1.35).contains(&ratio), "{ratio}");
            mean += area / 4000.0;
        }
        // A little below the middle of 0.35..=1: large parts of extreme ratio do not fit.
        assert!((0.6..0.67).contains(&mean), "{mean}");
    }

    #[test]
    fn what_fits_nowhere_is_taken_from_the_centre() {
        let mut rng = StdRng::seed_from_u64(0);
        let size = Size { width: 20_000, height: 3 };
        let rect = RandomResizedCrop::torchvision(8).sample_rect(size, &mut rng);
        assert_eq!(rect, Rect { x: 9998, y: 0, width: 4, height: 3 });
    }
}
