#![doc = include_str!("../README.md")]

mod image;
mod normalise;

pub mod ops;

mod plan;
mod transform;
pub mod transforms;

mod error;
mod mixup;

pub use crate::image::{Image, Rect, Size};
pub use error::Error;
pub use mixup::{Mixup, MixupParams};
pub use normalise::Normalise;
pub use plan::{Op, Plan};
pub use transform::Transform;
pub use transforms::*;

/// The version of `rand` whose `Rng` stands in this crate's signatures.
pub use rand;
