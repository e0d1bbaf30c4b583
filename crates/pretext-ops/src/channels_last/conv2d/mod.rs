//! Convolution of channels-last pictures.
//!
//! The plain version, [`crate::conv2d()`] on transposed tensors, is the definition and takes `f64`;
//! here `f32` and `bf16` take the fast paths: [`winograd`] for 3x3 kernels of stride 1, [`direct`]
//! for all.

mod direct;
mod panels;
mod winograd;

use std::sync::OnceLock;

use candle_core::backend::BackendStorage as _;
use candle_core::{CpuStorage, CustomOp2, CustomOp3, DType, Layout, Result, Shape, Tensor, bail};

use self::winograd::{F2, F4};
use super::Activation;
use super::element::Element;
use crate::conv2d::Geometry;
use crate::isa::Isa;
use crate::values::{check_with, output, slice, with1};

/// Convolves each picture of a batch, adds the bias and applies the activation.
///
/// * `x`: `[N, H, W, C]`, `f32`, `f64` or `bf16`.
/// * `weight`: `[O, C, K, L]`, of the same dtype, `f32` for `bf16`; as PyTorch stores it.
/// * `bias`: `[O]`.
/// * `stride`, `padding`: the same in both directions, in pixels; padding is with zeros.
/// * Returns `[N, H', W', O]`; values as [`conv2d`](crate::conv2d()) gives them.
///
/// # Errors
/// As for [`conv2d`](crate::conv2d()).
pub fn conv2d(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    stride: usize,
    padding: usize,
    activation: Activation,
) -> Result<Tensor> {
    let parameters: Vec<&Tensor> = std::iter::once(weight).chain(bias).collect();
    check_with("conv2d", &[x], &parameters)?;
    let (n, h, w, c) = super::nhwc("conv2d", x)?;
    let geometry = Geometry::new((n, c, h, w), weight, stride, padding)?;
    if let Some(bias) = bias.filter(|bias| bias.dims() != [geometry.o]) {
        bail!("conv2d: the bias is {:?}, the weight {:?}", bias.shape(), weight.shape())
    }
    if x.dtype() == DType::F64 {
        let y = crate::conv2d(&super::channels_first(x)?, weight, bias, stride, padding)?;
        return activation.apply(&super::channels_last(&y)?);
    }
    let relu = activation == Activation::Relu;
    let op = Conv2d { geometry, relu };
    let (x, weight) = (x.contiguous()?, weight.contiguous()?);
    let y = match bias {
        Some(bias) => x.apply_op3(&weight, &bias.contiguous()?, op)?,
        None => x.apply_op2(&weight, op)?,
    };
    if relu { Ok(y) } else { activation.apply(&y) }
}

/// What happens to a sum before it is written.
#[derive(Clone, Copy)]
pub(super) struct Epilogue<'a, T> {
    /// For each column.
    pub(super) bias: Option<&'a [f32]>,
    /// For each number of the result.
    pub(super) residual: Option<&'a [T]>,
    pub(super) relu: bool,
}

impl<T> Default for Epilogue<'_, T> {
    fn default() -> Self {
        Self { bias: None, residual: None, relu: false }
    }
}

/// How a convolution is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Algorithm {
    Direct,
    /// Tiles of 2x2 or 4x4.
    Winograd2,
    Winograd4,
}

/// The environment variable that turns Winograd's algorithms off: `0`.
pub const WINOGRAD_VARIABLE: &str = "PRETEXT_WINOGRAD";

/// Channels from which the transforms cost less than they save.
const FEWEST_CHANNELS: usize = 16;

impl Algorithm {
    fn of(g: &Geometry) -> Self {
        static OFF: OnceLock<bool> = OnceLock::new();
        let off = *OFF.get_or_init(|| std::env::var(WINOGRAD_VARIABLE).is_ok_and(|v| v == "0"));
        let fits = g.kernel == (3, 3) && g.stride == 1 && g.padding <= 2;
        if off || !fits || g.c.min(g.o) < FEWEST_CHANNELS || g.h.min(g.w) == 1 {
            return Self::Direct;
        }
        match g.out.0.min(g.out.1) {
            0..2 => Self::Direct,
            2 => Self::Winograd2,
            _ => Self::Winograd4,
        }
    }
}

pub(super) fn forward<T: Element>(
    isa: Isa,
    g: &Geometry,
    x: &[T],
    weight: &[f32],
    epilogue: Epilogue<'_, T>,
) -> Vec<T> {
    if g.n * g.pixels() * g.o == 0 || (g.c == 0 && epilogue.bias.is_none()) {
        // Sums of nothing.
        return vec![T::zero(); g.n * g.pixels() * g.o];
    }
    match Algorithm::of(g) {
        Algorithm::Direct => direct::forward(isa, g, x, weight, epilogue),
        Algorithm::Winograd2 => winograd::forward::<T, F2, 2, 4>(isa, g, x, weight, epilogue),
        Algorithm::Winograd4 => winograd::forward::<T, F4, 4, 6>(isa, g, x, weight, epilogue),
    }
}

