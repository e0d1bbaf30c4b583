//! Antialiased resizing of a rectangle, of which only the part that is asked for is computed.
//!
//! # Specification
//!
//! Nothing outside of the rectangle bleeds in. Each output pixel is the mean of the input pixels
//! around its centre, weighted in each direction by a triangle that is as wide as two input pixels,
//! or as two output pixels where the image shrinks: the antialiased bilinear filter of PIL and
//! torchvision. Only the result is rounded to bytes, halves up. PIL rounds between its two passes
//! too, and its versions differ in which comes first: this is within one level of all of them.

use crate::{Image, Rect, Size};

/// Brings `crop` to `size` and returns `part` of it. `crop` must lie inside the image, `part`
/// inside of `size`, and both must hold a pixel.
pub(super) fn resample(image: &Image, crop: Rect, size: Size, part: Rect) -> Image {
    let columns = windows(crop.width, size.width, part.x..part.x + part.width);
    let rows = windows(crop.height, size.height, part.y..part.y + part.height);
    // Only the rows that the second pass reads.
    let top = rows.first().map_or(0, |window| window.first);
    let bottom = rows.last().map_or(0, |window| window.first + window.weights.len());
    let strip = Rect { y: crop.y + top as u32, height: (bottom - top) as u32, ..crop };
    down(&across(image, strip, &columns), top, &rows, part.width)
}

/// What one output pixel is made of: input pixels from `first` on, by their weights.
struct Window {
    first: usize,
    weights: Vec<f32>,
}

fn windows(from: u32, to: u32, wanted: std::ops::Range<u32>) -> Vec<Window> {
    let scale = f64::from(from) / f64::from(to);
    let reach = scale.max(1.0);
    wanted
        .map(|i| {
            let centre = (f64::from(i) + 0.5) * scale;
            let first = (centre - reach + 0.5).max(0.0) as usize;
            let past = (centre + reach + 0.5).min(f64::from(from)) as usize;
            let weight = |x: usize| (1.0 - ((x as f64 + 0.5 - centre) / reach).abs()).max(0.0);
            let sum: f64 = (first..past).map(weight).sum();
            Window { first, weights: (first..past).map(|x| (weight(x) / sum) as f32).collect() }
        })
        .collect()
}

/// The first pass: `[strip's height, columns, 3]`, not rounded.
fn across(image: &Image, strip: Rect, columns: &[Window]) -> Vec<[f32; 3]> {
    let mut out = Vec::with_capacity(columns.len() * strip.height as usize);
    for y in strip.y..strip.y + strip.height {
        let (pixels, _) = image.row(strip, y).as_chunks::<3>();
        out.extend(columns.iter().map(|window| {
            let mut sum = [0.0; 3];
            for (pixel, weight) in pixels[window.first..].iter().zip(&window.weights) {
                for (sum, &value) in sum.iter_mut().zip(pixel) {
                    *sum += weight * f32::from(value);
                }
            }
            sum
        }));
    }
    out
}

/// The second pass, over lines of which the first is row `top`.
fn down(lines: &[[f32; 3]], top: usize, rows: &[Window], width: u32) -> Image {
    let line = 3 * width as usize;
    let mut out = Image::filled(Size { width, height: rows.len() as u32 }, [0; 3]);
    let mut sums = vec![0.0_f32; line];
    for (out, window) in out.pixels_mut().chunks_exact_mut(line).zip(rows) {
        sums.fill(0.5);
        let inputs = lines.as_flattened()[(window.first - top) * line..].chunks_exact(line);
        for (values, weight) in inputs.zip(&window.weights) {
            for (sum, value) in sums.iter_mut().zip(values) {
                *sum += weight * value;
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

    fn noise(size: Size) -> Image {
        let bytes =
            (0..3 * size.area() as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8);
        Image::new(size, bytes.collect()).unwrap()
    }

    #[test]
    fn a_part_is_what_cutting_the_whole_gives() {
        let image = noise(Size { width: 23, height: 31 });
        let crop = Rect { x: 2, y: 5, width: 17, height: 24 };
        for (width, height) in [(40, 50), (9, 7), (17, 24), (30, 5)] {
            let size = Size { width, height };
            let whole = resample(&image, crop, size, Rect::whole(size));
            let part = Rect { x: 3, y: 1, width: 5, height: 4 };
            assert_eq!(resample(&image, crop, size, part), whole.crop(part).unwrap());
        }
    }

    #[test]
    fn the_same_size_is_a_copy() {
        let image = noise(Size { width: 9, height: 5 });
        let whole = Rect::whole(image.size());
        assert_eq!(resample(&image, whole, image.size(), whole), image);
    }

    #[test]
    fn halving_a_gradient_takes_means() {
        let bytes = (0..8).flat_map(|x| [10 * x; 3]).collect();
        let image = Image::new(Size { width: 8, height: 1 }, bytes).unwrap();
        let size = Size { width: 4, height: 1 };
        let out = resample(&image, Rect::whole(image.size()), size, Rect::whole(size));
        // By hand: weights 1, 3, 3, 1 eighths inside, 3, 3, 1 sevenths at the borders.
        let reds: Vec<u8> = out.pixels().iter().step_by(3).copied().collect();
        assert_eq!(reds, [7, 25, 45, 63]);
    }
}
