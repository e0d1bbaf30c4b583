//! Gaussian blur.

use crate::{Image, Rect};

/// Blurs all of an image by a Gaussian.
///
/// The kernel has `kernel` taps in each direction (an even number counts as the next odd one),
/// `exp(-x^2 / (2 sigma^2))` normalised to sum 1; beyond the border the image is reflected without
/// repeating the border pixel. As torchvision's `gaussian_blur`.
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
        blur_rect(&mut image, whole, *self, |pixel| pixel);
        image
    }

    fn taps(&self) -> Vec<f32> {
        let reach = (self.kernel / 2) as i32;
        let weight = |i: i32| (-0.5 * (f64::from(i) / f64::from(self.sigma)).powi(2)).exp();
        let sum: f64 = (-reach..=reach).map(weight).sum();
        (-reach..=reach).map(|i| (weight(i) / sum) as f32).collect()
    }
}

/// Blurs what a rectangle covers, reading beyond the rectangle but never writing there; `f` is
/// applied to each pixel first.
pub(crate) fn blur_rect(image: &mut Image, rect: Rect, blur: Blur, f: impl Fn([u8; 3]) -> [u8; 3]) {
    let size = image.size();
    let rect = rect.clipped(size);
    if rect.is_empty() {
        return;
    }
    let taps = if blur.sigma > 0.0 { blur.taps() } else { vec![1.0] };
    let reach = (taps.len() / 2) as i64;
    let (width, first) = (rect.width as usize, i64::from(rect.y) - reach);
    // Across: every row that the rectangle's blur reads, reflected rows included.
    let columns: Vec<usize> = (i64::from(rect.x) - reach
        ..i64::from(rect.x) + i64::from(rect.width) + reach)
        .map(|x| reflected(x, size.width))
        .collect();
    let rows = rect.height as usize + 2 * reach as usize;
    let mut across = vec![[0.0_f32; 3]; rows * width];
    let mut line = vec![[0.0_f32; 3]; columns.len()];
    for (row, out) in across.chunks_exact_mut(width).enumerate() {
        let y = reflected(first + row as i64, size.height);
        let source = image.row(Rect::whole(size), y as u32);
        for (value, &x) in line.iter_mut().zip(&columns) {
            let pixel = f([source[3 * x], source[3 * x + 1], source[3 * x + 2]]);
            *value = pixel.map(f32::from);
        }
        for (x, out) in out.iter_mut().enumerate() {
            *out = weighted(&taps, line[x..].iter());
        }
    }
    // Down.
    for (i, y) in (rect.y..rect.y + rect.height).enumerate() {
        let (out, _) = image.row_mut(rect, y).as_chunks_mut::<3>();
        for (x, out) in out.iter_mut().enumerate() {
            let column = across[i * width + x..].iter().step_by(width);
            *out = weighted(&taps, column).map(|value| (value + 0.5) as u8);
        }
    }
}

fn weighted<'a>(taps: &[f32], values: impl Iterator<Item = &'a [f32; 3]>) -> [f32; 3] {
    let mut sum = [0.0; 3];
    for (tap, value) in taps.iter().zip(values) {
        for (sum, value) in sum.iter_mut().zip(value) {
            *sum += tap * value;
        }
    }
    sum
}

/// A coordinate beyond the border, reflected as often as it takes: `2 1 | 0 1 2 | 1 0`.
fn reflected(at: i64, extent: u32) -> usize {
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
