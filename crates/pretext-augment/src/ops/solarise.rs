//! Inverts bright values.
//!
//! # Specification
//!
//! A value that is at least the threshold becomes 255 less the value; others stay.

use crate::Image;

/// Inverts each value that is at least the threshold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Solarise {
    /// The smallest value that is inverted.
    pub threshold: u8,
}

impl Solarise {
    /// Carries the operation out.
    pub fn apply(&self, mut image: Image) -> Image {
        for value in image.pixels_mut() {
            if *value >= self.threshold {
                *value = 255 - *value;
            }
        }
        image
    }
}
