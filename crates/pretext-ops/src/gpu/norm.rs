//! Batch normalisation of `[rows, channels]` with a residual and an activation, on a GPU.

use candle_core::{DType, Result};

use super::{Arg, FAN, Machine, count, join_sums, of_dtype};
use crate::channels_last::Activation;

/// Threads that sums are shared among, about.
const THREADS: usize = 1 << 17;
/// Rows that one thread adds up: few enough for `f32`, enough that the parts are few.
const ROWS: std::ops::RangeInclusive<usize> = 8..=1024;

/// What pictures are to a normalisation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) dtype: DType,
    pub(crate) rows: u32,
    pub(crate) channels: u32,
}

impl Size {
    /// Of `numbers` in pixels of `channels` each, neither of them 0.
    pub(crate) fn new(dtype: DType, numbers: usize, channels: usize) -> Result<Self> {
        count(numbers)?;
        Ok(Self { dtype, rows: count(numbers / channels)?, channels: count(channels)? })
    }

    fn numbers(self) -> u32 {
        self.rows * self.channels
    }

    fn step(self) -> u32 {
        let each = (self.numbers() as usize).div_ceil(THREADS);
        each.clamp(*ROWS.start(), *ROWS.end()) as u32
    }
}

/// Kernels' number of an activation.
pub(crate) fn number(activation: Activation) -> Arg {
    Arg::Count(match activation {
        Activation::Identity => 0,
        Activation::Relu => 1,
        Activation::Mish => 2,
    })
}

/// What normalises by the batch's own statistics.
pub(crate) struct Own<Memory> {
    /// `f32` `[4, C]`: mean, scale, factor, shift.
    pub(crate) line: Memory,
    /// `f32` `[C]`.
    pub(crate) mean: Memory,
    /// `f32` `[C]`, unbiased.
    pub(crate) variance: Memory,
}

fn floats<M: Machine>(machine: &M, rows: usize, size: Size) -> Result<M::Memory> {
    machine.alloc(rows * size.channels as usize * size_of::<f32>())
}

/// Means and sums of squares about them of pictures' channels: `f64` `[C, 2]`.
pub(crate) fn moments<M: Machine>(machine: &M, size: Size, x: u64) -> Result<M::Memory> {
    let Size { rows, channels, .. } = size;
    let pairs = |chunks: u32| machine.alloc(chunks as usize * channels as usize * 16);
    let mut step = size.step();
    let mut chunks = rows.div_ceil(step);
    let mut moments = pairs(chunks)?;
    machine.launch(
        &of_dtype("moments", size.dtype)?,
        chunks * channels,
        &[
            Arg::Address(x),
            Arg::Count(rows),
            Arg::Count(channels),
            Arg::Count(step),
            Arg::Address(machine.address(&moments)),
        ],
    )?;
    while chunks > 1 {
        let joined = chunks.div_ceil(FAN);
        let out = pairs(joined)?;
        machine.launch(
            "join_moments",
            joined * channels,
            &[
                Arg::Address(machine.address(&moments)),
                Arg::Count(rows),
                Arg::Count(channels),
                Arg::Count(step),
                Arg::Address(machine.address(&out)),
            ],
        )?;
        (moments, chunks, step) = (out, joined, step.saturating_mul(FAN));
    }
    Ok(moments)
}

/// The line of a batch's own statistics, by its [`moments`] over so many `rows`; `weight` and `bias`
/// are `f32` `[C]`.
pub(crate) fn own_line<M: Machine>(
    machine: &M,
    size: Size,
    (moments, rows): (u64, u32),
    (weight, bias): (u64, u64),
    eps: f64,
) -> Result<Own<M::Memory>> {
    let channels = size.channels;
    let own = Own {
        line: floats(machine, 4, size)?,
        mean: floats(machine, 1, size)?,
        variance: floats(machine, 1, size)?,
    };
    machine.launch(
        "own_line",
        channels,
        &[
            Arg::Address(moments),
            Arg::Address(weight),
            Arg::Address(bias),
            Arg::Number(eps),
            Arg::Count(rows),
            Arg::Count(channels),
            Arg::Address(machine.address(&own.line)),
            Arg::Address(machine.address(&own.mean)),
            Arg::Address(machine.address(&own.variance)),
        ],
    )?;
    Ok(own)
}

