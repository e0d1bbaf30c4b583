//! Two-dimensional convolution.
//!
//! # Specification
//!
//! `y[n, o, i, j] = bias[o] + sum over c, u, v of weight[o, c, u, v] * x[n, c, i s + u - p, j s + v - p]`
//! with stride `s` and zeros outside the input. It is computed as matrix products: `im2col` lays
//! the input's windows out as columns, so that `y = W cols`, `dW = dy cols^T` and `dcols = W^T dy`,
//! which `col2im` adds back into the input's gradient.

mod columns;
mod cpu;

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};

use crate::gradients::leave;
use crate::values::{
    Float, by_dtype, check, check_sizes, elements, if_on_gpu, nchw, output, slice, with2,
};

/// Convolves each picture of a batch.
///
/// * `x`: `[N, C, H, W]`, `f32` or `f64`.
/// * `weight`: `[O, C, K, L]`, of the same dtype. Groups and dilation are not supported.
/// * `bias`: `[O]`.
/// * `stride`, `padding`: the same in both directions, in pixels; padding is with zeros.
/// * Returns `[N, O, (H + 2 padding - K) / stride + 1, (W + 2 padding - L) / stride + 1]`, as
///   `torch.nn.functional.conv2d`.
///
/// # Errors
/// If shapes, dtypes or devices do not fit, the stride is 0, or the kernel is larger than the
/// padded input.
///
/// ```
/// use candle_core::{Device, Tensor};
///
/// let x = Tensor::arange(0f32, 9., &Device::Cpu)?.reshape((1, 1, 3, 3))?;
/// let ones = Tensor::ones((1, 1, 2, 2), candle_core::DType::F32, &Device::Cpu)?;
/// let y = pretext_ops::conv2d(&x, &ones, None, 1, 0)?;
/// assert_eq!(y.flatten_all()?.to_vec1::<f32>()?, [8., 12., 20., 24.]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn conv2d(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    stride: usize,
    padding: usize,
) -> Result<Tensor> {
    check("conv2d", &[Some(x), Some(weight), bias].into_iter().flatten().collect::<Vec<_>>())?;
    let geometry = Geometry::new(nchw("conv2d", x)?, weight, stride, padding)?;
    if let Some(bias) = bias.filter(|bias| bias.dims() != [geometry.o]) {
        bail!("conv2d: the bias is {:?}, the weight {:?}", bias.shape(), weight.shape())
    }
    if_on_gpu!(x => conv2d_channels_first(geometry, x, weight, bias));
    let y = x.contiguous()?.apply_op2(&weight.contiguous()?, Conv2d { geometry })?;
    match bias {
        Some(bias) => y.broadcast_add(&bias.reshape((1, geometry.o, 1, 1))?),
        None => Ok(y),
    }
}

/// All sizes of one convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Geometry {
    /// Pictures.
    pub(crate) n: usize,
    /// Input channels.
    pub(crate) c: usize,
    pub(crate) h: usize,
    pub(crate) w: usize,
    /// Output channels.
    pub(crate) o: usize,
    /// Kernel height and width.
    pub(crate) kernel: (usize, usize),
    pub(crate) stride: usize,
    pub(crate) padding: usize,
    /// Output height and width.
    pub(crate) out: (usize, usize),
}

impl Geometry {
    /// The sizes for an input of `n` pictures of `c` channels and `h` by `w` pixels.
    pub(crate) fn new(
        (n, c, h, w): (usize, usize, usize, usize),
        weight: &Tensor,
        stride: usize,
        padding: usize,
    ) -> Result<Self> {
        check_sizes("conv2d", &[("stride", stride), ("padding", padding)])?;
        let &[o, channels, kh, kw] = weight.dims() else {
            bail!("conv2d: the weight is {:?}, it must be [O, C, K, L]", weight.shape())
        };
        if channels != c {
            bail!(
                "conv2d: the input has {c} channels, the weight is {:?}; groups are not supported",
                weight.shape()
            )
        }
        if stride == 0 || kh == 0 || kw == 0 {
            bail!("conv2d: the stride is {stride}, the kernel {kh} x {kw}; neither may be 0")
        }
        if h + 2 * padding < kh || w + 2 * padding < kw {
            bail!(
                "conv2d: the kernel {kh} x {kw} is larger than the input {h} x {w} padded by {padding}"
            )
        }
        let out = ((h + 2 * padding - kh) / stride + 1, (w + 2 * padding - kw) / stride + 1);
        elements("conv2d", &[n, o, out.0, out.1])?;
        Ok(Self { n, c, h, w, o, kernel: (kh, kw), stride, padding, out })
    }

    /// Rows of the column matrix: a window's values.
    fn window(&self) -> usize {
        self.c * self.kernel.0 * self.kernel.1
    }

    /// Pixels of an output plane.
    pub(crate) fn pixels(&self) -> usize {
        self.out.0 * self.out.1
    }

    /// Whether the input's planes are the column matrix already.
    fn is_pointwise(&self) -> bool {
        self.kernel == (1, 1) && self.stride == 1 && self.padding == 0
    }
}

struct Conv2d {
    geometry: Geometry,
}

impl CustomOp2 for Conv2d {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        use candle_core::backend::BackendStorage as _;
        let arguments = ((x, x_layout), (weight, weight_layout));
        by_dtype!(self.name(), x.dtype(), forward(&self.geometry, arguments))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        by_dtype!(self.name(), x.dtype(), gradients(&self.geometry, x, weight, dy))
    }
}

type Argument<'a> = (&'a CpuStorage, &'a Layout);

fn forward<T: Float>(
    geometry: &Geometry,
    ((x, x_layout), (weight, weight_layout)): (Argument<'_>, Argument<'_>),
) -> Result<(CpuStorage, Shape)> {
    let x = slice::<T>(x, x_layout)?;
    let weight = slice::<T>(weight, weight_layout)?;
    let y = cpu::forward(geometry, x, weight);
    let Geometry { n, o, out: (height, width), .. } = *geometry;
    Ok(output(y, (n, o, height, width)))
}

fn gradients<T: Float>(
    geometry: &Geometry,
    x: &Tensor,
    weight: &Tensor,
    dy: &Tensor,
) -> Result<(Option<Tensor>, Option<Tensor>)> {
    // The pictures themselves need no gradient, which saves a third of the first layer's work.
    let dx = x.track_op().then(|| {
        let dx = with2::<T, _>(weight, dy, |weight, dy| cpu::input_gradient(geometry, weight, dy))?;
        Tensor::from_vec(dx, x.shape(), x.device())
    });
    let dw = weight.track_op().then(|| {
        let dw = with2::<T, _>(x, dy, |x, dy| cpu::weight_gradient(geometry, x, dy))?;
        leave(weight, Tensor::from_vec(dw, weight.shape(), weight.device())?)
    });
    Ok((dx.transpose()?, dw.transpose()?.flatten()))
}
