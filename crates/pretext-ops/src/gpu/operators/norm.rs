//! Batch normalisation with a residual and an activation.

use candle_core::{DType, Result, Tensor};

use super::node::node;
use crate::BatchNormOutput;
use crate::channels_last::{Activation, Then};
use crate::gpu::Place;
use crate::gpu::norm::{self, Backward, Size};

/// As [`crate::channels_last::batch_norm`], whose checks are done.
pub(crate) fn batch_norm<M: Place>(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    then: Then<'_>,
    eps: f64,
) -> Result<BatchNormOutput> {
    let (x, gpu) = (x.contiguous()?, M::of(x)?);
    let (weight, bias) = (weight.contiguous()?, bias.contiguous()?);
    let channels = weight.elem_count();
    let size = Size::new(x.dtype(), x.elem_count(), channels)?;
    let affine = (gpu.at(&weight)?, gpu.at(&bias)?);
    let own = norm::own_line(&gpu, size, gpu.at(&x)?, affine, eps)?;
    let affine = Tensor::stack(&[&weight, &bias], 0)?;
    let y = apply(&gpu, size, &x, &affine, Gradients::Both, then, own.line, true)?;
    Ok(BatchNormOutput {
        y,
        mean: gpu.tensor(own.mean, DType::F32, channels)?,
        variance: gpu.tensor(own.variance, DType::F32, channels)?,
    })
}

/// As [`crate::channels_last::batch_norm_eval`], whose checks are done.
pub(crate) fn batch_norm_eval<M: Place>(
    x: &Tensor,
    (weight, bias): (&Tensor, &Tensor),
    (mean, variance): (&Tensor, &Tensor),
    then: Then<'_>,
    eps: f64,
) -> Result<Tensor> {
    let (x, gpu) = (x.contiguous()?, M::of(x)?);
    let given = [mean, variance, weight, bias].map(Tensor::contiguous);
    let [mean, variance, weight, bias] = given;
    let (mean, variance, weight, bias) = (mean?, variance?, weight?, bias?);
    let size = Size::new(x.dtype(), x.elem_count(), weight.elem_count())?;
    let running = (gpu.at(&mean)?, gpu.at(&variance)?);
    let affine = (gpu.at(&weight)?, gpu.at(&bias)?);
    let line = norm::given_line(&gpu, size, running, affine, eps)?;
    let affine = Tensor::stack(&[&weight, &bias], 0)?;
    apply(&gpu, size, &x, &affine, Gradients::Both, then, line, false)
}

/// Adds a bias, and then what follows.
pub(super) fn add_bias<M: Place>(x: &Tensor, bias: &Tensor, then: Then<'_>) -> Result<Tensor> {
    let (x, bias, gpu) = (x.contiguous()?, bias.contiguous()?, M::of(x)?);
    let size = Size::new(x.dtype(), x.elem_count(), bias.elem_count())?;
    let line = norm::bias_line(&gpu, size, gpu.at(&bias)?)?;
    apply(&gpu, size, &x, &bias, Gradients::Bias, then, line, false)
}

/// What the parameters' tensor is.
#[derive(Clone, Copy)]
enum Gradients {
    /// Weight and bias, `[2, C]`.
    Both,
    /// The bias, `[C]`.
    Bias,
}

#[expect(clippy::too_many_arguments, reason = "what the three ways above have in common")]
fn apply<M: Place>(
    gpu: &M,
    size: Size,
    x: &Tensor,
    parameters: &Tensor,
    gradients: Gradients,
    Then { residual, activation }: Then<'_>,
    line: M::Memory,
    own: bool,
) -> Result<Tensor> {
    let residual = residual.map(Tensor::contiguous).transpose()?;
    let dtype = x.dtype();
    let y = gpu.numbers(dtype, x.elem_count())?;
    let pictures = (gpu.at(x)?, gpu.at_any(residual.as_ref())?);
    norm::normalise(gpu, size, pictures, gpu.address(&line), activation, gpu.address(&y))?;
    let mut arguments = vec![x, parameters];
    arguments.extend(&residual);
    let (x_values, added) = (x.detach(), residual.as_ref().map(Tensor::detach));
    // A bias's gradient needs no numbers, and nothing but Mish's slope needs to know what was added.
    let adds = residual.as_ref().is_some_and(Tensor::track_op);
    let wanted = (x.track_op(), adds);
    let machine = gpu.clone();
    node("batch_norm", &arguments, (gpu, y, dtype), x.shape(), move |dy| {
        let backward = Backward {
            size,
            x: machine.at(&x_values)?,
            residual: machine.at_any(added.as_ref())?,
            dy: machine.at(dy)?,
            line: machine.address(&line),
            activation,
            own,
        };
        let (gradient, slopes) = norm::parameter_gradients(&machine, &backward)?;
        let both = machine.tensor(gradient, DType::F32, (2, size.channels as usize))?;
        let parameters = match gradients {
            Gradients::Both => both,
            Gradients::Bias => both.get(1)?,
        };
        let plain = matches!(gradients, Gradients::Bias) && activation == Activation::Identity;
        let (dx, before) = if plain {
            (Some(dy.clone()), Some(dy.clone()))
        } else if wanted == (false, false) {
            (None, None)
        } else {
            let numbers = dy.elem_count();
            let dx = machine.numbers(dtype, numbers)?;
            let before = wanted.1.then(|| machine.numbers(dtype, numbers)).transpose()?;
            let at = before.as_ref().map_or(0, |before| machine.address(before));
            let to = (machine.address(&dx), at);
            norm::input_gradient(&machine, &backward, machine.address(&slopes), to)?;
            let before = before.map(|before| machine.tensor(before, dtype, dy.shape()));
            (Some(machine.tensor(dx, dtype, dy.shape())?), before.transpose()?)
        };
        let mut all = vec![dx.filter(|_| wanted.0), Some(parameters)];
        if added.is_some() {
            all.push(before.filter(|_| wanted.1));
        }
        Ok(all)
    })
}