/// The line of given statistics; all are `f32` `[C]`.
pub(crate) fn given_line<M: Machine>(
    machine: &M,
    size: Size,
    (mean, variance): (u64, u64),
    (weight, bias): (u64, u64),
    eps: f64,
) -> Result<M::Memory> {
    let line = floats(machine, 4, size)?;
    machine.launch(
        "given_line",
        size.channels,
        &[
            Arg::Address(mean),
            Arg::Address(variance),
            Arg::Address(weight),
            Arg::Address(bias),
            Arg::Number(eps),
            Arg::Count(size.channels),
            Arg::Address(machine.address(&line)),
        ],
    )?;
    Ok(line)
}

/// The line that adds a bias, `f32` `[C]`, and does nothing else.
pub(crate) fn bias_line<M: Machine>(machine: &M, size: Size, bias: u64) -> Result<M::Memory> {
    let line = floats(machine, 4, size)?;
    machine.launch(
        "bias_line",
        size.channels,
        &[Arg::Address(bias), Arg::Count(size.channels), Arg::Address(machine.address(&line))],
    )?;
    Ok(line)
}

/// `activation(x factor + shift + residual)`; a `residual` of 0 is none.
pub(crate) fn normalise<M: Machine>(
    machine: &M,
    size: Size,
    (x, residual): (u64, u64),
    line: u64,
    activation: Activation,
    y: u64,
) -> Result<()> {
    machine.launch(
        &of_dtype("normalise", size.dtype)?,
        size.numbers(),
        &[
            Arg::Address(x),
            Arg::Address(residual),
            Arg::Address(line),
            Arg::Count(size.channels),
            number(activation),
            Arg::Address(y),
        ],
    )
}

/// What the gradients of a normalisation are made of.
#[derive(Clone, Copy)]
pub(crate) struct Backward {
    pub(crate) size: Size,
    pub(crate) x: u64,
    /// 0 for none.
    pub(crate) residual: u64,
    pub(crate) dy: u64,
    pub(crate) line: u64,
    pub(crate) activation: Activation,
    /// Whether the statistics were the batch's.
    pub(crate) own: bool,
}

/// What the gradients are made of: sums over rows, `f64` `[C, 2]`.
pub(crate) fn gradient_sums<M: Machine>(machine: &M, backward: &Backward) -> Result<M::Memory> {
    let &Backward { size, x, residual, dy, line, activation, .. } = backward;
    let Size { rows, channels, .. } = size;
    let step = size.step();
    let chunks = rows.div_ceil(step);
    let sums = machine.alloc(chunks as usize * channels as usize * 16)?;
    machine.launch(
        &of_dtype("gradient_sums", size.dtype)?,
        chunks * channels,
        &[
            Arg::Address(x),
            Arg::Address(residual),
            Arg::Address(dy),
            Arg::Address(line),
            Arg::Count(rows),
            Arg::Count(channels),
            Arg::Count(step),
            number(activation),
            Arg::Address(machine.address(&sums)),
        ],
    )?;
    join_sums(machine, sums, chunks, 2 * channels)
}

/// The gradients of weight and bias, `f32` `[2, C]`, and the slopes that [`input_gradient`] wants, by
/// [`gradient_sums`] over so many `rows`.
pub(crate) fn parameter_gradients<M: Machine>(
    machine: &M,
    backward: &Backward,
    (sums, rows): (u64, u32),
) -> Result<(M::Memory, M::Memory)> {
    let &Backward { size, line, own, .. } = backward;
    let channels = size.channels;
    let gradient = floats(machine, 2, size)?;
    let slopes = floats(machine, 3, size)?;
    machine.launch(
        "slopes",
        channels,
        &[
            Arg::Address(sums),
            Arg::Address(line),
            Arg::Count(rows),
            Arg::Count(channels),
            Arg::Count(own.into()),
            Arg::Address(machine.address(&gradient)),
            Arg::Address(machine.address(&slopes)),
        ],
    )?;
    Ok((gradient, slopes))
}

/// The gradients of `x` and, where `before` is not 0, of the residual.
pub(crate) fn input_gradient<M: Machine>(
    machine: &M,
    backward: &Backward,
    slopes: u64,
    (dx, before): (u64, u64),
) -> Result<()> {
    let &Backward { size, x, residual, dy, line, activation, .. } = backward;
    machine.launch(
        &of_dtype("norm_gradient", size.dtype)?,
        size.numbers(),
        &[
            Arg::Address(x),
            Arg::Address(residual),
            Arg::Address(dy),
            Arg::Address(line),
            Arg::Address(slopes),
            Arg::Count(size.channels),
            number(activation),
            Arg::Address(dx),
            Arg::Address(before),
        ],
    )
}
