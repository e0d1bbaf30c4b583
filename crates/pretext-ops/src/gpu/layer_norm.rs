//! Layer normalisation of the rows of `[rows, channels]`, on a GPU.

use candle_core::Result;

use super::norm::Size;
use super::{Arg, FAN, Machine, Sums, join_sums, of_dtype, pack};

/// A batch of rows, whose parameters are `f32` `[C]`.
#[derive(Clone, Copy)]
pub(crate) struct Rows {
    pub(crate) size: Size,
    pub(crate) x: u64,
    pub(crate) weight: u64,
    /// `f32` `[rows, 2]`: mean and 1 / deviation.
    pub(crate) line: u64,
}

impl Rows {
    /// Whether threads take sixteen bytes at a time.
    fn packed(&self, other: &[u64]) -> Arg {
        let pack = pack(self.size.dtype, &[self.size.channels], &[&[self.x], other].concat());
        Arg::Count((pack > 1).into())
    }

    /// Writes the normalised rows, and their line.
    pub(crate) fn forward<M: Machine>(
        &self,
        machine: &M,
        bias: u64,
        eps: f64,
        y: u64,
    ) -> Result<()> {
        machine.launch(
            of_dtype("layer_norm", self.size.dtype)?,
            self.size.rows,
            &[
                Arg::Address(self.x),
                Arg::Address(self.weight),
                Arg::Address(bias),
                Arg::Count(self.size.channels),
                Arg::Number(eps),
                self.packed(&[y]),
                Arg::Address(self.line),
                Arg::Address(y),
            ],
        )
    }

    /// Writes the gradient of the rows.
    pub(crate) fn input_gradient<M: Machine>(&self, machine: &M, dy: u64, dx: u64) -> Result<()> {
        machine.launch(
            of_dtype("layer_norm_gradient", self.size.dtype)?,
            self.size.rows,
            &[
                Arg::Address(self.x),
                Arg::Address(dy),
                Arg::Address(self.weight),
                Arg::Address(self.line),
                Arg::Count(self.size.channels),
                self.packed(&[dy, dx]),
                Arg::Address(dx),
            ],
        )
    }

    /// Writes the gradients of weight and bias.
    pub(crate) fn parameter_gradients<M: Machine>(
        &self,
        machine: &M,
        dy: u64,
        (weight, bias): (u64, u64),
    ) -> Result<()> {
        let Size { dtype, rows, channels } = self.size;
        let step = self.size.step();
        let parts = rows.div_ceil(step);
        let memory = machine.alloc(parts as usize * channels as usize * 16)?;
        let (threads, packed) = self.size.shares(step, &[self.x, dy]);
        machine.launch(
            of_dtype("layer_norm_sums", dtype)?,
            threads,
            &[
                Arg::Address(self.x),
                Arg::Address(dy),
                Arg::Address(self.line),
                Arg::Count(rows),
                Arg::Count(channels),
                Arg::Count(step),
                packed,
                Arg::Address(machine.address(&memory)),
            ],
        )?;
        let sums = join_sums(machine, Sums { memory, parts }, 2 * channels, FAN)?;
        machine.launch(
            "layer_norm_parameters".into(),
            channels,
            &[
                Arg::Address(machine.address(&sums.memory)),
                Arg::Count(sums.parts),
                Arg::Count(channels),
                Arg::Address(weight),
                Arg::Address(bias),
            ],
        )
    }
}
