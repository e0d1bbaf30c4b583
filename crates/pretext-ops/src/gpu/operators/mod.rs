//! The operators on tensors that lie on a machine, as nodes of candle's graph.
//!
//! Pictures are `[N, H, W, C]`, `f32`, `bf16` or `f16`. Callers have checked shapes and dtypes.

mod activation;
mod conv2d;
mod loss;
mod node;
mod norm;
mod pixels;

pub(crate) use self::activation::{activate, concat};
pub(crate) use self::conv2d::{
    conv_bias, conv_norm, conv_norm_eval, conv2d, conv2d_channels_first,
};
pub(crate) use self::loss::{cross_entropy, difference};
pub(crate) use self::norm::{batch_norm, batch_norm_eval};
pub(crate) use self::pixels::{max_pool2d, pixel_shuffle, weighted};
