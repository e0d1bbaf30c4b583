//! Blurs rectangles and turns them grey: the operation of RandomGreyBlur.
//!
//! # Specification
//!
//! Regions are treated first to last. For each, the luma of the image as it was before any region
//! was treated is blurred by the region's Gaussian (three standard deviations far, reflected at the
//! image's border) and written to all channels of the pixels inside the region. A region without
//! a blur gets the luma itself. Pixels outside of all regions keep their exact values.

use super::blur::{Blur, blurred};
use super::luma;
use crate::{Image, Rect};

/// Blurs rectangles and turns them grey.
#[derive(Clone, Debug, PartialEq)]
pub struct GreyBlur {
    /// What to treat; a later region wins where they overlap.
    pub regions: Vec<Region>,
}

/// One rectangle of a [`GreyBlur`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Region {
    /// Where, clipped to the image.
    pub rect: Rect,
    /// Standard deviation of the blur in pixels; `None` turns grey only.
    pub sigma: Option<f32>,
}

impl Region {
    /// Its blur; one that does nothing if it only turns grey.
    pub(crate) fn blur(&self) -> Blur {
        self.sigma.map_or(Blur { kernel: 1, sigma: 0.0 }, Blur::of_sigma)
    }
}

impl GreyBlur {
    /// Carries the operation out.
    pub fn apply(&self, mut image: Image) -> Image {
        let patch = |region: &Region| {
            let rect = region.rect.clipped(image.size());
            (rect, blurred(&image, rect, region.blur(), |pixel| [luma(pixel)]))
        };
        // All patches are read before the first is written: what was done to one region must not
        // shine through in another.
        let patches: Vec<_> = self.regions.iter().map(patch).collect();
        for (rect, greys) in patches {
            for (row, y) in greys.chunks_exact(rect.width.max(1) as usize).zip(rect.y..) {
                let (pixels, _) = image.row_mut(rect, y).as_chunks_mut::<3>();
                for (pixel, &[grey]) in pixels.iter_mut().zip(row) {
                    *pixel = [grey; 3];
                }
            }
        }
        image
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Size;
    use crate::ops::Grey;

    /// The specification, word by word: all of the image is made grey and blurred for each region.
    fn plain(op: &GreyBlur, image: &Image) -> Image {
        let mut out = image.clone();
        for Region { rect, sigma } in &op.regions {
            let grey = Grey.apply(image.clone());
            let own = sigma.map_or(grey.clone(), |sigma| Blur::of_sigma(sigma).apply(grey));
            let rect = rect.clipped(image.size());
            for y in rect.y..rect.y + rect.height {
                out.row_mut(rect, y).copy_from_slice(own.row(rect, y));
            }
        }
        out
    }

    #[track_caller]
    fn check(size: Size, regions: &[(Rect, Option<f32>)]) {
        let bytes =
            (0..3 * size.area() as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8);
        let image = Image::new(size, bytes.collect()).unwrap();
        let regions = regions.iter().map(|&(rect, sigma)| Region { rect, sigma }).collect();
        let op = GreyBlur { regions };
        let want = plain(&op, &image);
        assert!(op.apply(image) == want, "{op:?}");
    }

    #[test]
    fn is_what_the_plain_way_gives() {
        let rect = |x, y, width, height| Rect { x, y, width, height };
        let size = Size { width: 40, height: 29 };
        check(size, &[(rect(3, 4, 10, 9), Some(2.0))]);
        check(size, &[(rect(0, 0, 7, 5), Some(4.5)), (rect(33, 20, 7, 9), Some(0.7))]);
        check(size, &[(rect(3, 4, 20, 20), Some(3.0)), (rect(10, 9, 20, 12), Some(1.5))]);
        check(size, &[(rect(3, 4, 20, 20), Some(3.0)), (rect(10, 9, 20, 12), None)]);
        // Beyond the border, nothing at all, a kernel wider than the image, no blur by sigma.
        check(size, &[(rect(35, 25, 90, 90), Some(1.0)), (rect(99, 0, 3, 3), Some(1.0))]);
        check(size, &[(rect(5, 5, 0, 9), Some(1.0)), (rect(1, 1, 30, 3), Some(60.0))]);
        check(size, &[(rect(5, 5, 4, 9), Some(0.0)), (rect(1, 1, 3, 3), Some(-1.0))]);
        check(Size { width: 1, height: 50 }, &[(rect(0, 9, 1, 9), Some(2.0))]);
        check(Size::square(1), &[(rect(0, 0, 1, 1), Some(2.0))]);
    }
}
