//! Numbers one by one on a GPU: activations, and the sum of gradients that meet.

use candle_core::{DType, Result};

use super::norm::number;
use super::{Arg, Machine, count, of_dtype, pack};
use crate::channels_last::Activation;

/// Launches a kernel over the numbers of `pictures` with what else it takes, and then its `result`.
fn launch<M: Machine>(
    machine: &M,
    kernel: &str,
    (dtype, numbers): (DType, usize),
    pictures: &[u64],
    kind: Option<Activation>,
    result: u64,
) -> Result<()> {
    let pack = pack(dtype, &[], &[pictures, &[result]].concat());
    let numbers = count(numbers)?;
    let mut arguments: Vec<Arg> = pictures.iter().map(|&at| Arg::Address(at)).collect();
    arguments.extend([Arg::Count(numbers), Arg::Count((pack > 1).into())]);
    arguments.extend(kind.map(number));
    arguments.push(Arg::Address(result));
    machine.launch(of_dtype(kernel, dtype)?, numbers.div_ceil(pack), &arguments)
}

/// The activation of each number.
pub(crate) fn activation<M: Machine>(
    machine: &M,
    of: (DType, usize),
    x: u64,
    activation: Activation,
    y: u64,
) -> Result<()> {
    launch(machine, "activation", of, &[x], Some(activation), y)
}

/// Its gradient.
pub(crate) fn activation_gradient<M: Machine>(
    machine: &M,
    of: (DType, usize),
    (x, dy): (u64, u64),
    activation: Activation,
    dx: u64,
) -> Result<()> {
    launch(machine, "activation_gradient", of, &[x, dy], Some(activation), dx)
}

/// The sum of two.
pub(crate) fn add<M: Machine>(
    machine: &M,
    of: (DType, usize),
    (a, b): (u64, u64),
    sum: u64,
) -> Result<()> {
    launch(machine, "add", of, &[a, b], None, sum)
}
