//! The fused path: from borrowed pixels through a whole plan to a network's input, in vectors.
//!
//! The plain operations in `ops` are the definition; what comes out here is the same, byte for byte,
//! on every instruction set.

// Where loops index arrays of vectors, the compiler keeps them in registers.
#![allow(clippy::needless_range_loop)]

mod blur;
mod canvas;
mod isa;
mod planes;
mod points;
mod resample;
mod vectors;
mod write;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use canvas::{Canvas, Workspace};
pub use isa::{ISA_VARIABLE, Isa};
pub use write::{Element, Layout};
