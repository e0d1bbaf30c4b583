//! Nearest and bilinear up-sampling (and down-sampling) to any size.

use candle_core::{Result, Tensor, bail};

use crate::channels_last::pixels::Terms;
use crate::plane::{self, Plane};
use crate::values::Float;

/// Repeats the nearest pixel, as `torch.nn.functional.interpolate(mode="nearest")`.
///
/// `x`: `[N, C, H, W]`, `f32` or `f64`; returns `[N, C, height, width]`. Output row `i` is input
/// row `floor(i H / height)`, computed in `f32` as PyTorch does for `f32` pictures: for about one
/// pair of sizes in a hundred (2 to 82 is one) a row differs from exact arithmetic's.
///
/// # Errors
/// If the dtype, device or rank does not fit, or a side is 0.
///
/// ```
/// use candle_core::{Device, Tensor};
///
/// let x = Tensor::new(&[[[[1f32, 2.]]]], &Device::Cpu)?;
/// let y = pretext_ops::upsample_nearest2d(&x, 1, 5)?;
/// assert_eq!(y.flatten_all()?.to_vec1::<f32>()?, [1., 1., 1., 2., 2.]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn upsample_nearest2d(x: &Tensor, height: usize, width: usize) -> Result<Tensor> {
    check("upsample_nearest2d", x, height, width)?;
    plane::apply(x, Nearest { height, width })
}

/// Blends the four nearest pixels, as `torch.nn.functional.interpolate(mode="bilinear",
/// align_corners=False)`, without antialiasing.
///
/// `x`: `[N, C, H, W]`, `f32` or `f64`; returns `[N, C, height, width]`. Output row `i` lies at
/// input row `(i + 1/2) H / height - 1/2`, within the picture.
///
/// # Errors
/// If the dtype, device or rank does not fit, or a side is 0.
///
/// ```
/// use candle_core::{Device, Tensor};
///
/// let x = Tensor::new(&[[[[0f32, 4.]]]], &Device::Cpu)?;
/// let y = pretext_ops::upsample_bilinear2d(&x, 1, 4)?;
/// assert_eq!(y.flatten_all()?.to_vec1::<f32>()?, [0., 1., 3., 4.]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn upsample_bilinear2d(x: &Tensor, height: usize, width: usize) -> Result<Tensor> {
    check("upsample_bilinear2d", x, height, width)?;
    plane::apply(x, Bilinear { height, width })
}

fn check(op: &str, x: &Tensor, height: usize, width: usize) -> Result<()> {
    let (_, _, h, w) = plane::input(op, x)?;
    check_sizes(op, (h, w), height, width)
}

pub(crate) fn check_sizes(
    op: &str,
    (h, w): (usize, usize),
    height: usize,
    width: usize,
) -> Result<()> {
    if h == 0 || w == 0 || height == 0 || width == 0 {
        bail!("{op}: from {h} x {w} to {height} x {width}; no side may be 0")
    }
    Ok(())
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Nearest {
    pub(crate) height: usize,
    pub(crate) width: usize,
}

/// The input pixel that output pixel `i` repeats, in PyTorch's rounding.
fn nearest(i: usize, from: usize, to: usize) -> usize {
    ((i as f32 * (from as f32 / to as f32)) as usize).min(from - 1)
}

impl Nearest {
    #[inline(always)]
    fn each(&self, (h, w): (usize, usize), mut f: impl FnMut(usize, usize)) {
        let columns: Vec<usize> = (0..self.width).map(|j| nearest(j, w, self.width)).collect();
        for i in 0..self.height {
            let row = nearest(i, h, self.height) * w;
            for (j, column) in columns.iter().enumerate() {
                f(i * self.width + j, row + column);
            }
        }
    }
}

impl Terms for Nearest {
    const NAME: &'static str = <Self as Plane>::NAME;

    #[inline(always)]
    fn each_term(&self, input: (usize, usize), mut f: impl FnMut(usize, usize, f64)) {
        self.each(input, |to, from| f(to, from, 1.0));
    }
}

impl Plane for Nearest {
    const NAME: &'static str = "upsample_nearest2d";

    fn size(&self, _: (usize, usize)) -> (usize, usize) {
        (self.height, self.width)
    }

    fn forward<T: Float>(&self, input: (usize, usize), x: &[T], y: &mut [T]) {
        self.each(input, |to, from| y[to] = x[from]);
    }

    fn backward<T: Float>(&self, input: (usize, usize), _: &[T], dy: &[T], dx: &mut [T]) {
        self.each(input, |to, from| dx[from] += dy[to]);
    }
}

#[derive(Clone, Copy)]
struct Bilinear {
    height: usize,
    width: usize,
}

/// The two places that output pixel `i` blends, and the second one's share.
fn blend(i: usize, from: usize, to: usize) -> (usize, usize, f64) {
    let centre = ((i as f64 + 0.5) * from as f64 / to as f64 - 0.5).max(0.0);
    let low = (centre as usize).min(from - 1);
    (low, (low + 1).min(from - 1), centre - low as f64)
}

impl Bilinear {
    /// Calls `f(to, [(from, weight); 4])`.
    fn each<T: Float>(&self, (h, w): (usize, usize), mut f: impl FnMut(usize, [(usize, T); 4])) {
        for i in 0..self.height {
            let (top, bottom, down) = blend(i, h, self.height);
            for j in 0..self.width {
                let (left, right, across) = blend(j, w, self.width);
                let corner = |y: usize, x: usize, share: f64| (y * w + x, T::from_f64(share));
                f(
                    i * self.width + j,
                    [
                        corner(top, left, (1.0 - down) * (1.0 - across)),
                        corner(top, right, (1.0 - down) * across),
                        corner(bottom, left, down * (1.0 - across)),
                        corner(bottom, right, down * across),
                    ],
                );
            }
        }
    }
}

impl Plane for Bilinear {
    const NAME: &'static str = "upsample_bilinear2d";

    fn size(&self, _: (usize, usize)) -> (usize, usize) {
        (self.height, self.width)
    }

    fn forward<T: Float>(&self, input: (usize, usize), x: &[T], y: &mut [T]) {
        self.each(input, |to, corners: [(usize, T); 4]| {
            let mut sum = T::zero();
            for (from, weight) in corners {
                sum += x[from] * weight;
            }
            y[to] = sum;
        });
    }

    fn backward<T: Float>(&self, input: (usize, usize), _: &[T], dy: &[T], dx: &mut [T]) {
        self.each(input, |to, corners: [(usize, T); 4]| {
            for (from, weight) in corners {
                dx[from] += dy[to] * weight;
            }
        });
    }
}
