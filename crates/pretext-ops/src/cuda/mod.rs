//! The operators on a GPU: the feature `cuda`.
//!
//! Convolutions are cuDNN's, all else are kernels of this crate and a few operations of candle's.
//! Nothing in an operator waits for the GPU or copies from it; sums have a fixed order, and of
//! cuDNN's engines only those are taken that give the same result in each run.

#![allow(unsafe_code)]

mod cudnn;
mod descriptor;
mod device;
mod machine;
mod memory;
mod plan;

pub use self::device::{check_bf16, check_f16, device, devices, free_memory};
pub(crate) use self::machine::Gpu;
pub use self::memory::{MemoryUse, forget_peak, memory_use};
