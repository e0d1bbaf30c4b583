#![doc = include_str!("../README.md")]

mod catalog;
mod dataset;
mod decode;
mod error;
mod fingerprint;
mod pictures;
mod summary;

pub mod cache;
pub mod loader;

pub use dataset::Dataset;
pub use decode::{DecodeError, MAX_BYTES, MAX_PIXELS, Picture, decode};
pub use error::Error;
pub use loader::{Batch, Batches, Damaged, Loader};
pub use pictures::{Labelled, Pictures};
pub use summary::{ClassCount, Summary};
