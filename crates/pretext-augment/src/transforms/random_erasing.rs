//! Random erasing.

use std::ops::RangeInclusive;

use rand::{Rng, RngExt as _};

use crate::ops::{Fill, Paint};
use crate::transform::{happens, uniform, whole};
use crate::{Op, Plan, Rect, Size, Transform};

/// Erases one random rectangle now and then (Zhong et al., "Random Erasing Data Augmentation",
/// 2020), as torchvision's `RandomErasing`.
///
#[cfg_attr(doc, doc = include_str!("../../docs/RandomErasing.md"))]
///
/// ```
/// use pretext_augment::{Image, RandomErasing, Size, Transform};
/// use rand::{SeedableRng, rngs::StdRng};
///
/// let white = Image::filled(Size::square(64), [255; 3]);
/// let erasing = RandomErasing { p: 1.0, ..RandomErasing::default() };
/// let out = erasing.augment(white, &mut StdRng::seed_from_u64(0));
/// let erased = out.pixels().iter().filter(|&&value| value == 0).count() / 3;
/// assert!((82..=1352).contains(&erased)); // 2 % to 33 % of 64 x 64 pixels
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct RandomErasing {
    /// The probability, `0..=1`.
    pub p: f32,
    /// The rectangle's share of the image's area.
    pub scale: RangeInclusive<f32>,
    /// Its height over its width, drawn evenly in the logarithm.
    pub ratio: RangeInclusive<f32>,
    /// What it is filled with; `None` is noise.
    ///
    #[cfg_attr(doc, doc = include_str!("../../docs/RandomErasing-noise.md"))]
    pub colour: Option<[u8; 3]>,
}

impl Default for RandomErasing {
    /// torchvision's defaults.
    fn default() -> Self {
        Self { p: 0.5, scale: 0.02..=0.33, ratio: 0.3..=3.3, colour: Some([0; 3]) }
    }
}

/// Tries before the image is left as it is.
const TRIES: usize = 10;

impl Transform for RandomErasing {
    fn sample(&self, size: Size, rng: &mut dyn Rng) -> Plan {
        let size = size.of_an_image();
        if !happens(self.p, rng) {
            return Plan::nothing();
        }
        let logarithms = self.ratio.start().ln()..=self.ratio.end().ln();
        for _ in 0..TRIES {
            let area = size.area() as f64 * f64::from(uniform(&self.scale, rng));
            let ratio = f64::from(uniform(&logarithms, rng)).exp();
            let height = (area * ratio).sqrt().round_ties_even() as u32;
            let width = (area / ratio).sqrt().round_ties_even() as u32;
            if width == 0 || height == 0 || width >= size.width || height >= size.height {
                continue;
            }
            let x = whole(0, size.width - width, rng);
            let y = whole(0, size.height - height, rng);
            let rect = Rect { x, y, width, height };
            let paint = match self.colour {
                Some(colour) => Paint::Colour(colour),
                None => Paint::Noise((0..3 * rect.size().area()).map(|_| rng.random()).collect()),
            };
            return Op::Fill(Fill { rects: vec![rect], paint }).into();
        }
        Plan::nothing()
    }
}
