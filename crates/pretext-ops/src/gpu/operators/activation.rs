//! Activations, and feature maps side by side,.

use candle_core::{Result, Tensor};

use super::node::node;
use crate::channels_last::Activation;
use crate::gpu::norm::number;
use crate::gpu::{Arg, Place, count, of_dtype};

/// The activation of each element of any shape.
pub(crate) fn activate<M: Place>(x: &Tensor, activation: Activation) -> Result<Tensor> {
    if activation == Activation::Identity {
        return Ok(x.clone());
    }
    let (x, gpu) = (x.contiguous()?, M::of(x)?);
    let (dtype, numbers) = (x.dtype(), x.elem_count());
    let y = gpu.numbers(dtype, numbers)?;
    gpu.launch(
        &of_dtype("activation", dtype)?,
        count(numbers)?,
        &[Arg::Address(gpu.at(&x)?), number(activation), Arg::Address(gpu.address(&y))],
    )?;
    let (values, machine) = (x.detach(), gpu.clone());
    node("activation", &[&x], (&gpu, y, dtype), x.shape(), move |dy| {
        let dx = machine.numbers(dtype, numbers)?;
        machine.launch(
            &of_dtype("activation_gradient", dtype)?,
            count(numbers)?,
            &[
                Arg::Address(machine.at(&values)?),
                Arg::Address(machine.at(dy)?),
                number(activation),
                Arg::Address(machine.address(&dx)),
            ],
        )?;
        Ok(vec![Some(machine.tensor(dx, dtype, dy.shape())?)])
    })
}

/// `[N, H, W, A]` and `[N, H, W, B]` to `[N, H, W, A + B]`, activated.
pub(crate) fn concat<M: Place>(a: &Tensor, b: &Tensor, activation: Activation) -> Result<Tensor> {
    activate::<M>(&Tensor::cat(&[a, b], 3)?, activation)
}
