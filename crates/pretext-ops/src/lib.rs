#![doc = include_str!("../README.md")]

mod activation;
#[cfg(target_arch = "x86_64")]
mod amx;
mod batch_norm;
mod blur_pool;
mod buffer;
pub mod channels_last;
mod conv2d;
#[cfg(feature = "cuda")]
pub mod cuda;
#[cfg(any(feature = "cuda", test))]
mod gpu;
mod gradients;
mod isa;
mod layer_norm;
mod linear;
mod loss;
mod matrix;
mod peers;
mod pixel_shuffle;
mod plane;
mod pool;
mod stored;
mod upsample;
mod values;

pub use activation::{mish, relu};
pub use batch_norm::{BatchNormOutput, batch_norm, batch_norm_eval};
pub use blur_pool::{blur_pool2d, replicate_blur2d};
pub use conv2d::conv2d;
pub use gradients::{backward, backward_by_parts};
pub use isa::{ISA_VARIABLE, Isa};
pub use layer_norm::layer_norm;
pub use linear::linear;
pub use loss::{cross_entropy, l1_loss, mse_loss};
pub use peers::{Peers, among};
pub use pixel_shuffle::pixel_shuffle;
pub use pool::{AvgPool, avg_pool2d, global_avg_pool2d, max_pool2d};
pub use upsample::{upsample_bilinear2d, upsample_nearest2d};
