//! Brings an image to a size and cuts a rectangle out of that, antialiased.

use super::resample::resample;
use crate::{Image, Rect, Size};

/// Brings all of an image to a size, by the filter of [`CropResize`](super::CropResize), and cuts
/// a rectangle out of the result. Nothing but the rectangle is computed, so that the size may be
/// far larger than memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResizeCrop {
    /// The size to bring the image to; a side of 0 counts as 1.
    pub size: Size,
    /// What to cut out, clipped to that size; if nothing of it lies inside, all of it.
    pub crop: Rect,
}

impl ResizeCrop {
    /// Carries the operation out.
    pub fn apply(&self, image: Image) -> Image {
        let (size, part) = self.resized();
        if size == image.size() && part == Rect::whole(size) {
            return image;
        }
        resample(image.view(), size, part)
    }

    /// The size of what comes out.
    pub fn output_size(&self) -> Size {
        self.resized().1.size()
    }

    /// The size that the image is brought to, and what is cut out of that.
    pub(crate) fn resized(&self) -> (Size, Rect) {
        let size = self.size.of_an_image();
        (size, self.crop.clipped_or_whole(size))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::CropResize;

    #[test]
    fn is_a_resize_and_then_a_crop() {
        let image = Image::new(Size::square(6), (0..108).map(|i| i * 2).collect()).unwrap();
        let (size, crop) = (Size { width: 9, height: 4 }, Rect { x: 5, y: 1, width: 3, height: 9 });
        let whole = CropResize { crop: Rect::whole(image.size()), size }.apply(image.clone());
        let op = ResizeCrop { size, crop };
        assert_eq!(op.output_size(), Size { width: 3, height: 3 });
        assert_eq!(op.apply(image), whole.crop(crop).unwrap());
    }

    #[test]
    fn the_middle_of_something_huge() {
        let image = Image::filled(Size { width: 20_000, height: 1 }, [9, 99, 199]);
        let size = Size { width: 4_000_000_000, height: 200_000 };
        let crop = Rect { x: 2_000_000_000, y: 100_000, width: 8, height: 8 };
        let out = ResizeCrop { size, crop }.apply(image);
        assert_eq!(out, Image::filled(Size::square(8), [9, 99, 199]));
    }
}
