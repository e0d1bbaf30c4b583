//! What a network computes in while it trains.

use candle_core::{DType, Tensor};
use serde::{Deserialize, Serialize};

/// The numbers between a network's layers. Weights, their gradients, batch statistics and losses
/// are `f32` always. Scores are taken in `f32` on the processor; on a GPU as the network was trained,
/// as PyTorch's autocast does. Features of an encoder are `f32`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// 24 bits.
    #[default]
    F32,
    /// 8 bits in half the memory: faster where memory or the processor's `bf16` products decide. Its
    /// numbers reach as far as those of `f32`, so that losses need no scaling.
    Bf16,
    /// 11 bits in half the memory, on GPUs alone: also on those of before there was `bf16`. What is below
    /// 6e-8 is 0, so losses are scaled, and a step waits for the GPU to say whether its gradients are
    /// finite.
    F16,
}

impl Precision {
    /// Every choice by its name on the command line.
    pub const ALL: &[(&str, Self)] =
        &[("f32", Self::F32), ("bf16", Self::Bf16), ("f16", Self::F16)];

    /// The numbers that it computes with.
    pub(crate) fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::Bf16 => DType::BF16,
            Self::F16 => DType::F16,
        }
    }

    /// A network's input in this precision, which the network then computes in.
    ///
    /// # Errors
    /// If memory cannot be had.
    pub fn cast(self, input: &Tensor) -> candle_core::Result<Tensor> {
        input.to_dtype(self.dtype())
    }

    /// What the recipe's line says of it: nothing of the default.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::F32 => "",
            Self::Bf16 => " in bf16",
            Self::F16 => " in f16",
        }
    }
}
