//! Mirrors left and right: column `x` becomes column `width - 1 - x`.

use crate::Image;

/// Mirrors left and right; twice is nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flip;

impl Flip {
    /// Carries the operation out.
    pub fn apply(&self, mut image: Image) -> Image {
        let width = image.size().width as usize;
        for row in image.pixels_mut().chunks_exact_mut(3 * width) {
            let (pixels, _) = row.as_chunks_mut::<3>();
            pixels.reverse();
        }
        image
    }
}
