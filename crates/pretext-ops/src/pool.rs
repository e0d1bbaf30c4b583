//! Max and average pooling with any kernel, stride and padding.

use candle_core::{Result, Tensor, bail};

use crate::channels_last::pixels::Terms;
use crate::plane::{self, Plane};
use crate::values::{Float, check_sizes};

/// The largest value of each window, as `torch.nn.functional.max_pool2d`.
///
/// * `x`: `[N, C, H, W]`, `f32` or `f64`.
/// * `kernel`, `stride`, `padding`: the same in both directions, in pixels.
/// * Returns `[N, C, (H + 2 padding - kernel) / stride + 1, (W + 2 padding - kernel) / stride + 1]`.
///
/// Padding never wins. The gradient goes to the first of equal values, row by row. A NaN wins.
///
/// # Errors
/// If the dtype, device or rank does not fit, a side, the kernel or the stride is 0, the padding is
/// more than half the kernel, or the kernel is larger than the padded input.
///
/// ```
/// use candle_core::{Device, Tensor};
///
/// let x = Tensor::arange(0f32, 16., &Device::Cpu)?.reshape((1, 1, 4, 4))?;
/// let y = pretext_ops::max_pool2d(&x, 3, 2, 1)?;
/// assert_eq!(y.flatten_all()?.to_vec1::<f32>()?, [5., 7., 13., 15.]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn max_pool2d(x: &Tensor, kernel: usize, stride: usize, padding: usize) -> Result<Tensor> {
    let (_, _, h, w) = plane::input("max_pool2d", x)?;
    let windows = Windows::new("max_pool2d", (h, w), kernel, stride, padding, false)?;
    plane::apply(x, Max(windows))
}

/// How [`avg_pool2d`] counts at the border; the default is PyTorch's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AvgPool {
    /// Whether a last window may reach beyond the padded input.
    pub ceil_mode: bool,
    /// Whether padding counts as zeros in the mean.
    pub count_include_pad: bool,
}

impl Default for AvgPool {
    fn default() -> Self {
        Self { ceil_mode: false, count_include_pad: true }
    }
}

/// The mean of each window, as `torch.nn.functional.avg_pool2d`.
///
/// * `x`: `[N, C, H, W]`, `f32` or `f64`.
/// * `kernel`, `stride`, `padding`: the same in both directions, in pixels.
/// * Returns `[N, C, (H + 2 padding - kernel) / stride + 1, (W + 2 padding - kernel) / stride + 1]`;
///   with `ceil_mode` the divisions round up, unless a last window would begin beyond the input and
///   the padding before it.
///
/// What a window has beyond the padded input (`ceil_mode`) never counts.
///
/// # Errors
/// As for [`max_pool2d`]; with `ceil_mode` the kernel may be larger by less than a stride.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use pretext_ops::{AvgPool, avg_pool2d};
///
/// let x = Tensor::new(&[[[[1f32, 3., 8.], [1., 3., 8.]]]], &Device::Cpu)?;
/// let y = avg_pool2d(&x, 2, 2, 0, AvgPool { ceil_mode: true, ..AvgPool::default() })?;
/// assert_eq!(y.flatten_all()?.to_vec1::<f32>()?, [2., 8.]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn avg_pool2d(
    x: &Tensor,
    kernel: usize,
    stride: usize,
    padding: usize,
    options: AvgPool,
) -> Result<Tensor> {
    let (_, _, h, w) = plane::input("avg_pool2d", x)?;
    let windows = Windows::new("avg_pool2d", (h, w), kernel, stride, padding, options.ceil_mode)?;
    plane::apply(x, Average { windows, options })
}

/// The mean of each plane (Lin et al., "Network in Network", 2013): `[N, C, H, W]` to `[N, C]`,
/// `f32` or `f64`.
///
/// # Errors
/// If the dtype, device or rank does not fit, or the planes are empty.
pub fn global_avg_pool2d(x: &Tensor) -> Result<Tensor> {
    let (_, _, h, w) = plane::input("global_avg_pool2d", x)?;
    if h * w == 0 {
        bail!("global_avg_pool2d: the planes of {:?} are empty", x.shape())
    }
    plane::apply(x, Mean)?.flatten_from(1)
}

/// Where windows lie.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Windows {
    kernel: usize,
    stride: usize,
    padding: usize,
    ceil: bool,
}

impl Windows {
    pub(crate) fn new(
        op: &str,
        (h, w): (usize, usize),
        kernel: usize,
        stride: usize,
        padding: usize,
        ceil: bool,
    ) -> Result<Self> {
        if kernel == 0 || stride == 0 {
            bail!("{op}: the kernel is {kernel}, the stride {stride}; neither may be 0")
        }
        check_sizes(op, &[("kernel", kernel), ("stride", stride)])?;
        if padding > kernel / 2 {
            bail!("{op}: the padding {padding} is more than half the kernel {kernel}")
        }
        // As in PyTorch, the first window may reach too far just as the last one may.
        let beyond = if ceil { stride - 1 } else { 0 };
        if h == 0 || w == 0 || h.min(w) + 2 * padding + beyond < kernel {
            bail!(
                "{op}: the kernel {kernel} is larger than the input {h} x {w} padded by {padding}"
            )
        }
        Ok(Self { kernel, stride, padding, ceil })
    }

    fn count(&self, extent: usize) -> usize {
        let room = (extent + 2 * self.padding).saturating_sub(self.kernel);
        if !self.ceil {
            return room / self.stride + 1;
        }
        let count = room.div_ceil(self.stride) + 1;
        // PyTorch drops a last window that would begin in the far padding.
        if (count - 1) * self.stride >= extent + self.padding { count - 1 } else { count }
    }

