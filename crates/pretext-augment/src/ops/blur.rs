//! Gaussian blur.
//!
//! # Specification
//!
//! The kernel has `kernel` taps in each direction (an even number counts as the next odd one),
//! `exp(-x^2 / (2 sigma^2))` normalised to sum 1; beyond the border the image is reflected without
//! repeating the border pixel, as often as it takes. As torchvision's `gaussian_blur`. It is carried
//! out in whole numbers, as `weights.rs` specifies; taps that weigh less than a 32768th drop out.

use super::weights::{FIRST, SECOND, gaussian, half};
use crate::{Image, Rect};

/// Blurs all of an image by a Gaussian, as torchvision's `gaussian_blur`.
///
/// The kernel has `kernel` taps in each direction (an even number counts as the next odd one, and
/// more than 16,383 as that many); beyond the border the image is reflected without repeating the
/// border pixel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Blur {
    /// Taps in each direction.
    pub kernel: u32,
    /// Standard deviation in pixels; 0 and below do not blur.
    pub sigma: f32,
}

impl Blur {
    /// A blur whose kernel reaches three standard deviations.
    pub fn of_sigma(sigma: f32) -> Self {
        let reach = (3.0 * sigma.clamp(0.0, 1000.0)).ceil() as u32;
        Self { kernel: 2 * reach + 1, sigma }
    }

    /// Carries the operation out.
    pub fn apply(&self, mut image: Image) -> Image {
        let whole = Rect::whole(image.size());
        blur_rect(&mut image, whole, *self);
        image
    }
}

/// Blurs what a rectangle covers, reading beyond the rectangle but never writing there.
pub(super) fn blur_rect(image: &mut Image, rect: Rect, blur: Blur) {
    let rect = rect.clipped(image.size());
    let blurred = blurred(image, rect, blur, |pixel| pixel);
    let rows = blurred.as_flattened().chunks_exact(3 * rect.width.max(1) as usize);
    for (row, y) in rows.zip(rect.y..) {
        image.row_mut(rect, y).copy_from_slice(row);
    }
}

/// The blurred pixels of a rectangle inside the image, row by row; `f` says what of a pixel is
/// blurred. Nothing is read but the rectangle and what its kernel reaches.
pub(super) fn blurred<const C: usize>(
    image: &Image,
    rect: Rect,
    blur: Blur,
    f: impl Fn([u8; 3]) -> [u8; C],
) -> Vec<[u8; C]> {
    if rect.is_empty() {
        return vec![];
    }
    let size = image.size();
    let mut taps = vec![];
    gaussian(blur.kernel, blur.sigma, &mut taps);
    let reach = (taps.len() / 2) as u32;
    let reached = |start: u32, length: u32, extent: u32| -> Vec<usize> {
        let start = i64::from(start) - i64::from(reach);
        let end = start + i64::from(length) + 2 * i64::from(reach);
        (start..end).map(|at| reflected(at, extent)).collect()
    };
    // What the kernel reaches; and where each place of a row, also beyond the border, is in there.
    let source = grown(rect, reach).clipped(size);
    let columns = reached(rect.x, rect.width, size.width);
    let rows = reached(rect.y, rect.height, size.height);
    let lines: Vec<[u8; C]> = (source.y..source.y + source.height)
        .flat_map(|y| image.row(source, y).as_chunks::<3>().0.iter().map(|&pixel| f(pixel)))
        .collect();

    let width = source.width as usize;
    let mut out = vec![[0; C]; rect.width as usize * rect.height as usize];
    let mut sums = vec![[0; C]; width];
    let mut line = vec![[0; C]; columns.len()];
    for (i, out) in out.chunks_exact_mut(rect.width as usize).enumerate() {
        sums.fill([half(FIRST); C]);
        for (&tap, y) in taps.iter().zip(&rows[i..]) {
            let line = &lines[(y - source.y as usize) * width..][..width];
            for (sum, &value) in sums.as_flattened_mut().iter_mut().zip(line.as_flattened()) {
                *sum += i32::from(tap) * i32::from(value);
            }
        }
        for (value, x) in line.iter_mut().zip(&columns) {
            *value = sums[x - source.x as usize].map(|sum| sum >> FIRST);
        }
        for (x, pixel) in out.iter_mut().enumerate() {
            let mut totals = [half(SECOND); C];
            for (&tap, values) in taps.iter().zip(&line[x..]) {
                for (total, value) in totals.iter_mut().zip(values) {
                    *total += i32::from(tap) * value;
                }
            }
            *pixel = totals.map(|total| (total >> SECOND) as u8);
        }
    }
    out
}

/// A rectangle with so many more pixels at each side, cut off at 0.
pub(crate) fn grown(rect: Rect, by: u32) -> Rect {
    let (x, y) = (rect.x.saturating_sub(by), rect.y.saturating_sub(by));
    Rect {
        x,
        y,
        width: (rect.x - x).saturating_add(rect.width).saturating_add(by),
        height: (rect.y - y).saturating_add(rect.height).saturating_add(by),
    }
}

/// A coordinate beyond the border, reflected as often as it takes: `2 1 | 0 1 2 | 1 0`.
pub(crate) fn reflected(at: i64, extent: u32) -> usize {
    let last = i64::from(extent) - 1;
    if last == 0 {
        return 0;
    }
    let at = at.rem_euclid(2 * last);
    at.min(2 * last - at) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Size;

    #[test]
    fn reflection() {
        let at: Vec<_> = (-3..6).map(|at| reflected(at, 3)).collect();
        assert_eq!(at, [1, 2, 1, 0, 1, 2, 1, 0, 1]);
        assert_eq!(reflected(-7, 1), 0);
    }

    #[test]
    fn a_flat_image_stays() {
        let image = Image::filled(Size { width: 9, height: 4 }, [7, 100, 250]);
        assert_eq!(Blur::of_sigma(2.5).apply(image.clone()), image);
    }

    #[test]
    fn a_point_spreads_as_the_kernel() {
        let mut image = Image::filled(Size::square(9), [0; 3]);
        image.pixels_mut()[3 * (4 * 9 + 4)] = 255;
        let blurred = Blur { kernel: 3, sigma: 1.0 }.apply(image);
        let side = (-0.5_f64).exp();
        let (centre, edge) = (1.0 / (1.0 + 2.0 * side), side / (1.0 + 2.0 * side));
        let want = |a: f64, b: f64| (255.0 * a * b).round() as u8;
        assert_eq!(blurred.pixel(4, 4)[0], want(centre, centre));
        assert_eq!(blurred.pixel(3, 4)[0], want(edge, centre));
        assert_eq!(blurred.pixel(5, 5)[0], want(edge, edge));
        assert_eq!(blurred.pixel(6, 4)[0], 0);
    }
}
