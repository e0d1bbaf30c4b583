//! Image augmentations for self-supervised learning: chance first, pixels second.
//!
//! A [`Transform`] turns a size and a random stream into a [`Plan`], and a plan turns pixels into
//! pixels. All chance is in the first half, all pixels are in the second.
//!
//! ```
//! use pretext_augment::{ImageRef, Layout, Normalise, RandomGreyBlur, Size, Transform, Workspace};
//! use rand::{SeedableRng, rngs::StdRng};
//!
//! let bytes = vec![127; 3 * 64 * 48];
//! let picture = ImageRef::new(Size { width: 64, height: 48 }, &bytes)?;
//! let plan = RandomGreyBlur::default().sample(picture.size(), &mut StdRng::seed_from_u64(7));
//! let mut input = vec![0.0_f32; 3 * 64 * 48];
//! // The same plan gives the same numbers, anywhere.
//! plan.write(picture, &Normalise::IMAGENET, Layout::Chw, &mut Workspace::new(), &mut input)?;
//! # Ok::<(), pretext_augment::Error>(())
//! ```
//!
//! - Geometry: [`RandomResizedCrop`], [`EvalCrop`], [`HorizontalFlip`].
//! - Colour and sharpness: [`ColourJitter`], [`Greyscale`], [`GaussianBlur`], [`RandomSolarise`].
//! - Inputs of pretext tasks: [`RandomGreyBlur`], [`CutOut`], [`RandomErasing`], [`Colourise`],
//!   and, with labels, [`Corruption`] and [`Jigsaw`].
//! - Combined: [`Compose`], [`OneOf`], [`Probability`].
//! - Towards a network: [`Normalise`], [`Mixup`].
//! - Published recipes by name: [`presets`].
//!
//! Each operation is there twice, with one result: [`Plan::apply`] and [`Normalise::to_chw`] are the
//! plain definition on an [`Image`] that owns its pixels; [`Plan::write`] goes from borrowed pixels, an
//! [`ImageRef`], to the network's input in vectors. For several results of one picture there are
//! [`Canvas`] and [`write_views`].
//!
//! Semantics are torchvision's; the README lists what differs.

#![deny(unsafe_code)]

/// So that tests in here share code with those in `tests/`.
#[cfg(test)]
extern crate self as pretext_augment;

mod image;
mod image_ref;
mod normalise;

pub mod ops;

mod plan;
mod transform;
pub mod transforms;

mod fused;
#[cfg(any(test, feature = "cuda"))]
mod program;
#[cfg(any(test, feature = "cuda"))]
mod upload;

#[cfg(feature = "cuda")]
pub mod cuda;

pub mod presets;
#[cfg(feature = "candle")]
mod tensor;
mod views;

mod error;
mod mixup;

pub use crate::image::{Image, Rect, Size};
pub use error::Error;
pub use fused::{Canvas, Element, ISA_VARIABLE, Isa, Layout, Workspace};
pub use image_ref::ImageRef;
pub use mixup::{Mixup, MixupParams};
pub use normalise::Normalise;
pub use plan::{Op, Plan};
#[cfg(feature = "candle")]
pub use tensor::batch;
pub use transform::Transform;
pub use transforms::*;
pub use views::{View, Views, write_views};

/// The version of `rand` whose `Rng` stands in this crate's signatures.
pub use rand;

/// The examples of the README, compiled and run with the tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
