//! Activations, and feature maps side by side.

use candle_core::{Result, Tensor};

use super::node::node;
use super::tape::record;
use crate::channels_last::{Activation, FeatureMap};
use crate::gpu::Place;
use crate::gpu::activation::{activation as activation_of, activation_gradient};
use crate::gpu::pixels::Joined;

/// The activation of each element of any shape.
pub(crate) fn activate<M: Place>(x: &Tensor, activation: Activation) -> Result<Tensor> {
    if activation == Activation::Identity {
        return Ok(x.clone());
    }
    let (x, gpu) = (x.contiguous()?, M::of(x)?);
    let of = (x.dtype(), x.elem_count());
    let y = gpu.numbers(of.0, of.1)?;
    activation_of(&gpu, of, gpu.at(&x)?, activation, gpu.address(&y))?;
    let (values, machine) = (x.detach(), gpu.clone());
    node("activation", &[&x], (&gpu, y, of.0), x.shape(), move |dy| {
        let dx = machine.numbers(of.0, of.1)?;
        let from = (machine.at(&values)?, machine.at(dy)?);
        activation_gradient(&machine, of, from, activation, machine.address(&dx))?;
        Ok(vec![Some(machine.tensor(dx, of.0, dy.shape())?)])
    })
}

/// `[N, H, W, A]` and `[N, H, W, B]` to `[N, H, W, A + B]`, activated.
pub(crate) fn concat<M: Place>(
    a: &FeatureMap,
    b: &FeatureMap,
    activation: Activation,
) -> Result<FeatureMap> {
    if activation == Activation::Mish {
        let both = concat::<M>(a, b, Activation::Identity)?;
        return Ok(activate::<M>(&both.tensor()?, activation)?.into());
    }
    let (first, second) = (a.numbers()?, b.numbers()?);
    let gpu = M::of(&first)?;
    let ((n, h, w, a_channels), (_, _, _, b_channels)) = (first.dims4()?, second.dims4()?);
    let (dtype, rows, channels) = (first.dtype(), n * h * w, (a_channels, b_channels));
    let joined = Joined { dtype, rows, channels, activation };
    let both = a_channels + b_channels;
    let y = gpu.numbers(dtype, rows * both)?;
    joined.forward(&gpu, gpu.at(&first)?, gpu.at(&second)?, gpu.address(&y))?;
    let y = gpu.tensor(y, dtype, (n, h, w, both))?;
    let (kept, wanted) = (y.clone(), [a.tracks(), b.tracks()]);
    record::<M>("concat", &[a, b], &[], y, move |dy| {
        let room = |(wanted, channels): (bool, usize)| {
            wanted.then(|| gpu.numbers(dtype, rows * channels)).transpose()
        };
        let [da, db] = [(wanted[0], a_channels), (wanted[1], b_channels)].map(room);
        let (da, db) = (da?, db?);
        let place = |memory: &Option<M::Memory>| memory.as_ref().map_or(0, |m| gpu.address(m));
        joined.backward(&gpu, (gpu.at(&kept)?, gpu.at(dy)?), (place(&da), place(&db)))?;
        let tensor = |memory: Option<M::Memory>, channels| {
            memory.map(|memory| gpu.tensor(memory, dtype, (n, h, w, channels))).transpose()
        };
        Ok(vec![tensor(da, a_channels)?, tensor(db, b_channels)?])
    })
}
