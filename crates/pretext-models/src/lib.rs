#![doc = include_str!("../README.md")]

mod builder;
mod error;
mod header;
mod parameters;

mod attention;
mod layers;
mod options;

mod encoder;
mod resnet;
mod xresnet;

mod head;
mod unet;

pub mod frozen;
pub mod weights;

pub use builder::{Builder, Init};
pub use encoder::{ENCODERS, Encoder, EncoderSpec, encoder};
pub use error::{Error, Mismatch, Result};
pub use head::{Classifier, ProjectionHead};
pub use layers::Mode;
pub use options::{Activation, EncoderOptions, ShortcutPool, StemPool};
pub use parameters::{Kind, Parameter, Parameters};
pub use unet::{UNet, UNetOptions};
