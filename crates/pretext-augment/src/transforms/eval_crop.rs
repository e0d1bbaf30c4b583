//! The one crop that a picture is scored by: central, without chance.

use rand::Rng;

use crate::ops::ResizeCrop;
use crate::{Op, Plan, Rect, Size, Transform};

/// Shrinks or grows a picture and takes the centre.
///
#[cfg_attr(doc, doc = include_str!("../../docs/EvalCrop.md"))]
///
/// ```
/// use pretext_augment::{EvalCrop, Image, Size, Transform};
/// use rand::{SeedableRng, rngs::StdRng};
///
/// let image = Image::filled(Size { width: 213, height: 160 }, [90, 120, 60]);
/// let view = EvalCrop::fastai(128).augment(image, &mut StdRng::seed_from_u64(0));
/// assert_eq!(view.size(), Size::square(128));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EvalCrop {
    side: u32,
    resize: Resize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Resize {
    /// Both sides to this many pixels, whatever the picture's ratio.
    Both(u32),
    /// The shorter side to this many pixels.
    Shorter(u32),
}

impl EvalCrop {
    /// As fastai's `RandomResizedCrop` validates: the whole picture, whatever its ratio, is brought
    /// to a square that is 14 % larger, rounded up to a multiple of 8 (128 to 152, 192 to 224, 224
    /// to 256), and its centre taken.
    pub fn fastai(side: u32) -> Self {
        let side = side.max(1);
        let extra = (f64::from(side) * 0.14 / 8.0).ceil() as u32 * 8;
        Self { side, resize: Resize::Both(side.saturating_add(extra)) }
    }

    /// As torchvision's ImageNet recipes validate: the shorter side is brought to `resize` pixels,
    /// and the centre taken.
    pub fn torchvision(resize: u32, side: u32) -> Self {
        let side = side.max(1);
        Self { side, resize: Resize::Shorter(resize.max(side)) }
    }

    fn resized(&self, size: Size) -> Size {
        match self.resize {
            Resize::Both(side) => Size::square(side),
            Resize::Shorter(side) => {
                let shorter = size.width.min(size.height).max(1);
                let scaled = |extent: u32| {
                    // torchvision rounds the longer side down.
                    let scaled = u64::from(side) * u64::from(extent) / u64::from(shorter);
                    u32::try_from(scaled).unwrap_or(u32::MAX)
                };
                Size { width: scaled(size.width), height: scaled(size.height) }
            }
        }
    }
}

impl Transform for EvalCrop {
    /// Draws nothing from the stream.
    fn sample(&self, size: Size, _: &mut dyn Rng) -> Plan {
        let size = size.of_an_image();
        let resized = self.resized(size);
        let start = |extent: u32| match self.resize {
            Resize::Both(_) => (extent - self.side) / 2,
            // torchvision rounds the margin to the nearest, halves to even.
            Resize::Shorter(_) => (f64::from(extent - self.side) / 2.0).round_ties_even() as u32,
        };
        let crop = Rect {
            x: start(resized.width),
            y: start(resized.height),
            width: self.side,
            height: self.side,
        };
        Op::ResizeCrop(ResizeCrop { size: resized, crop }).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fastai_sizes() {
        let sizes = [32, 128, 192, 224].map(|side| EvalCrop::fastai(side).resize);
        assert_eq!(sizes, [40, 152, 224, 256].map(Resize::Both));
    }

    #[test]
    fn torchvision_keeps_the_ratio() {
        let crop = EvalCrop::torchvision(256, 224);
        let size = crop.resized(Size { width: 640, height: 480 });
        assert_eq!(size, Size { width: 341, height: 256 });
    }
}
