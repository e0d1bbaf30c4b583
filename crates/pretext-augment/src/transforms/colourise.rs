//! The input of the colourisation task.

use rand::Rng;

use crate::ops::Grey;
use crate::{Op, Plan, Size, Transform};

/// Turns the whole picture grey: what a network that learns to colourise is shown (Zhang et al.,
/// "Colorful Image Colorization", 2016).
///
#[cfg_attr(doc, doc = include_str!("../../docs/Colourise.md"))]
///
/// ```
/// use pretext_augment::{Colourise, Image, Size, Transform};
/// use rand::{SeedableRng, rngs::StdRng};
///
/// let green = Image::filled(Size::square(2), [0, 255, 0]);
/// let input = Colourise.augment(green, &mut StdRng::seed_from_u64(0));
/// assert_eq!(input.pixel(1, 1), [150, 150, 150]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Colourise;

impl Transform for Colourise {
    /// Draws nothing from the stream.
    fn sample(&self, _: Size, _: &mut dyn Rng) -> Plan {
        Op::Grey(Grey).into()
    }
}
