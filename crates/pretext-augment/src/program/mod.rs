//! Plans as programs for a GPU: what the kernels in `kernels/` read, as plain numbers.
//!
//! [`Step`](step::Step) is one operation with all its decisions taken and its rectangle clipped,
//! [`compile()`] makes steps of a plan, and [`Batch`] lays the programs of many views into one buffer. Nothing here needs
//! a GPU: the test beside it runs the same kernels on the processor.

mod batch;
mod compile;
#[cfg(test)]
mod host_test;
mod memory;
mod numbers;
mod step;

pub(crate) use batch::{Batch, Number, Room};
use compile::{Program, compile};
pub(crate) use memory::Memory;
