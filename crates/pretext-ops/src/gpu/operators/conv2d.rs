//! Convolutions with what follows them. Each is a chain of nodes of candle's graph.

use candle_core::{DType, Result, Tensor, bail};

use super::activation::activate;
use super::node::node;
use super::norm;
use crate::BatchNormOutput;
use crate::channels_last::{Activation, Then};
use crate::conv2d::Geometry;
use crate::gpu::Place;
use crate::gpu::product::{At, Order, Product};
use crate::gradients::leave;

/// The sums alone: `[N, H, W, C]` and `[O, C, K, L]` to `[N, H', W', O]`.
fn sums<M: Place>(g: Geometry, x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    if g.n * g.pixels() * g.o == 0 || x.elem_count() == 0 {
        bail!("conv2d: on a GPU a batch of {:?} is empty", x.shape())
    }
    let dtype = x.dtype();
    if M::of(x)?.computes(&g, (dtype, Order::ChannelsLast))? {
        return sums_in::<M>(Order::ChannelsLast, g, x, weight);
    }
    if dtype != DType::F32 {
        // As on GPUs of before there were such products.
        return sums::<M>(g, &x.to_dtype(DType::F32)?, weight)?.to_dtype(dtype);
    }
    let turned = x.permute((0, 3, 1, 2))?;
    sums_in::<M>(Order::ChannelsFirst, g, &turned, weight)?.permute((0, 2, 3, 1))?.contiguous()
}

/// The same, of pictures whose numbers lie in some order, and come out in it.
fn sums_in<M: Place>(order: Order, g: Geometry, x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    let gpu = M::of(x)?;
    let x = gpu.aligned(x)?;
    let dtype = x.dtype();
    let form = (dtype, order);
    let numbers = g.n * g.pixels() * g.o;
    let (shape, there, back) = match order {
        Order::ChannelsLast => ((g.n, g.out.0, g.out.1, g.o), [0, 2, 3, 1], [0, 3, 1, 2]),
        Order::ChannelsFirst => ((g.n, g.o, g.out.0, g.out.1), [0, 1, 2, 3], [0, 1, 2, 3]),
    };
    // As cuDNN wants it beside such pictures, and of their dtype.
    let kernels = weight.detach().to_dtype(dtype)?.permute(there)?.contiguous()?;
    let y = gpu.numbers(dtype, numbers)?;
    let at = At { x: gpu.at(&x)?, w: gpu.at(&kernels)?, y: gpu.address(&y) };
    gpu.product(&g, form, Product::Forward, at)?;

    let (values, parameter, machine) = (x.detach(), weight.clone(), gpu.clone());
    // The pictures themselves need no gradient, which saves a third of the first layer's work.
    let wanted = (x.track_op(), weight.track_op());
    node("conv2d", &[&x, weight], (&gpu, y, dtype), shape, move |dy| {
        let dy = machine.aligned(dy)?;
        let sums = machine.at(&dy)?;
        let dx = wanted.0.then(|| {
            let dx = machine.numbers(dtype, values.elem_count())?;
            let at = At { x: machine.address(&dx), w: machine.at(&kernels)?, y: sums };
            machine.product(&g, form, Product::Input, at)?;
            machine.tensor(dx, dtype, values.shape())
        });
        let dw = wanted.1.then(|| {
            let dw = machine.numbers(dtype, kernels.elem_count())?;
            let at = At { x: machine.at(&values)?, w: machine.address(&dw), y: sums };
            machine.product(&g, form, Product::Weight, at)?;
            let dw = machine.tensor(dw, dtype, kernels.shape())?.permute(back)?;
            leave(&parameter, dw.contiguous()?.to_dtype(parameter.dtype())?)
        });
        Ok(vec![dx.transpose()?, dw.transpose()?.flatten()])
    })
}

/// As [`crate::channels_last::conv2d`], whose checks are done.
pub(crate) fn conv2d<M: Place>(
    g: Geometry,
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    activation: Activation,
) -> Result<Tensor> {
    let y = sums::<M>(g, x, weight)?;
    match bias {
        Some(bias) => norm::add_bias::<M>(&y, bias, Then { residual: None, activation }),
        None => activate::<M>(&y, activation),
    }
}

/// As [`crate::conv2d()`], whose checks are done: pictures are turned there and back.
pub(crate) fn conv2d_channels_first<M: Place>(
    g: Geometry,
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
) -> Result<Tensor> {
    let turned = x.permute((0, 2, 3, 1))?.contiguous()?;
    conv2d::<M>(g, &turned, weight, bias, Activation::Identity)?.permute((0, 3, 1, 2))?.contiguous()
}

/// As [`crate::channels_last::conv_bias`], whose checks are done.
pub(crate) fn conv_bias<M: Place>(
    g: Geometry,
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    then: Then<'_>,
) -> Result<Tensor> {
    norm::add_bias::<M>(&sums::<M>(g, x, weight)?, bias, then)
}

/// As [`crate::channels_last::conv_norm`], whose checks are done.
pub(crate) fn conv_norm<M: Place>(
    g: Geometry,
    x: &Tensor,
    weight: &Tensor,
    (scale, bias): (&Tensor, &Tensor),
    then: Then<'_>,
    eps: f64,
) -> Result<BatchNormOutput> {
    norm::batch_norm::<M>(&sums::<M>(g, x, weight)?, scale, bias, then, eps)
}

/// As [`crate::channels_last::conv_norm_eval`], whose checks are done.
pub(crate) fn conv_norm_eval<M: Place>(
    g: Geometry,
    x: &Tensor,
    weight: &Tensor,
    norm: (&Tensor, &Tensor),
    running: (&Tensor, &Tensor),
    then: Then<'_>,
    eps: f64,
) -> Result<Tensor> {
    norm::batch_norm_eval::<M>(&sums::<M>(g, x, weight)?, norm, running, then, eps)
}