fn input_gradient<T: Element>(isa: Isa, g: &Geometry, weight: &[f32], dy: &[T]) -> Vec<T> {
    match Algorithm::of(g) {
        Algorithm::Direct => direct::input_gradient(isa, g, weight, dy),
        Algorithm::Winograd2 => winograd::input_gradient::<T, F2, 2, 4>(isa, g, weight, dy),
        Algorithm::Winograd4 => winograd::input_gradient::<T, F4, 4, 6>(isa, g, weight, dy),
    }
}

fn weight_gradient<T: Element>(isa: Isa, g: &Geometry, x: &[T], dy: &[T]) -> Vec<f32> {
    match Algorithm::of(g) {
        Algorithm::Direct => direct::weight_gradient(isa, g, x, dy),
        Algorithm::Winograd2 => winograd::weight_gradient::<T, F2, 2, 4>(isa, g, x, dy),
        Algorithm::Winograd4 => winograd::weight_gradient::<T, F4, 4, 6>(isa, g, x, dy),
    }
}

struct Conv2d {
    geometry: Geometry,
    relu: bool,
}

/// Calls a generic function with the type that a picture's dtype names.
macro_rules! by_element {
    ($op:expr, $dtype:expr, $function:ident ( $($argument:expr),* $(,)? )) => {
        match $dtype {
            candle_core::DType::F32 => $function::<f32>($($argument),*),
            candle_core::DType::BF16 => $function::<half::bf16>($($argument),*),
            other => candle_core::bail!("{}: the dtype is {other:?}, it must be f32 or bf16", $op),
        }
    };
}
pub(super) use by_element;

type Argument<'a> = (&'a CpuStorage, &'a Layout);

fn run<T: Element>(
    op: &Conv2d,
    x: Argument<'_>,
    weight: Argument<'_>,
    bias: Option<Argument<'_>>,
) -> Result<(CpuStorage, Shape)> {
    let bias = bias.map(|(bias, layout)| slice::<f32>(bias, layout)).transpose()?;
    let epilogue = Epilogue { bias, residual: None, relu: op.relu };
    let (x, weight) = (slice::<T>(x.0, x.1)?, slice(weight.0, weight.1)?);
    let Geometry { n, o, out: (height, width), .. } = op.geometry;
    let y = forward(Isa::current(), &op.geometry, x, weight, epilogue);
    Ok(output(y, (n, height, width, o)))
}

/// Gradients of input, weight and the sums before the activation.
type Gradients = (Option<Tensor>, Option<Tensor>, Tensor);

impl Conv2d {
    fn gradients(&self, x: &Tensor, weight: &Tensor, y: &Tensor, dy: &Tensor) -> Result<Gradients> {
        by_element!("conv2d", x.dtype(), gradients_of(self, x, weight, y, &dy.contiguous()?))
    }
}

fn gradients_of<T: Element>(
    op: &Conv2d,
    x: &Tensor,
    weight: &Tensor,
    y: &Tensor,
    dy: &Tensor,
) -> Result<Gradients> {
    let dy = if op.relu { super::norm::before_relu::<T>(y, dy)? } else { dy.clone() };
    let (dx, dw) = with1::<T, _>(&dy, |dy| gradients(&op.geometry, x, weight, dy))??;
    Ok((dx, dw, dy))
}

/// Gradients of input and weight, as far as they are wanted, from that of the sums.
pub(super) fn gradients<T: Element>(
    g: &Geometry,
    x: &Tensor,
    weight: &Tensor,
    dy: &[T],
) -> Result<(Option<Tensor>, Option<Tensor>)> {
    let isa = Isa::current();
    let empty = dy.is_empty() || x.elem_count() == 0;
    // The pictures themselves need no gradient, which saves a third of the first layer's work.
    let dx = x.track_op().then(|| {
        if empty {
            return x.zeros_like();
        }
        let dx = with1::<f32, _>(weight, |weight| input_gradient(isa, g, weight, dy))?;
        Tensor::from_vec(dx, x.shape(), x.device())
    });
    let dw = weight.track_op().then(|| {
        if empty {
            return weight.zeros_like();
        }
        let dw = with1::<T, _>(x, |x| weight_gradient(isa, g, x, dy))?;
        Tensor::from_vec(dw, weight.shape(), weight.device())
    });
    Ok((dx.transpose()?, dw.transpose()?))
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
        let (x, weight) = ((x, x_layout), (weight, weight_layout));
        by_element!("conv2d", x.0.dtype(), run(self, x, weight, None))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (dx, dw, _) = self.gradients(x, weight, y, dy)?;
        Ok((dx, dw))
    }
}

impl CustomOp3 for Conv2d {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, weight) = ((x, x_layout), (weight, weight_layout));
        by_element!("conv2d", x.0.dtype(), run(self, x, weight, Some((bias, bias_layout))))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _bias: &Tensor,
        y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (dx, dw, sums) = self.gradients(x, weight, y, dy)?;
        Ok((dx, dw, Some(super::column_sums(&sums)?)))
    }
}
