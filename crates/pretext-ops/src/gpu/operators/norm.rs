//! Batch normalisation with a residual and an activation.

use candle_core::{DType, Result, Tensor};

use super::node::node;
use crate::BatchNormOutput;
use crate::channels_last::{Activation, Then};
use crate::gpu::norm::{self, Backward, Size};
use crate::gpu::{Place, count};
use crate::peers::{Batch, Peers};

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
    let batch = Batch::of(size.rows as usize);
    let moments = norm::moments(&gpu, size, gpu.at(&x)?)?;
    let mut moments = gpu.tensor(moments, DType::F64, (channels, 2))?;
    if let Some(peers) = batch.peers() {
        moments = joined(peers, &moments, size.rows.into(), batch.count)?;
    }
    let of_all = (gpu.at(&moments)?, count(batch.count as usize)?);
    let own = norm::own_line(&gpu, size, of_all, affine, eps)?;
    let affine = Tensor::stack(&[&weight, &bias], 0)?;
    let y = apply(&gpu, size, &x, &affine, Gradients::Both, then, own.line, Some(batch))?;
    Ok(BatchNormOutput {
        y,
        mean: gpu.tensor(own.mean, DType::F32, channels)?,
        variance: gpu.tensor(own.variance, DType::F32, channels)?,
    })
}

/// The moments `[C, 2]` of `all` rows in several processes, of this one's and its number of rows.
fn joined(peers: &dyn Peers, moments: &Tensor, rows: f64, all: f64) -> Result<Tensor> {
    let column = |of: &Tensor, i| of.narrow(1, i, 1)?.contiguous();
    // Sums of values and of their squares, as in `Batch::join`.
    let (mean, about) = (column(moments, 0)?, column(moments, 1)?);
    let sum = (&mean * rows)?;
    let squares = (about + (&sum * &mean)?)?;
    let sums = peers.sum_tensor(&Tensor::cat(&[sum, squares], 1)?)?;
    let (sum, squares) = (column(&sums, 0)?, column(&sums, 1)?);
    let mean = (&sum / all)?;
    let about = (squares - (&sum * &mean)?)?.maximum(0.0)?;
    Tensor::cat(&[mean, about], 1)?.contiguous()
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
    apply(&gpu, size, &x, &affine, Gradients::Both, then, line, None)
}

/// Adds a bias, and then what follows.
pub(super) fn add_bias<M: Place>(x: &Tensor, bias: &Tensor, then: Then<'_>) -> Result<Tensor> {
    let (x, bias, gpu) = (x.contiguous()?, bias.contiguous()?, M::of(x)?);
    let size = Size::new(x.dtype(), x.elem_count(), bias.elem_count())?;
    let line = norm::bias_line(&gpu, size, gpu.at(&bias)?)?;
    apply(&gpu, size, &x, &bias, Gradients::Bias, then, line, None)
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
    own: Option<Batch>,
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
            own: own.is_some(),
        };
        let sums = norm::gradient_sums(&machine, &backward)?;
        let sums = machine.tensor(sums, DType::F64, (size.channels as usize, 2))?;
        let of_part = (machine.at(&sums)?, size.rows);
        let (gradient, mut slopes) = norm::parameter_gradients(&machine, &backward, of_part)?;
        // The parameters' gradients are this part's; the statistics' are the whole batch's.
        if let Some(batch) = &own
            && let Some(peers) = batch.peers()
        {
            let sums = peers.sum_tensor(&sums)?;
            let of_all = (machine.at(&sums)?, count(batch.count as usize)?);
            slopes = norm::parameter_gradients(&machine, &backward, of_all)?.1;
        }
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
