//! A convolution's weights on a GPU: from `f32` `[O, C, K, L]`, as they are kept, to the dtype and order of
//! the pictures beside them, and back.

use candle_core::{DType, Result};

use super::product::{Form, Order};
use super::{Arg, Machine, count, of_dtype};
use crate::conv2d::Geometry;

/// Whether they lie in this form as they are kept.
pub(crate) fn lie_so(g: &Geometry, (dtype, order): Form) -> bool {
    dtype == DType::F32 && (order == Order::ChannelsFirst || g.kernel == (1, 1))
}

/// Writes them in a form.
pub(crate) fn weights<M: Machine>(
    machine: &M,
    g: &Geometry,
    form: Form,
    from: u64,
    to: u64,
) -> Result<()> {
    launch(machine, "weights", g, form, from, to)
}

/// Writes their gradient, which has this form, as they are kept.
pub(crate) fn weights_gradient<M: Machine>(
    machine: &M,
    g: &Geometry,
    form: Form,
    from: u64,
    to: u64,
) -> Result<()> {
    launch(machine, "weights_gradient", g, form, from, to)
}

/// A thread for each number.
fn launch<M: Machine>(
    machine: &M,
    kernel: &str,
    g: &Geometry,
    (dtype, order): Form,
    from: u64,
    to: u64,
) -> Result<()> {
    let area = g.kernel.0 * g.kernel.1;
    let arguments = [
        Arg::Address(from),
        Arg::Count(count(g.c)?),
        Arg::Count(count(area)?),
        Arg::Count((order == Order::ChannelsLast).into()),
        Arg::Address(to),
    ];
    machine.launch(of_dtype(kernel, dtype)?, count(g.o * g.c * area)?, &arguments)
}
