//! Turns all of an image grey.
//!
//! # Specification
//!
//! `(19595 R + 38470 G + 7471 B + 32768) >> 16` in all channels, in whole numbers, as PIL.

use crate::Image;

/// Sets all channels to the luma of ITU-R BT.601, `0.299 R + 0.587 G + 0.114 B`, rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grey;

impl Grey {
    /// Carries the operation out.
    pub fn apply(&self, mut image: Image) -> Image {
        for pixel in image.pixels_mut().chunks_exact_mut(3) {
            let grey = luma([pixel[0], pixel[1], pixel[2]]);
            pixel.fill(grey);
        }
        image
    }
}

/// The luma of ITU-R BT.601 in whole numbers of 65536ths, as PIL computes it.
pub(crate) fn luma([red, green, blue]: [u8; 3]) -> u8 {
    let sum = 19_595 * u32::from(red) + 38_470 * u32::from(green) + 7_471 * u32::from(blue);
    ((sum + 0x8000) >> 16) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grey_stays_grey() {
        assert!((0..=255).all(|v| luma([v; 3]) == v));
        assert_eq!([luma([255, 0, 0]), luma([0, 255, 0]), luma([0, 0, 255])], [76, 150, 29]);
    }
}
