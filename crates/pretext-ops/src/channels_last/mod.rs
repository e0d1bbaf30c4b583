//! The operators on channels-last pictures, `[N, H, W, C]`: the layout that trains fastest.
//!
//! A pixel's channels lie side by side, so that every operator works on whole vectors of channels,
//! whatever the size of the picture. Names and semantics are those of the plain operators on
//! `[N, C, H, W]`, which are the definition that these are tested against.

mod activation;
mod concat;
mod conv2d;
mod conv_bias;
mod conv_norm;
mod element;
mod feature_map;
mod layout;
mod moments;
mod norm;
mod norm_gradient;
pub(crate) mod pixels;
mod running;
mod shared;
mod statistics;
mod tile;

use candle_core::{Result, bail};

pub use self::activation::Activation;
pub use self::concat::concat;
pub use self::conv_bias::conv_bias;
pub use self::conv_norm::{ConvNormOutput, conv_norm, conv_norm_eval, conv_norm_following};
pub use self::conv2d::{WINOGRAD_VARIABLE, conv2d};
pub use self::feature_map::FeatureMap;
#[cfg(any(feature = "cuda", test))]
pub(crate) use self::feature_map::Gradient;
pub use self::layout::{channels_first, channels_last};
pub use self::norm::{Then, batch_norm, batch_norm_eval, batch_norm_following};
pub use self::pixels::{
    avg_pool2d, blur_pool2d, global_avg_pool2d, max_pool2d, pixel_shuffle, replicate_blur2d,
    upsample_nearest2d,
};
pub use self::running::Running;
pub(crate) use self::statistics::column_sums;

/// The four dimensions `[N, H, W, C]` of an input.
fn nhwc(op: &str, dims: &[usize]) -> Result<(usize, usize, usize, usize)> {
    match dims {
        &[n, h, w, c] => Ok((n, h, w, c)),
        dims => bail!("{op}: the input is {dims:?}, it must be [N, H, W, C]"),
    }
}
