//! Batch normalisation of `[rows, channels]` with a residual and an activation, on a GPU.

use candle_core::{DType, Result};

use super::{Arg, FAN, Machine, Sums, count, join_sums, of_dtype, pack};
use crate::channels_last::Activation;

/// Chunks of rows that sums are made of at most, if [`ROWS`] lets them: threads enough, and three joins.
const CHUNKS: u32 = FAN * FAN * FAN;
/// Rows that one thread adds up: few enough for `f32`, enough that the parts are few.
const ROWS: std::ops::RangeInclusive<u32> = 16..=1024;
/// Rows of a thread that adds nothing up, as many as it asks for at once.
const AHEAD: u32 = 4;

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

    pub(super) fn step(self) -> u32 {
        self.rows.div_ceil(CHUNKS).clamp(*ROWS.start(), *ROWS.end())
    }

    /// Threads that have `step` rows each of what they take at a time, and whether that is a pack.
    pub(super) fn shares(self, step: u32, pictures: &[u64]) -> (u32, Arg) {
        let pack = pack(self.dtype, &[self.channels], pictures);
        (self.rows.div_ceil(step) * (self.channels / pack), Arg::Count((pack > 1).into()))
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

fn floats<M: Machine>(machine: &M, rows: usize, size: Size) -> Result<M::Memory> {
    machine.alloc(rows * size.channels as usize * size_of::<f32>())
}

/// Means and sums of squares about them of pictures' channels, `f64` `[parts, C, 2]`.
pub(crate) struct Moments<Memory> {
    pub(crate) memory: Memory,
    /// Rows of a part.
    pub(crate) step: u32,
}

/// Those of pictures, in [`FAN`] parts at most; in one if they are wanted `whole`.
pub(crate) fn moments<M: Machine>(
    machine: &M,
    size: Size,
    x: u64,
    whole: bool,
) -> Result<Moments<M::Memory>> {
    let Size { rows, channels, .. } = size;
    let pairs = |chunks: u32| machine.alloc(chunks as usize * channels as usize * 16);
    let mut step = size.step();
    let mut chunks = rows.div_ceil(step);
    let mut memory = pairs(chunks)?;
    let (threads, packed) = size.shares(step, &[x]);
    machine.launch(
        of_dtype("moments", size.dtype)?,
        threads,
        &[
            Arg::Address(x),
            Arg::Count(rows),
            Arg::Count(channels),
            Arg::Count(step),
            packed,
            Arg::Address(machine.address(&memory)),
        ],
    )?;
    while chunks > if whole { 1 } else { FAN } {
        let joined = chunks.div_ceil(FAN);
        let out = pairs(joined)?;
        machine.launch(
            "join_moments".into(),
            joined * channels,
            &[
                Arg::Address(machine.address(&memory)),
                Arg::Count(rows),
                Arg::Count(channels),
                Arg::Count(step),
                Arg::Address(machine.address(&out)),
            ],
        )?;
        (memory, chunks, step) = (out, joined, step.saturating_mul(FAN));
    }
    Ok(Moments { memory, step })
}

/// Where the batch's statistics go, `f32` `[C]` each.
#[derive(Clone, Copy)]
pub(crate) struct Statistics {
    pub(crate) mean: u64,
    /// Unbiased.
    pub(crate) variance: u64,
    /// How far what lies there is moved towards the batch's; 1: it is written.
    pub(crate) momentum: f64,
}

/// The line of a batch's own statistics, `f32` `[4, C]`: mean, scale, factor, shift. `moments` lie in
/// parts of `step` of all `rows`; `weight` and `bias` are `f32` `[C]`.
pub(crate) fn own_line<M: Machine>(
    machine: &M,
    size: Size,
    (moments, step, rows): (u64, u32, u32),
    (weight, bias): (u64, u64),
    eps: f64,
    statistics: Statistics,
) -> Result<M::Memory> {
    let line = floats(machine, 4, size)?;
    machine.launch(
        "own_line".into(),
        size.channels,
        &[
            Arg::Address(moments),
            Arg::Address(weight),
            Arg::Address(bias),
            Arg::Number(eps),
            Arg::Count(rows),
            Arg::Count(size.channels),
            Arg::Count(step),
            Arg::Number(statistics.momentum),
            Arg::Address(machine.address(&line)),
            Arg::Address(statistics.mean),
            Arg::Address(statistics.variance),
        ],
    )?;
    Ok(line)
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
        "given_line".into(),
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
        "bias_line".into(),
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
    let (threads, packed) = size.shares(AHEAD, &[x, residual, y]);
    machine.launch(
        of_dtype("normalise", size.dtype)?,
        threads,
        &[
            Arg::Address(x),
            Arg::Address(residual),
            Arg::Address(line),
            Arg::Count(size.rows),
            Arg::Count(size.channels),
            Arg::Count(AHEAD),
            packed,
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

/// What the gradients are made of: sums over rows, `f64` `[parts, C, 2]`, in [`FAN`] parts at most; in
/// one if they are wanted `whole`.
pub(crate) fn gradient_sums<M: Machine>(
    machine: &M,
    backward: &Backward,
    whole: bool,
) -> Result<Sums<M::Memory>> {
    let &Backward { size, x, residual, dy, line, activation, .. } = backward;
    let Size { rows, channels, .. } = size;
    let step = size.step();
    let parts = rows.div_ceil(step);
    let memory = machine.alloc(parts as usize * channels as usize * 16)?;
    let (threads, packed) = size.shares(step, &[x, residual, dy]);
    machine.launch(
        of_dtype("gradient_sums", size.dtype)?,
        threads,
        &[
            Arg::Address(x),
            Arg::Address(residual),
            Arg::Address(dy),
            Arg::Address(line),
            Arg::Count(rows),
            Arg::Count(channels),
            Arg::Count(step),
            packed,
            number(activation),
            Arg::Address(machine.address(&memory)),
        ],
    )?;
    join_sums(machine, Sums { memory, parts }, 2 * channels, if whole { 1 } else { FAN })
}

/// Writes the gradients of weight and bias, `f32` `[C]`, where their places are not 0; returns the slopes
/// that [`input_gradient`] wants. `sums` are [`gradient_sums`] in so many parts over so many `rows`.
pub(crate) fn parameter_gradients<M: Machine>(
    machine: &M,
    backward: &Backward,
    (sums, parts, rows): (u64, u32, u32),
    (weight, bias): (u64, u64),
) -> Result<M::Memory> {
    let &Backward { size, line, own, .. } = backward;
    let slopes = floats(machine, 3, size)?;
    machine.launch(
        "slopes".into(),
        size.channels,
        &[
            Arg::Address(sums),
            Arg::Count(parts),
            Arg::Address(line),
            Arg::Count(rows),
            Arg::Count(size.channels),
            Arg::Count(own.into()),
            Arg::Address(weight),
            Arg::Address(bias),
            Arg::Address(machine.address(&slopes)),
        ],
    )?;
    Ok(slopes)
}

/// The gradients of `x` and of the residual, each where its place is not 0.
pub(crate) fn input_gradient<M: Machine>(
    machine: &M,
    backward: &Backward,
    slopes: u64,
    (dx, before): (u64, u64),
) -> Result<()> {
    let &Backward { size, x, residual, dy, line, activation, .. } = backward;
    let (threads, packed) = size.shares(AHEAD, &[x, residual, dy, dx, before]);
    machine.launch(
        of_dtype("norm_gradient", size.dtype)?,
        threads,
        &[
            Arg::Address(x),
            Arg::Address(residual),
            Arg::Address(dy),
            Arg::Address(line),
            Arg::Address(slopes),
            Arg::Count(size.rows),
            Arg::Count(size.channels),
            Arg::Count(AHEAD),
            packed,
            number(activation),
            Arg::Address(dx),
            Arg::Address(before),
        ],
    )
}
