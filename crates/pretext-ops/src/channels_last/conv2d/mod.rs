//! Convolution of channels-last pictures.
//!
//! The plain version, [`crate::conv2d()`] on transposed tensors, is the definition and takes `f64`;
//! here `f32` takes the fast paths: [`winograd`] for 3x3 kernels of stride 1, [`direct`] for all.

mod direct;
mod panels;
mod winograd;

use std::sync::OnceLock;

use candle_core::{CpuStorage, CustomOp2, CustomOp3, DType, Layout, Result, Shape, Tensor, bail};

use self::winograd::{F2, F4};
use super::Activation;
use crate::conv2d::Geometry;
use crate::isa::Isa;
use crate::values::{check, output, slice, with1};

/// Convolves each picture of a batch, adds the bias and applies the activation.
///
/// * `x`: `[N, H, W, C]`, `f32` or `f64`.
/// * `weight`: `[O, C, K, L]`, of the same dtype, as PyTorch stores it.
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
    check("conv2d", &[Some(x), Some(weight), bias].into_iter().flatten().collect::<Vec<_>>())?;
    let (n, h, w, c) = super::nhwc("conv2d", x)?;
    let geometry = Geometry::new((n, c, h, w), weight, stride, padding)?;
    if let Some(bias) = bias.filter(|bias| bias.dims() != [geometry.o]) {
        bail!("conv2d: the bias is {:?}, the weight {:?}", bias.shape(), weight.shape())
    }
    if x.dtype() != DType::F32 {
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
#[derive(Clone, Copy, Default)]
pub(super) struct Epilogue<'a> {
    /// For each column.
    pub(super) bias: Option<&'a [f32]>,
    /// For each number of the result.
    pub(super) residual: Option<&'a [f32]>,
    pub(super) relu: bool,
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

pub(super) fn forward(
    isa: Isa,
    g: &Geometry,
    x: &[f32],
    weight: &[f32],
    epilogue: Epilogue<'_>,
) -> Vec<f32> {
    if g.n * g.pixels() * g.o == 0 || (g.c == 0 && epilogue.bias.is_none()) {
        // Sums of nothing.
        return vec![0.0; g.n * g.pixels() * g.o];
    }
    match Algorithm::of(g) {
        Algorithm::Direct => direct::forward(isa, g, x, weight, epilogue),
        Algorithm::Winograd2 => winograd::forward::<F2, 2, 4>(isa, g, x, weight, epilogue),
        Algorithm::Winograd4 => winograd::forward::<F4, 4, 6>(isa, g, x, weight, epilogue),
    }
}

fn input_gradient(isa: Isa, g: &Geometry, weight: &[f32], dy: &[f32]) -> Vec<f32> {
    match Algorithm::of(g) {
        Algorithm::Direct => direct::input_gradient(isa, g, weight, dy),
        Algorithm::Winograd2 => winograd::input_gradient::<F2, 2, 4>(isa, g, weight, dy),
        Algorithm::Winograd4 => winograd::input_gradient::<F4, 4, 6>(isa, g, weight, dy),
    }
}

fn weight_gradient(isa: Isa, g: &Geometry, x: &[f32], dy: &[f32]) -> Vec<f32> {
    match Algorithm::of(g) {
        Algorithm::Direct => direct::weight_gradient(isa, g, x, dy),
        Algorithm::Winograd2 => winograd::weight_gradient::<F2, 2, 4>(isa, g, x, dy),
        Algorithm::Winograd4 => winograd::weight_gradient::<F4, 4, 6>(isa, g, x, dy),
    }
}

struct Conv2d {
    geometry: Geometry,
    relu: bool,
}

impl Conv2d {
    fn run(
        &self,
        x: (&CpuStorage, &Layout),
        weight: (&CpuStorage, &Layout),
        bias: Option<(&CpuStorage, &Layout)>,
    ) -> Result<(CpuStorage, Shape)> {
        let bias = bias.map(|(bias, layout)| slice::<f32>(bias, layout)).transpose()?;
        let epilogue = Epilogue { bias, residual: None, relu: self.relu };
        let (x, weight) = (slice(x.0, x.1)?, slice(weight.0, weight.1)?);
        let Geometry { n, o, out: (height, width), .. } = self.geometry;
        let y = forward(Isa::current(), &self.geometry, x, weight, epilogue);
        Ok(output(y, (n, height, width, o)))
    }

    /// Gradients of input, weight and the sums before the activation.
    fn gradients(
        &self,
        x: &Tensor,
        weight: &Tensor,
        y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Tensor)> {
        let dy = dy.contiguous()?;
        let dy = if self.relu { super::norm::before_relu(y, &dy)? } else { dy };
        let (dx, dw) = with1::<f32, _>(&dy, |dy| gradients(&self.geometry, x, weight, dy))??;
        Ok((dx, dw, dy))
    }
}

/// Gradients of input and weight, as far as they are wanted, from that of the sums.
pub(super) fn gradients(
    g: &Geometry,
    x: &Tensor,
    weight: &Tensor,
    dy: &[f32],
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
        let dw = with1::<f32, _>(x, |x| weight_gradient(isa, g, x, dy))?;
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
        self.run((x, x_layout), (weight, weight_layout), None)
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
        self.run((x, x_layout), (weight, weight_layout), Some((bias, bias_layout)))
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
