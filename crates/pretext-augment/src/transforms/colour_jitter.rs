//! Random changes of colour.

use std::ops::RangeInclusive;

use rand::Rng;
use rand::seq::SliceRandom as _;

use crate::ops::Colour;
use crate::transform::uniform;
use crate::{Op, Plan, Size, Transform};

/// Changes brightness, contrast, saturation and hue, in random order, as torchvision's
/// `ColorJitter`.
///
#[cfg_attr(doc, doc = include_str!("../../docs/ColourJitter.md"))]
///
/// ```
/// use pretext_augment::{ColourJitter, Image, Size, Transform};
/// use rand::{SeedableRng, rngs::StdRng};
///
/// let image = Image::filled(Size::square(8), [200, 100, 50]);
/// let jitter = ColourJitter::new(0.8, 0.8, 0.8, 0.2);
/// assert_ne!(jitter.augment(image.clone(), &mut StdRng::seed_from_u64(0)), image);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct ColourJitter {
    /// Factors of brightness, from 0.
    pub brightness: RangeInclusive<f32>,
    /// Factors of contrast, from 0.
    pub contrast: RangeInclusive<f32>,
    /// Factors of saturation, from 0.
    pub saturation: RangeInclusive<f32>,
    /// Shifts of hue, in turns, within `-0.5..=0.5`.
    pub hue: RangeInclusive<f32>,
}

impl ColourJitter {
    /// torchvision's four strengths: factors from `max(0, 1 - s)` to `1 + s`, hue from `-hue` to
    /// `hue`.
    pub fn new(brightness: f32, contrast: f32, saturation: f32, hue: f32) -> Self {
        let factors = |strength: f32| (1.0 - strength).max(0.0)..=1.0 + strength;
        let hue = hue.clamp(0.0, 0.5);
        Self {
            brightness: factors(brightness),
            contrast: factors(contrast),
            saturation: factors(saturation),
            hue: -hue..=hue,
        }
    }
}

impl Transform for ColourJitter {
    fn sample(&self, _: Size, rng: &mut dyn Rng) -> Plan {
        let mut changes = [
            Colour::Brightness(uniform(&self.brightness, rng)),
            Colour::Contrast(uniform(&self.contrast, rng)),
            Colour::Saturation(uniform(&self.saturation, rng)),
            Colour::Hue(uniform(&self.hue, rng)),
        ];
        changes.shuffle(rng);
        let none = [
            Colour::Brightness(1.0),
            Colour::Contrast(1.0),
            Colour::Saturation(1.0),
            Colour::Hue(0.0),
        ];
        // What changes nothing would still cost a pass over the image.
        Plan(changes.into_iter().filter(|change| !none.contains(change)).map(Op::Colour).collect())
    }
}
