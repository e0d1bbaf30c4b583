//! A convolution's weights on a GPU: from `f32` `[O, C, K, L]`, as they are kept, to the dtype and order of
//! the pictures beside them, and back.

use candle_core::{DType, Result};

use super::product::{Form, Order};
use super::{Arg, Machine, count, of_dtype};
use crate::conv2d::Geometry;

fn sizes(g: &Geometry, order: Order) -> Result<(u32, [Arg; 3])> {
    let last = u32::from(order == Order::ChannelsLast);
    let area = g.kernel.0 * g.kernel.1;
    let sizes = [count(g.c)?, count(area)?, last];
    Ok((count(g.o * g.c * area)?, sizes.map(Arg::Count)))
}

/// Whether they lie in this form as they are kept.
pub(crate) fn lie_so(g: &Geometry, (dtype, order): Form) -> bool {
    dtype == DType::F32 && (order == Order::ChannelsFirst || g.kernel == (1, 1))
}

/// Writes them in a form.
pub(crate) fn weights<M: Machine>(
    machine: &M,
    g: &Geometry,
    (dtype, order): Form,
    from: u64,
    to: u64,
) -> Result<()> {
    let (threads, [channels, area, last]) = sizes(g, order)?;
    let arguments = [Arg::Address(from), channels, area, last, Arg::Address(to)];
    machine.launch(of_dtype("weights", dtype)?, threads, &arguments)
}

/// Writes their gradient, which has this form, as they are kept.
pub(crate) fn weights_gradient<M: Machine>(
    machine: &M,
    g: &Geometry,
    (dtype, order): Form,
    from: u64,
    to: u64,
) -> Result<()> {
    let (threads, [channels, area, last]) = sizes(g, order)?;
    let arguments = [Arg::Address(from), channels, area, last, Arg::Address(to)];
    machine.launch(of_dtype("weights_gradient", dtype)?, threads, &arguments)
}
