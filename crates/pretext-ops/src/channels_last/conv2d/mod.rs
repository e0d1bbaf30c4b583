//! Convolution of channels-last pictures.
//!
//! The plain version, [`crate::conv2d()`] on transposed tensors, is the definition and takes `f64`;
//! here are the fast paths: for `f32` [`winograd`] for 3x3 kernels of stride 1, and [`direct`] for
//! the others and for `bf16`.

#[cfg(target_arch = "x86_64")]
mod across;
mod direct;
mod gather;
mod panels;
mod places;
#[cfg(target_arch = "x86_64")]
mod tiled;
#[cfg(target_arch = "x86_64")]
mod transpose;
mod view;
mod winograd;

use std::sync::OnceLock;

use candle_core::backend::BackendStorage as _;
use candle_core::{CpuStorage, CustomOp2, CustomOp3, DType, Layout, Result, Shape, Tensor, bail};
use half::bf16;

use self::winograd::{F2, F4};
use super::Activation;
use super::element::Element;
use super::moments::{self, Part};
use crate::conv2d::Geometry;
use crate::gradients::leave;
use crate::isa::Isa;
use crate::values::{check_with, if_on_gpu, output, slice, with1};

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
    let (n, h, w, c) = super::nhwc("conv2d", x.dims())?;
    let geometry = Geometry::new((n, c, h, w), weight, stride, padding)?;
    if let Some(bias) = bias.filter(|bias| bias.dims() != [geometry.o]) {
        bail!("conv2d: the bias is {:?}, the weight {:?}", bias.shape(), weight.shape())
    }
    if_on_gpu!(x => conv2d(geometry, x, weight, bias, activation));
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
    /// Factors of the columns, before anything is added.
    pub(super) scale: Option<&'a [f32]>,
    /// For each column.
    pub(super) bias: Option<&'a [f32]>,
    /// For each number of the result.
    pub(super) residual: Option<&'a [T]>,
    pub(super) relu: bool,
}

impl<T> Default for Epilogue<'_, T> {
    fn default() -> Self {
        Self { scale: None, bias: None, residual: None, relu: false }
    }
}

/// The environment variable that turns Winograd's algorithms off: `0`.
pub const WINOGRAD_VARIABLE: &str = "PRETEXT_WINOGRAD";

/// Channels from which the transforms cost less than they save.
const FEWEST_CHANNELS: usize = 16;

/// Side of the tiles by which Winograd's algorithm computes a convolution, if it pays.
fn tiles(g: &Geometry) -> Option<usize> {
    static OFF: OnceLock<bool> = OnceLock::new();
    let off = *OFF.get_or_init(|| std::env::var(WINOGRAD_VARIABLE).is_ok_and(|v| v == "0"));
    let fits = g.kernel == (3, 3) && g.stride == 1 && g.padding <= 2;
    if off || !fits || g.c.min(g.o) < FEWEST_CHANNELS || g.h.min(g.w) == 1 {
        return None;
    }
    match g.out.0.min(g.out.1) {
        0..2 => None,
        // So few large tiles that the weight's points, of which there are more, would be most of
        // the work.
        2..=4 => Some(2),
        _ => Some(4),
    }
}

/// A number of pictures, by which they are convolved in the fastest way for it.
pub(super) trait Convolve: Element {
    /// `[N, H, W, C]` to `[N, H', W', O]`; `measured`, with the moments of what comes out.
    fn forward(
        isa: Isa,
        g: &Geometry,
        x: &[Self],
        weight: &[f32],
        epilogue: Epilogue<'_, Self>,
        measured: bool,
    ) -> (Vec<Self>, Vec<Part>) {
        direct::forward(isa, g, x, weight, epilogue, measured)
    }

    /// The gradient of the loss in the input: `[N, H', W', O]` to `[N, H, W, C]`. `others` are
    /// gradients from elsewhere, which are added.
    fn input_gradient(
        isa: Isa,
        g: &Geometry,
        weight: &[f32],
        dy: &[Self],
        others: Option<&[Self]>,
    ) -> Vec<Self> {
        direct::input_gradient(isa, g, weight, dy, others)
    }

    /// The gradient of the loss in the weight: `[O, C, K, L]`.
    fn weight_gradient(isa: Isa, g: &Geometry, x: &[Self], dy: &[Self]) -> Vec<f32> {
        direct::weight_gradient(isa, g, x, dy)
    }
}

/// Its points would need more bits than a `bf16` has, and its pairs save as much.
impl Convolve for bf16 {
    fn weight_gradient(isa: Isa, g: &Geometry, x: &[Self], dy: &[Self]) -> Vec<f32> {
        #[cfg(target_arch = "x86_64")]
        if isa == Isa::AmxBf16 && isa.is_available() && g.n >= FEWEST_PICTURES {
            return across::weight_gradient(isa, g, x, dy);
        }
        direct::weight_gradient(isa, g, x, dy)
    }
}

/// Pictures from which tiles that take two of each pair are fuller than vectors.
#[cfg(target_arch = "x86_64")]
const FEWEST_PICTURES: usize = 4;

