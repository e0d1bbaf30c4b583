//! Cuts a rectangle out and brings it to a size, antialiased.

use super::resample::resample;
use crate::{Image, Rect, Size};

/// Cuts a rectangle out and brings it to a size by PIL's and torchvision's antialiased bilinear
/// filter. What lies outside of the rectangle does not bleed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CropResize {
    /// What to cut out, clipped to the image; if nothing of it lies inside, the whole image.
    pub crop: Rect,
    /// The size to bring it to; a side of 0 counts as 1.
    pub size: Size,
}

impl CropResize {
    /// Carries the operation out.
    pub fn apply(&self, image: Image) -> Image {
        let crop = self.crop.clipped_or_whole(image.size());
        let size = self.output_size();
        if crop == Rect::whole(size) && size == image.size() {
            return image;
        }
        let view = image.view();
        resample(view.crop(crop).unwrap_or(view), size, Rect::whole(size))
    }

    /// The size of what comes out.
    pub fn output_size(&self) -> Size {
        self.size.of_an_image()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_outside_of_the_crop_does_not_bleed_in() {
        let mut image = Image::filled(Size::square(8), [255; 3]);
        let rect = Rect { x: 2, y: 2, width: 4, height: 4 };
        for y in 2..6 {
            image.row_mut(rect, y).fill(0);
        }
        for side in [1, 2, 3, 5, 16] {
            let out = CropResize { crop: rect, size: Size::square(side) }.apply(image.clone());
            assert!(out.pixels().iter().all(|&value| value == 0));
        }
    }

    #[test]
    fn any_size_to_any_size() {
        for (w, h) in [(1, 1), (1, 7), (20_000, 1), (3, 2)] {
            for side in [0, 1, 2, 5] {
                let image = Image::filled(Size { width: w, height: h }, [9, 99, 199]);
                let op = CropResize { crop: Rect::whole(image.size()), size: Size::square(side) };
                assert_eq!(op.apply(image), Image::filled(op.output_size(), [9, 99, 199]));
            }
        }
    }
}
