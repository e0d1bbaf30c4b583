//! Activations that operators apply to what they are about to write.

use candle_core::{Result, Tensor};

/// What a layer ends in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activation {
    /// Nothing.
    #[default]
    Identity,
    /// [`relu`](crate::relu).
    Relu,
    /// [`mish`](crate::mish).
    Mish,
}

impl Activation {
    /// The activation of each element.
    ///
    /// # Errors
    /// If the dtype or device does not fit.
    pub fn apply(self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Identity => Ok(x.clone()),
            Self::Relu => crate::relu(x),
            Self::Mish => crate::mish(x),
        }
    }
}