    pub(crate) fn size(&self, (h, w): (usize, usize)) -> (usize, usize) {
        (self.count(h), self.count(w))
    }

    /// Kernel, stride and padding.
    #[cfg(any(feature = "cuda", test))]
    pub(crate) fn parameters(&self) -> (usize, usize, usize) {
        (self.kernel, self.stride, self.padding)
    }

    /// What of window `i` lies inside the input.
    pub(crate) fn inside(&self, i: usize, extent: usize) -> std::ops::Range<usize> {
        let start = i * self.stride;
        let end = (start + self.kernel).saturating_sub(self.padding).min(extent);
        start.saturating_sub(self.padding).min(end)..end
    }

    /// The length of window `i`, padding included.
    fn padded(&self, i: usize, extent: usize) -> usize {
        let start = i * self.stride;
        (start + self.kernel).min(extent + 2 * self.padding) - start
    }
}

#[derive(Clone, Copy)]
pub(crate) struct Max(pub(crate) Windows);

impl Max {
    /// Calls `f(window, place of its maximum)`.
    fn each<T: Float>(&self, (h, w): (usize, usize), x: &[T], mut f: impl FnMut(usize, usize)) {
        let (height, width) = self.0.size((h, w));
        for i in 0..height {
            let rows = self.0.inside(i, h);
            for j in 0..width {
                let columns = self.0.inside(j, w);
                let mut best = rows.start * w + columns.start;
                for y in rows.clone() {
                    for at in y * w + columns.start..y * w + columns.end {
                        // A NaN must show in the result, as in PyTorch.
                        #[expect(clippy::eq_op, reason = "only NaN differs from itself")]
                        if x[at] > x[best] || x[at] != x[at] {
                            best = at;
                        }
                    }
                }
                f(i * width + j, best);
            }
        }
    }
}

impl Plane for Max {
    const NAME: &'static str = "max_pool2d";

    fn size(&self, input: (usize, usize)) -> (usize, usize) {
        self.0.size(input)
    }

    fn forward<T: Float>(&self, input: (usize, usize), x: &[T], y: &mut [T]) {
        self.each(input, x, |window, at| y[window] = x[at]);
    }

    fn backward<T: Float>(&self, input: (usize, usize), x: &[T], dy: &[T], dx: &mut [T]) {
        self.each(input, x, |window, at| dx[at] += dy[window]);
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Average {
    pub(crate) windows: Windows,
    pub(crate) options: AvgPool,
}

impl Average {
    /// Calls `f(window, rows, columns, 1 / divisor)`.
    #[inline(always)]
    fn each<T: Float>(
        &self,
        (h, w): (usize, usize),
        mut f: impl FnMut(usize, std::ops::Range<usize>, std::ops::Range<usize>, T),
    ) {
        let windows = &self.windows;
        let (height, width) = windows.size((h, w));
        for i in 0..height {
            for j in 0..width {
                let (rows, columns) = (windows.inside(i, h), windows.inside(j, w));
                let divisor = if self.options.count_include_pad {
                    windows.padded(i, h) * windows.padded(j, w)
                } else {
                    rows.len() * columns.len()
                };
                f(i * width + j, rows, columns, T::from_f64(1.0 / divisor.max(1) as f64));
            }
        }
    }
}

impl Terms for Average {
    const NAME: &'static str = <Self as Plane>::NAME;

    #[inline(always)]
    fn each_term(&self, input: (usize, usize), mut f: impl FnMut(usize, usize, f64)) {
        self.each(input, |window, rows, columns, share: f64| {
            for row in rows {
                for column in columns.clone() {
                    f(window, row * input.1 + column, share);
                }
            }
        });
    }
}

impl Plane for Average {
    const NAME: &'static str = "avg_pool2d";

    fn size(&self, input: (usize, usize)) -> (usize, usize) {
        self.windows.size(input)
    }

    fn forward<T: Float>(&self, input: (usize, usize), x: &[T], y: &mut [T]) {
        let w = input.1;
        self.each(input, |window, rows, columns, share: T| {
            let mut sum = T::zero();
            for row in rows {
                for value in &x[row * w + columns.start..row * w + columns.end] {
                    sum += *value;
                }
            }
            y[window] = sum * share;
        });
    }

    fn backward<T: Float>(&self, input: (usize, usize), _: &[T], dy: &[T], dx: &mut [T]) {
        let w = input.1;
        self.each(input, |window, rows, columns, share: T| {
            let gradient = dy[window] * share;
            for row in rows {
                for dx in &mut dx[row * w + columns.start..row * w + columns.end] {
                    *dx += gradient;
                }
            }
        });
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Mean;

impl Plane for Mean {
    const NAME: &'static str = "global_avg_pool2d";

    fn size(&self, _: (usize, usize)) -> (usize, usize) {
        (1, 1)
    }

    fn forward<T: Float>(&self, (h, w): (usize, usize), x: &[T], y: &mut [T]) {
        let mut sum = T::zero();
        for value in x {
            sum += *value;
        }
        y[0] = sum * T::from_f64(1.0 / (h * w) as f64);
    }

    fn backward<T: Float>(&self, (h, w): (usize, usize), _: &[T], dy: &[T], dx: &mut [T]) {
        dx.fill(dy[0] * T::from_f64(1.0 / (h * w) as f64));
    }
}

impl Terms for Mean {
    const NAME: &'static str = <Self as Plane>::NAME;

    #[inline(always)]
    fn each_term(&self, (h, w): (usize, usize), mut f: impl FnMut(usize, usize, f64)) {
        for pixel in 0..h * w {
            f(0, pixel, 1.0 / (h * w) as f64);
        }
    }
}
