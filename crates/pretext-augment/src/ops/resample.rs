//! Antialiased resizing of a picture, of which only the part that is asked for is computed.
//!
//! # Specification
//!
//! Each output pixel is the mean of the input pixels around its centre, weighted in each direction by
//! a triangle that is as wide as two input pixels, or as two output pixels where the image shrinks:
//! the antialiased bilinear filter of PIL and torchvision. It is carried out in whole numbers, as
//! `weights.rs` specifies. PIL rounds between its two passes to levels, and its versions differ in
//! which comes first: this is within one level of all of them.

use super::weights::{FIRST, SECOND, Windows, half};
use crate::{Image, ImageRef, Rect, Size};

/// Brings an image to `size` and returns `part` of it, which must lie inside of `size` and hold a
/// pixel.
pub(super) fn resample(image: ImageRef<'_>, size: Size, part: Rect) -> Image {
    let Size { width, height } = image.size();
    let rows = Windows::new(height, size.height, part.y..part.y + part.height);
    let columns = Windows::new(width, size.width, part.x..part.x + part.width);
    let mut out = Image::filled(part.size(), [0; 3]);
    let mut sums = vec![[0_i32; 3]; width as usize];
    for (y, out) in out.pixels_mut().chunks_exact_mut(3 * part.width as usize).enumerate() {
        down(image, &rows, y, &mut sums);
        along(&sums, &columns, out);
    }
    out
}

/// The first pass: one row of the output's, in 128ths of a level.
fn down(image: ImageRef<'_>, rows: &Windows, y: usize, sums: &mut [[i32; 3]]) {
    sums.fill([half(FIRST); 3]);
    let (first, weights) = rows.at(y);
    for (y, &weight) in (first as u32..image.size().height).zip(weights.as_flattened()) {
        for (sum, &byte) in sums.as_flattened_mut().iter_mut().zip(image.row(y)) {
            *sum += i32::from(weight) * i32::from(byte);
        }
    }
    for sum in sums.as_flattened_mut() {
        *sum >>= FIRST;
    }
}

/// The second pass: the row's pixels.
fn along(line: &[[i32; 3]], columns: &Windows, out: &mut [u8]) {
    let (pixels, _) = out.as_chunks_mut::<3>();
    for (x, pixel) in pixels.iter_mut().enumerate() {
        let (first, weights) = columns.at(x);
        let mut sums = [half(SECOND); 3];
        for (values, &weight) in line[first..].iter().zip(weights.as_flattened()) {
            for (sum, value) in sums.iter_mut().zip(values) {
                *sum += i32::from(weight) * value;
            }
        }
        *pixel = sums.map(|sum| (sum >> SECOND) as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(size: Size) -> Image {
        let bytes =
            (0..3 * size.area() as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8);
        Image::new(size, bytes.collect()).unwrap()
    }

    #[test]
    fn a_part_is_what_cutting_the_whole_gives() {
        let image = noise(Size { width: 23, height: 31 });
        let crop = image.view().crop(Rect { x: 2, y: 5, width: 17, height: 24 }).unwrap();
        for (width, height) in [(40, 50), (9, 7), (17, 24), (30, 5)] {
            let size = Size { width, height };
            let whole = resample(crop, size, Rect::whole(size));
            let part = Rect { x: 3, y: 1, width: 5, height: 4 };
            assert_eq!(resample(crop, size, part), whole.crop(part).unwrap());
        }
    }

    #[test]
    fn the_same_size_is_a_copy() {
        let image = noise(Size { width: 9, height: 5 });
        let whole = Rect::whole(image.size());
        assert_eq!(resample(image.view(), image.size(), whole), image);
    }

    #[test]
    fn halving_a_gradient_takes_means() {
        let bytes = (0..8).flat_map(|x| [10 * x; 3]).collect();
        let image = Image::new(Size { width: 8, height: 1 }, bytes).unwrap();
        let size = Size { width: 4, height: 1 };
        let out = resample(image.view(), size, Rect::whole(size));
        // By hand: weights 1, 3, 3, 1 eighths inside, 3, 3, 1 sevenths at the borders.
        let reds: Vec<u8> = out.pixels().iter().step_by(3).copied().collect();
        assert_eq!(reds, [7, 25, 45, 63]);
    }

    /// The filter in real numbers.
    fn real(image: &Image, size: Size, x: u32, y: u32, channel: usize) -> f64 {
        let triangle = |from: u32, to: u32, at: u32, i: u32| {
            let scale = f64::from(from) / f64::from(to);
            let distance = f64::from(i) + 0.5 - (f64::from(at) + 0.5) * scale;
            (1.0 - (distance / scale.max(1.0)).abs()).max(0.0)
        };
        let (mut sum, mut weights) = (0.0, 0.0);
        for row in 0..image.size().height {
            for column in 0..image.size().width {
                let weight = triangle(image.size().height, size.height, y, row)
                    * triangle(image.size().width, size.width, x, column);
                sum += weight * f64::from(image.pixel(column, row)[channel]);
                weights += weight;
            }
        }
        sum / weights
    }

    #[test]
    fn whole_numbers_are_near_the_real_ones() {
        let image = noise(Size { width: 37, height: 29 });
        for (width, height) in [(16, 12), (60, 50), (36, 28), (1, 1), (5, 60)] {
            let size = Size { width, height };
            let out = resample(image.view(), size, Rect::whole(size));
            for (x, y) in [(0, 0), (width / 2, height / 3), (width - 1, height - 1)] {
                for channel in 0..3 {
                    let off =
                        f64::from(out.pixel(x, y)[channel]) - real(&image, size, x, y, channel);
                    assert!(off.abs() < 0.53, "{size:?} ({x}, {y}): off by {off}");
                }
            }
        }
    }
}
