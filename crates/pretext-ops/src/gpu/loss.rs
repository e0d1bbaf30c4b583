//! Losses on a GPU, one number a batch, which stays there.

use candle_core::Result;

use super::{Arg, Machine, Sums, join_sums};

/// Threads that add up differences.
const THREADS: u32 = 1 << 15;

/// Which loss of differences.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Squared,
    Absolute,
}

impl Kind {
    fn number(self) -> Arg {
        Arg::Count(match self {
            Self::Squared => 0,
            Self::Absolute => 1,
        })
    }
}

/// The mean over `count` differences, an `f32`.
pub(crate) fn mean_difference<M: Machine>(
    machine: &M,
    kind: Kind,
    count: u32,
    (prediction, target): (u64, u64),
) -> Result<M::Memory> {
    let threads = THREADS.min(count);
    let sums = machine.alloc(threads as usize * size_of::<f64>())?;
    machine.launch(
        "difference".into(),
        threads,
        &[
            Arg::Address(prediction),
            Arg::Address(target),
            Arg::Count(count),
            Arg::Count(threads),
            kind.number(),
            Arg::Address(machine.address(&sums)),
        ],
    )?;
    mean(machine, sums, threads, count)
}

/// The sum of `parts` doubles over `count`, an `f32`.
fn mean<M: Machine>(machine: &M, sums: M::Memory, parts: u32, count: u32) -> Result<M::Memory> {
    let sum = join_sums(machine, Sums { memory: sums, parts }, 1, 1)?.memory;
    let out = machine.alloc(size_of::<f32>())?;
    machine.launch(
        "mean".into(),
        1,
        &[
            Arg::Address(machine.address(&sum)),
            Arg::Count(count),
            Arg::Address(machine.address(&out)),
        ],
    )?;
    Ok(out)
}

/// The prediction's gradient, from that of the loss.
pub(crate) fn difference_gradient<M: Machine>(
    machine: &M,
    kind: Kind,
    count: u32,
    (prediction, target): (u64, u64),
    gradient: u64,
    out: u64,
) -> Result<()> {
    machine.launch(
        "difference_gradient".into(),
        count,
        &[
            Arg::Address(prediction),
            Arg::Address(target),
            Arg::Address(gradient),
            Arg::Count(count),
            kind.number(),
            Arg::Address(out),
        ],
    )
}

/// A batch's logits, `f32` `[rows, k]`, and classes, `u32` `[rows]`.
#[derive(Clone, Copy)]
pub(crate) struct Logits {
    pub(crate) logits: u64,
    pub(crate) classes: u64,
    pub(crate) rows: u32,
    pub(crate) k: u32,
    pub(crate) smoothing: f64,
}

/// The mean cross-entropy, an `f32`.
pub(crate) fn cross_entropy<M: Machine>(machine: &M, batch: &Logits) -> Result<M::Memory> {
    let losses = machine.alloc(batch.rows as usize * size_of::<f64>())?;
    machine.launch(
        "cross_entropy".into(),
        batch.rows,
        &[
            Arg::Address(batch.logits),
            Arg::Address(batch.classes),
            Arg::Count(batch.k),
            Arg::Number(batch.smoothing),
            Arg::Address(machine.address(&losses)),
        ],
    )?;
    mean(machine, losses, batch.rows, batch.rows)
}

/// The logits' gradient, from that of the loss.
pub(crate) fn cross_entropy_gradient<M: Machine>(
    machine: &M,
    batch: &Logits,
    gradient: u64,
    out: u64,
) -> Result<()> {
    machine.launch(
        "cross_entropy_gradient".into(),
        batch.rows,
        &[
            Arg::Address(batch.logits),
            Arg::Address(batch.classes),
            Arg::Address(gradient),
            Arg::Count(batch.rows),
            Arg::Count(batch.k),
            Arg::Number(batch.smoothing),
            Arg::Address(out),
        ],
    )
}
