//! Blurs that keep strided layers from aliasing.

use candle_core::{Result, Tensor, bail};

use crate::channels_last::pixels::Terms;
use crate::plane::{self, Plane};
use crate::values::{Float, check_sizes};

/// Blurs each channel with a binomial filter and keeps every `stride`th pixel (Zhang, "Making
/// Convolutional Networks Shift-Invariant Again", 2019), with reflected borders.
///
/// * `x`: `[N, C, H, W]`, `f32` or `f64`.
/// * `kernel`: the filter's length, 1 to 15; its weights are a row of Pascal's triangle, with sum
///   1: 3 gives 1/4 1/2 1/4. An even filter reaches one pixel further down and right.
/// * Returns `[N, C, ceil(H / stride), ceil(W / stride)]`.
///
/// Where a side is so short (`kernel / 2` or less) that a reflected pixel would lie beyond the other
/// border, that border's pixel stands in; PyTorch's reflection padding refuses there.
///
/// # Errors
/// If the dtype, device or rank does not fit, a side or the stride is 0, or the kernel is out of
/// range.
///
/// ```
/// use candle_core::{Device, Tensor};
///
/// let x = Tensor::new(&[[[[0f32, 4., 8.]]]], &Device::Cpu)?;
/// let y = pretext_ops::blur_pool2d(&x, 3, 1)?;
/// assert_eq!(y.flatten_all()?.to_vec1::<f32>()?, [2., 4., 6.]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn blur_pool2d(x: &Tensor, kernel: usize, stride: usize) -> Result<Tensor> {
    let (_, _, h, w) = plane::input("blur_pool2d", x)?;
    plane::apply(x, blur_pool_of((h, w), kernel, stride)?)
}

pub(crate) fn blur_pool_of((h, w): (usize, usize), kernel: usize, stride: usize) -> Result<Blur> {
    if !(1..=LONGEST).contains(&kernel) || stride == 0 {
        bail!(
            "blur_pool2d: the kernel is {kernel} (it must be 1 to {LONGEST}), the stride {stride} \
             (it must not be 0)"
        )
    }
    check_sizes("blur_pool2d", &[("stride", stride)])?;
    if h == 0 || w == 0 {
        bail!("blur_pool2d: the planes of {h} x {w} pixels are empty")
    }
    let before = (kernel - 1) / 2;
    let (after, border) = (kernel - 1 - before, Border::Reflect);
    Ok(Blur { weights: binomial(kernel), kernel, stride, before, after, border })
}

/// The mean of each pixel, the one above, the one to the left and the one between, with repeated
/// borders: what fastai puts behind a pixel shuffle (Sugawara et al., "Super-Resolution Using
/// Convolutional Neural Networks Without Any Checkerboard Artifacts", 2018).
///
/// `x`: `[N, C, H, W]`, `f32` or `f64`; the shape stays.
///
/// # Errors
/// If the dtype, device or rank does not fit, or a side is 0.
pub fn replicate_blur2d(x: &Tensor) -> Result<Tensor> {
    let (_, _, h, w) = plane::input("replicate_blur2d", x)?;
    plane::apply(x, replicate_blur_of((h, w))?)
}

pub(crate) fn replicate_blur_of((h, w): (usize, usize)) -> Result<Blur> {
    if h == 0 || w == 0 {
        bail!("replicate_blur2d: the planes of {h} x {w} pixels are empty")
    }
    let weights = binomial(2);
    Ok(Blur { weights, kernel: 2, stride: 1, before: 1, after: 0, border: Border::Repeat })
}

/// The longest filter.
const LONGEST: usize = 15;

/// A row of Pascal's triangle with sum 1, and zeros after it.
fn binomial(kernel: usize) -> [f64; LONGEST] {
    let mut weights = [0.0; LONGEST];
    weights[0] = 1.0;
    for row in 1..kernel {
        for i in (1..=row).rev() {
            weights[i] += weights[i - 1];
        }
    }
    weights.map(|weight| weight / 2.0_f64.powi(kernel as i32 - 1))
}

#[derive(Clone, Copy, Debug)]
enum Border {
    Reflect,
    Repeat,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Blur {
    weights: [f64; LONGEST],
    kernel: usize,
    stride: usize,
    /// Padding above and to the left, and below and to the right.
    before: usize,
    after: usize,
    border: Border,
}

impl Blur {
    fn count(&self, extent: usize) -> usize {
        (extent + self.before + self.after - self.kernel) / self.stride + 1
    }

    /// The input pixel at tap `u` of output pixel `i`.
    fn source(&self, i: usize, u: usize, extent: usize) -> usize {
        let at = i as isize * self.stride as isize + u as isize - self.before as isize;
        let last = extent as isize - 1;
        // The final clamp is all there is to a repeated border, and reflection's way out of a plane
        // that is shorter than its reach.
        let at = match self.border {
            Border::Reflect if at < 0 => -at,
            Border::Reflect if at > last => 2 * last - at,
            Border::Reflect | Border::Repeat => at,
        };
        at.clamp(0, last) as usize
    }

    /// Height and width of the output.
    pub(crate) fn output(&self, (h, w): (usize, usize)) -> (usize, usize) {
        (self.count(h), self.count(w))
    }

    #[inline(always)]
    fn each<T: Float>(&self, (h, w): (usize, usize), mut f: impl FnMut(usize, usize, T)) {
        let (height, width) = self.output((h, w));
        for i in 0..height {
            for u in 0..self.kernel {
                let row = self.source(i, u, h) * w;
                for j in 0..width {
                    for v in 0..self.kernel {
                        let weight = self.weights[u] * self.weights[v];
                        f(i * width + j, row + self.source(j, v, w), T::from_f64(weight));
                    }
                }
            }
        }
    }
}

impl Terms for Blur {
    const NAME: &'static str = <Self as Plane>::NAME;

    #[inline(always)]
    fn each_term(&self, input: (usize, usize), f: impl FnMut(usize, usize, f64)) {
        self.each::<f64>(input, f);
    }
}

impl Plane for Blur {
    const NAME: &'static str = "blur_pool2d";

    fn size(&self, input: (usize, usize)) -> (usize, usize) {
        self.output(input)
    }

    fn forward<T: Float>(&self, input: (usize, usize), x: &[T], y: &mut [T]) {
        self.each(input, |to, from, weight: T| y[to] += x[from] * weight);
    }

    fn backward<T: Float>(&self, input: (usize, usize), _: &[T], dy: &[T], dx: &mut [T]) {
        self.each(input, |to, from, weight: T| dx[from] += dy[to] * weight);
    }
}
