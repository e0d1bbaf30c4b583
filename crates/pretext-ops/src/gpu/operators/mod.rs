//! The operators on what lies on a machine: on tensors as nodes of candle's graph, on feature maps beside it.
//!
//! Pictures are `[N, H, W, C]`, `f32`, `bf16` or `f16`. Callers have checked shapes and dtypes.

mod activation;
mod conv2d;
mod layer_norm;
mod loss;
mod node;
mod norm;
mod pixels;
mod tape;

pub(crate) use self::activation::{activate, concat};
pub(crate) use self::conv2d::{
    conv_bias, conv_norm, conv_norm_eval, conv2d, conv2d_channels_first,
};
pub(crate) use self::layer_norm::layer_norm;
pub(crate) use self::loss::{cross_entropy, difference};
#[cfg(feature = "cuda")]
pub(crate) use self::norm::Statistics;
pub(crate) use self::norm::{By, normalised};
pub(crate) use self::pixels::{max_pool2d, pixel_shuffle, weighted};
pub(crate) use self::tape::Tape;
