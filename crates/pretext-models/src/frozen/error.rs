//! What can go wrong with a frozen encoder, and whose fault it is.

use std::io;
use std::path::PathBuf;

use candle_core::DType;

use super::{FROZEN, FrozenSpec, SMALLEST};
use crate::error::Mismatch;

/// Why a frozen encoder could not be opened or used. Every message is one line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The caller asked for an encoder that is not in [`FROZEN`].
    #[error("no frozen encoder is called {name:?}; known are {}", known())]
    Unknown {
        /// The name as given.
        name: String,
    },
    /// The file could not be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file of weights.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// The file is damaged or no safetensors file.
    #[error(
        "{}: not a whole safetensors file ({reason}); download it again, or convert a .pth or \
         .bin file with Python's safetensors.torch.save_file",
        path.display()
    )]
    Format {
        /// The file of weights.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The file holds the weights of another network than the one asked for.
    #[error("{}: not the weights of {name}: {mismatch}", path.display())]
    Misfit {
        /// The file of weights.
        path: PathBuf,
        /// The encoder asked for.
        name: &'static str,
        /// The tensors at fault.
        mismatch: Mismatch,
    },
    /// The file fits no entry of [`FROZEN`].
    #[error(
        "{}: not the weights of any frozen encoder; nearest is {name}: {mismatch}",
        path.display()
    )]
    Unrecognised {
        /// The file of weights.
        path: PathBuf,
        /// The entry with the fewest tensors at fault.
        name: &'static str,
        /// The tensors that keep the file from it.
        mismatch: Mismatch,
    },
    /// The weights are quantised or otherwise not floating point.
    #[error(
        "{}: {tensor} is {dtype}; give weights in floating point (f16, bf16, f32 or f64)",
        path.display()
    )]
    Type {
        /// The file of weights.
        path: PathBuf,
        /// The first such tensor.
        tensor: String,
        /// Its type.
        dtype: String,
    },
    /// The batch is not what the encoder takes.
    #[error("{} takes {}, not {dtype:?} {shape:?}", spec.name, takes(spec))]
    Input {
        /// The encoder.
        spec: &'static FrozenSpec,
        /// Type of the batch.
        dtype: DType,
        /// Shape of the batch.
        shape: Vec<usize>,
    },
    /// The tensor library failed, for example for want of memory.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

/// The names in [`FROZEN`], separated by commas.
fn known() -> String {
    FROZEN.iter().map(|spec| spec.name).collect::<Vec<_>>().join(", ")
}

/// The batches an encoder takes, in words.
fn takes(spec: &FrozenSpec) -> String {
    let size = spec.input_size;
    if spec.fixed_size {
        format!("f32 [N, 3, {size}, {size}]")
    } else {
        format!("f32 [N, 3, H, W] with H and W from {SMALLEST} up")
    }
}
