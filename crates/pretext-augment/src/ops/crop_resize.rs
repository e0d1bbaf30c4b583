//! Cuts a rectangle out and brings it to a size, antialiased.
//!
//! # Specification
//!
//! The rectangle is cut out first, so that nothing outside of it bleeds in. Each output pixel is
//! the mean of the input pixels around its centre, weighted by a triangle that is as wide as two
//! input pixels, or as two output pixels where the image shrinks (PIL's and torchvision's
//! antialiased bilinear filter). Rows first, then columns; the values between are rounded to bytes,
//! as PIL's are.

use crate::{Image, Rect, Size};

/// Cuts a rectangle out and brings it to a size.
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
        let rect = self.crop.clipped(image.size());
        let image = if rect == Rect::whole(image.size()) {
            image
        } else {
            image.crop(rect).unwrap_or(image)
        };
        let size = Size { width: self.size.width.max(1), height: self.size.height.max(1) };
        if image.size() == size {
            return image;
        }
        let image = across(&image, size.width);
        down(&image, size.height)
    }
}

/// What one output pixel is made of: input pixels from `first` on, by their weights.
struct Window {
    first: usize,
    weights: Vec<f32>,
}

fn windows(from: u32, to: u32) -> Vec<Window> {
    let scale = f64::from(from) / f64::from(to);
    let reach = scale.max(1.0);
    (0..to)
        .map(|i| {
            let centre = (f64::from(i) + 0.5) * scale;
            let first = ((centre - reach + 0.5).max(0.0)) as usize;
            let past = ((centre + reach + 0.5).min(f64::from(from))) as usize;
            let weight = |x: usize| (1.0 - ((x as f64 + 0.5 - centre) / reach).abs()).max(0.0);
            let sum: f64 = (first..past).map(weight).sum();
            Window { first, weights: (first..past).map(|x| (weight(x) / sum) as f32).collect() }
        })
        .collect()
}

fn across(image: &Image, width: u32) -> Image {
    let Size { width: from, height } = image.size();
    if from == width {
        return image.clone();
    }
    let windows = windows(from, width);
    let mut out = Image::filled(Size { width, height }, [0; 3]);
    let rows = image.pixels().chunks_exact(3 * from as usize);
    for (out, row) in out.pixels_mut().chunks_exact_mut(3 * width as usize).zip(rows) {
        let (pixels, _) = row.as_chunks::<3>();
        let (out, _) = out.as_chunks_mut::<3>();
        for (out, window) in out.iter_mut().zip(&windows) {
            let mut sum = [0.5_f32; 3];
            for (pixel, weight) in pixels[window.first..].iter().zip(&window.weights) {
                for (sum, &value) in sum.iter_mut().zip(pixel) {
                    *sum += weight * f32::from(value);
                }
            }
            *out = sum.map(|value| value as u8);
        }
    }
    out
}

fn down(image: &Image, height: u32) -> Image {
    let Size { width, height: from } = image.size();
    if from == height {
        return image.clone();
    }
    let row = 3 * width as usize;
    let mut out = Image::filled(Size { width, height }, [0; 3]);
    let mut sums = vec![0.0_f32; row];
    for (out, window) in out.pixels_mut().chunks_exact_mut(row).zip(windows(from, height)) {
        sums.fill(0.5);
        let rows = image.pixels()[window.first * row..].chunks_exact(row);
        for (values, weight) in rows.zip(&window.weights) {
            for (sum, &value) in sums.iter_mut().zip(values) {
                *sum += weight * f32::from(value);
            }
        }
        for (out, sum) in out.iter_mut().zip(&sums) {
            *out = *sum as u8;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halving_a_gradient_takes_means() {
        let bytes = (0..8).flat_map(|x| [10 * x; 3]).collect();
        let image = Image::new(Size { width: 8, height: 1 }, bytes).unwrap();
        let size = Size { width: 4, height: 1 };
        let out = CropResize { crop: Rect::whole(image.size()), size }.apply(image);
        // By hand: weights 1, 3, 3, 1 eighths inside, 3, 3, 1 sevenths at the borders.
        let reds: Vec<u8> = out.pixels().iter().step_by(3).copied().collect();
        assert_eq!(reds, [7, 25, 45, 63]);
    }

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
            for side in [1, 2, 5] {
                let image = Image::filled(Size { width: w, height: h }, [9, 99, 199]);
                let crop = Rect::whole(image.size());
                let out = CropResize { crop, size: Size::square(side) }.apply(image);
                assert_eq!(out, Image::filled(Size::square(side), [9, 99, 199]));
            }
        }
    }
}