impl Convolve for f32 {
    fn forward(
        isa: Isa,
        g: &Geometry,
        x: &[f32],
        weight: &[f32],
        epilogue: Epilogue<'_, f32>,
        measured: bool,
    ) -> (Vec<f32>, Vec<Part>) {
        match tiles(g) {
            Some(2) => winograd::forward::<F2, 2, 4>(isa, g, x, weight, epilogue, measured),
            Some(_) => winograd::forward::<F4, 4, 6>(isa, g, x, weight, epilogue, measured),
            None => direct::forward(isa, g, x, weight, epilogue, measured),
        }
    }

    fn input_gradient(
        isa: Isa,
        g: &Geometry,
        weight: &[f32],
        dy: &[f32],
        others: Option<&[f32]>,
    ) -> Vec<f32> {
        match tiles(g) {
            Some(2) => winograd::input_gradient::<F2, 2, 4>(isa, g, weight, dy, others),
            Some(_) => winograd::input_gradient::<F4, 4, 6>(isa, g, weight, dy, others),
            None => direct::input_gradient(isa, g, weight, dy, others),
        }
    }

    fn weight_gradient(isa: Isa, g: &Geometry, x: &[f32], dy: &[f32]) -> Vec<f32> {
        match tiles(g) {
            Some(2) => winograd::weight_gradient::<F2, 2, 4>(isa, g, x, dy),
            Some(_) => winograd::weight_gradient::<F4, 4, 6>(isa, g, x, dy),
            None => direct::weight_gradient(isa, g, x, dy),
        }
    }
}

pub(super) fn forward<T: Convolve>(
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
    T::forward(isa, g, x, weight, epilogue, false).0
}

/// The same for a normalisation, with mean and biased variance of each channel.
pub(super) fn forward_measured<T: Convolve>(
    isa: Isa,
    g: &Geometry,
    x: &[T],
    weight: &[f32],
) -> (Vec<T>, (Vec<f64>, Vec<f64>)) {
    if g.n * g.pixels() * g.o * g.c == 0 {
        let zeros = vec![0.0; g.o];
        return (vec![T::zero(); g.n * g.pixels() * g.o], (zeros.clone(), zeros));
    }
    let (y, parts) = T::forward(isa, g, x, weight, Epilogue::default(), true);
    (y, moments::join(&parts, g.o))
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

fn run<T: Convolve>(
    op: &Conv2d,
    x: Argument<'_>,
    weight: Argument<'_>,
    bias: Option<Argument<'_>>,
) -> Result<(CpuStorage, Shape)> {
    let bias = bias.map(|(bias, layout)| slice::<f32>(bias, layout)).transpose()?;
    let epilogue = Epilogue { bias, relu: op.relu, ..Epilogue::default() };
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

fn gradients_of<T: Convolve>(
    op: &Conv2d,
    x: &Tensor,
    weight: &Tensor,
    y: &Tensor,
    dy: &Tensor,
) -> Result<Gradients> {
    let dy = if op.relu { super::norm_gradient::before_relu::<T>(y, dy)? } else { dy.clone() };
    let gradients = with1::<T, _>(&dy, |dy| {
        // The pictures themselves need no gradient, which saves a third of the first layer's work.
        let dx = x.track_op().then(|| input_gradient(&op.geometry, x, weight, dy, None));
        Ok::<_, candle_core::Error>((
            dx.transpose()?,
            weight_gradient(&op.geometry, x, weight, dy)?,
        ))
    });
    let (dx, dw) = gradients??;
    Ok((dx, dw, dy))
}

/// The gradient of the input from that of the sums; `others` are added.
pub(super) fn input_gradient<T: Convolve>(
    g: &Geometry,
    x: &Tensor,
    weight: &Tensor,
    dy: &[T],
    others: Option<&Tensor>,
) -> Result<Tensor> {
    if dy.is_empty() || x.elem_count() == 0 {
        return others.map_or_else(|| x.zeros_like(), |others| Ok(others.clone()));
    }
    let isa = Isa::current();
    let dx = match others {
        None => with1(weight, |weight| T::input_gradient(isa, g, weight, dy, None))?,
        Some(others) => with1(weight, |weight| {
            with1(others, |others| T::input_gradient(isa, g, weight, dy, Some(others)))
        })??,
    };
    Tensor::from_vec(dx, x.shape(), x.device())
}

/// The gradient of the weight from that of the sums, for the graph, if anybody wants it.
pub(super) fn weight_gradient<T: Convolve>(
    g: &Geometry,
    x: &Tensor,
    weight: &Tensor,
    dy: &[T],
) -> Result<Option<Tensor>> {
    if !weight.track_op() {
        return Ok(None);
    }
    if dy.is_empty() || x.elem_count() == 0 {
        return weight.zeros_like().map(Some);
    }
    let dw = with1(x, |x| T::weight_gradient(Isa::current(), g, x, dy))?;
    leave(weight, Tensor::from_vec(dw, weight.shape(), weight.device())?)
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
