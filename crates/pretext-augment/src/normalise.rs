//! From bytes to what a network takes, and back.

use crate::{Image, Size};

/// Brings each channel to zero mean and unit deviation: `(byte / 255 - mean) / std`, in this order
/// and in `f32`, so that the numbers are those of torchvision's `ToTensor` and `Normalize` and of
/// fastai, bit for bit.
///
#[cfg_attr(doc, doc = include_str!("../docs/Normalise.md"))]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Normalise {
    /// Mean of red, green and blue, within `0..=1`.
    pub mean: [f32; 3],
    /// Standard deviation of red, green and blue, above 0.
    pub std: [f32; 3],
}

impl Normalise {
    /// The statistics of ImageNet, which most published recipes use.
    pub const IMAGENET: Self = Self { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };

    /// Bytes to `0..=1`, nothing more.
    pub const UNIT: Self = Self { mean: [0.0; 3], std: [1.0; 3] };

    /// Writes an image as `[3, H, W]`.
    ///
    /// ```
    /// use pretext_augment::{Image, Normalise, Size};
    ///
    /// let image = Image::filled(Size::square(2), [255, 0, 51]);
    /// let mut out = [0.0; 12];
    /// Normalise::UNIT.to_chw(&image, &mut out);
    /// assert_eq!(out[..5], [1.0, 1.0, 1.0, 1.0, 0.0]);
    /// assert!((out[8] - 0.2).abs() < 1e-6);
    /// ```
    ///
    /// # Panics
    /// If `out` does not hold three numbers for each pixel.
    pub fn to_chw(&self, image: &Image, out: &mut [f32]) {
        let plane = image.size().area() as usize;
        assert_eq!(out.len(), 3 * plane, "three numbers for each pixel of {image:?}");
        let (pixels, _) = image.pixels().as_chunks::<3>();
        for (channel, out) in out.chunks_exact_mut(plane).enumerate() {
            // The divisions are done once for each byte there is, not for each pixel.
            let values: [f32; 256] = std::array::from_fn(|byte| {
                (byte as f32 / 255.0 - self.mean[channel]) / self.std[channel]
            });
            for (out, pixel) in out.iter_mut().zip(pixels) {
                *out = values[usize::from(pixel[channel])];
            }
        }
    }

    /// The image of normalised `[3, H, W]`; values outside of what a byte holds are clipped.
    ///
    /// # Panics
    /// If `values` does not hold three numbers for each pixel.
    pub fn to_image(&self, values: &[f32], size: Size) -> Image {
        let plane = size.area() as usize;
        assert_eq!(values.len(), 3 * plane, "three numbers for each pixel of {size:?}");
        let mut image = Image::filled(size, [0; 3]);
        for (i, pixel) in image.pixels_mut().chunks_exact_mut(3).enumerate() {
            for (channel, byte) in pixel.iter_mut().enumerate() {
                let unit = values[channel * plane + i] * self.std[channel] + self.mean[channel];
                *byte = (unit * 255.0).round().clamp(0.0, 255.0) as u8;
            }
        }
        image
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let size = Size { width: 16, height: 16 };
        let image = Image::new(size, (0..768).map(|i| i as u8).collect()).unwrap();
        let mut values = vec![0.0; 768];
        Normalise::IMAGENET.to_chw(&image, &mut values);
        assert!((values[0] + 0.485 / 0.229).abs() < 1e-5);
        assert_eq!(Normalise::IMAGENET.to_image(&values, size), image);
    }
}
