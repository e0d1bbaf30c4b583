#![doc = include_str!("../README.md")]

mod error;
mod parameters;

mod builder;

mod layers;

mod resnet;
mod xresnet;

mod encoder;

mod head;

mod unet;

pub mod frozen;
pub mod weights;

pub use builder::{Builder, Init};
pub use encoder::{ENCODERS, Encoder, EncoderSpec, encoder};
pub use error::{Error, Result};
pub use head::{Classifier, ProjectionHead};
pub use layers::Mode;
pub use parameters::{Kind, Parameter, Parameters};
pub use unet::{UNet, UNetOptions};
pub use xresnet::{Activation, EncoderOptions, ShortcutPool};
