#![doc = include_str!("../README.md")]

mod catalog;
mod dataset;
mod decode;
mod error;
mod fingerprint;
mod pictures;
mod pixels;
mod place;
mod shards;
mod summary;

pub mod cache;
pub mod loader;

pub use dataset::Dataset;
pub use decode::{DecodeError, Decoder, MAX_BYTES, MAX_PIXELS, Picture, decode, jpeg_decoder};
pub use error::Error;
pub use loader::{Batch, Batches, Buffers, Damaged, Loader, Rows};
pub use pictures::{Labelled, Pictures};
pub use pixels::Pixels;
pub use summary::{ClassCount, Summary};
