//! Frozen pretrained encoders: networks that others trained, for embedding and evaluation only.
//!
//! Transfer learning is the yardstick that self-supervision is held against, so the usual
//! pretrained networks stand here beside our own: ResNet, ViT, DINOv2 and ConvNeXt. The
//! arithmetic is that of `candle-transformers`, which is written for inference: batch norm always
//! uses its running statistics, and several of its operators have no gradient. Nothing here can
//! be trained or fine-tuned, and [`FrozenEncoder::embed`] returns detached tensors.
//!
//! Nothing is downloaded either. A file of weights is a local safetensors file with the tensor
//! names of torchvision, timm or Hugging Face; [`FrozenSpec::weights`] says, entry by entry, which
//! published file fits. [`detect`] finds the entry from a file alone:
//!
//! ```no_run
//! use std::path::Path;
//!
//! use candle_core::{DType, Device, Tensor};
//! use pretext_models::frozen::{FrozenEncoder, detect};
//!
//! let path = Path::new("dinov2-small/model.safetensors");
//! let encoder = FrozenEncoder::open(detect(path)?.name, path, &Device::Cpu)?;
//! let side = encoder.input_size(); // 224
//! let x = Tensor::zeros((2, 3, side, side), DType::F32, &Device::Cpu)?;
//! assert_eq!(encoder.embed(&x)?.dims(), [2, encoder.dimension()]); // [2, 384]
//! # Ok::<(), pretext_models::frozen::Error>(())
//! ```
//!
//! What a file must hold is not written down twice: each network is first built from a source
//! that only takes note of what is asked of it, and the header of the file is compared with that
//! list before a single weight is read.

mod checkpoint;
mod convnext;
mod dinov2;
mod error;
mod fit;
mod positions;
mod resnet;
mod vit;

use std::fmt::Debug;
use std::path::Path;

use candle_core::{DType, Device, Module as _, Tensor};
use candle_nn::{Func, VarBuilder};

use checkpoint::Checkpoint;
pub use error::Error;

pub use crate::error::Mismatch;

/// Mean of ImageNet's channels, red, green, blue, for pixels in `0..=1`.
const IMAGENET_MEAN: [f32; 3] = [0.485, 0.456, 0.406];

/// Standard deviation of ImageNet's channels, red, green, blue, for pixels in `0..=1`.
const IMAGENET_STD: [f32; 3] = [0.229, 0.224, 0.225];

/// Smallest height and width, in pixels, that a convolutional entry takes: it halves them five
/// times.
const SMALLEST: usize = 32;

/// All frozen encoders, one entry a network. [`detect`] returns the first entry that fits.
pub const FROZEN: &[FrozenSpec] = &[
    resnet::RESNET18,
    resnet::RESNET34,
    resnet::RESNET50,
    resnet::RESNET101,
    resnet::RESNET152,
    vit::VIT_BASE,
    vit::DINO_SMALL,
    vit::DINO_BASE,
    dinov2::SMALL,
    dinov2::BASE,
    dinov2::LARGE,
    convnext::ATTO,
    convnext::NANO,
    convnext::TINY,
    convnext::SMALL,
    convnext::BASE,
    convnext::V2_ATTO,
    convnext::V2_NANO,
    convnext::V2_TINY,
    convnext::V2_BASE,
];

/// What is known of one frozen encoder before its weights are read.
#[derive(Debug)]
pub struct FrozenSpec {
    /// The word that names it on a command line.
    pub name: &'static str,
    /// Network, paper and what its embedding is.
    pub about: &'static str,
    /// Which published files fit, and whose tensor names they must have.
    pub weights: &'static str,
    /// Height and width in pixels of the pictures it was made for.
    pub input_size: usize,
    /// Whether it takes pictures of `input_size` only; otherwise any height and width from 32 up.
    pub fixed_size: bool,
    /// Length of an embedding.
    pub dimension: usize,
    /// Mean that pixels in `0..=1` are to be normalised with, red, green, blue.
    pub mean: [f32; 3],
    /// Standard deviation that pixels in `0..=1` are to be normalised with, red, green, blue.
    pub std: [f32; 3],
    architecture: &'static dyn Architecture,
}

/// How a family of networks is built by `candle-transformers`.
trait Architecture: Debug + Sync {
    /// Builds the network, `[N, 3, H, W]` to `[N, D]`.
    ///
    /// Must ask `vb` for the same tensors whatever their values are.
    fn build(&self, vb: VarBuilder<'static>) -> candle_core::Result<Func<'static>>;

    /// Whether a fitting file may hold `name` although the network does not use it, as it may a
    /// classification head.
    fn unused(&self, name: &str) -> bool;

    /// Whether `name` belongs to a part that candle takes where a file has it, and that this
    /// network does not have.
    fn absent(&self, _name: &str) -> bool {
        false
    }
}

/// A pretrained encoder with its weights, for embedding and evaluation only.
#[derive(Debug)]
pub struct FrozenEncoder {
    spec: &'static FrozenSpec,
    network: Func<'static>,
}

impl FrozenEncoder {
    /// Opens the encoder `name` with the weights in the safetensors file at `path`.
    ///
    /// Weights of any floating-point type are converted to `f32`. The header is checked before
    /// weights are read.
    ///
    /// # Errors
    /// [`Error::Unknown`] for a name that is not in [`FROZEN`]; [`Error::Read`] and
    /// [`Error::Format`] for a file that cannot be read or is no safetensors file;
    /// [`Error::Misfit`], with the tensors at fault named, for weights of another network;
    /// [`Error::Type`] for quantised ones.
    pub fn open(name: &str, path: &Path, device: &Device) -> Result<Self, Error> {
        let spec = find(name).ok_or_else(|| Error::Unknown { name: name.to_string() })?;
        let checkpoint = Checkpoint::open(path)?;
        let mismatch = fit::compare(spec.architecture, &checkpoint)?;
        if !mismatch.is_empty() {
            return Err(Error::Misfit { path: path.to_path_buf(), name: spec.name, mismatch });
        }
        let vb = VarBuilder::from_backend(Box::new(checkpoint), DType::F32, device.clone());
        Ok(Self { spec, network: spec.architecture.build(vb)? })
    }

    /// Embeds a batch: `f32` `[N, 3, H, W]`, normalised with [`mean`](Self::mean) and
    /// [`std`](Self::std), to `f32` `[N, D]`, detached.
    ///
    /// # Errors
    /// [`Error::Input`] unless `x` is a batch of at least one `f32` RGB picture of a size that
    /// the encoder takes.
    pub fn embed(&self, x: &Tensor) -> Result<Tensor, Error> {
        let takes = |side: usize| {
            if self.spec.fixed_size { side == self.spec.input_size } else { side >= SMALLEST }
        };
        match *x.dims() {
            [n, 3, h, w] if n > 0 && takes(h) && takes(w) && x.dtype() == DType::F32 => {}
            _ => {
                return Err(Error::Input {
                    spec: self.spec,
                    dtype: x.dtype(),
                    shape: x.dims().to_vec(),
                });
            }
        }
        Ok(self.network.forward(&x.detach())?.detach())
    }

    /// The entry of [`FROZEN`] that this is.
    pub fn spec(&self) -> &'static FrozenSpec {
        self.spec
    }

    /// Height and width in pixels of the pictures it was made for.
    pub fn input_size(&self) -> usize {
        self.spec.input_size
    }

    /// Length of an embedding.
    pub fn dimension(&self) -> usize {
        self.spec.dimension
    }

    /// Mean that pixels in `0..=1` are to be normalised with, red, green, blue.
    pub fn mean(&self) -> [f32; 3] {
        self.spec.mean
    }

    /// Standard deviation that pixels in `0..=1` are to be normalised with, red, green, blue.
    pub fn std(&self) -> [f32; 3] {
        self.spec.std
    }
}

/// The entry of [`FROZEN`] with this name.
///
/// ```
/// let spec = pretext_models::frozen::find("dinov2-small").unwrap();
/// assert_eq!((spec.input_size, spec.dimension), (224, 384));
/// ```
pub fn find(name: &str) -> Option<&'static FrozenSpec> {
    FROZEN.iter().find(|spec| spec.name == name)
}

/// Finds the first entry of [`FROZEN`] that the safetensors file at `path` fits, from the names
/// and shapes in its header.
///
/// A header tells networks apart, not how they were trained: `vit-base-patch16-224` and
/// `dino-vitb16` share every name and shape where a file lacks the prefix `vit.`, and the former
/// is returned. Their pictures are normalised differently, so name the latter where it is meant.
///
/// # Errors
/// [`Error::Read`] and [`Error::Format`] for a file that cannot be read or is no safetensors file;
/// [`Error::Unrecognised`], with the nearest entry and what keeps the file from it, where none
/// fits; [`Error::Type`] for quantised weights.
pub fn detect(path: &Path) -> Result<&'static FrozenSpec, Error> {
    let checkpoint = Checkpoint::open(path)?;
    let mut nearest: Option<(&FrozenSpec, Mismatch)> = None;
    for spec in FROZEN {
        let mismatch = fit::compare(spec.architecture, &checkpoint)?;
        if mismatch.is_empty() {
            return Ok(spec);
        }
        if nearest.as_ref().is_none_or(|(_, least)| faults(&mismatch) < faults(least)) {
            nearest = Some((spec, mismatch));
        }
    }
    let (name, mismatch) =
        nearest.map(|(spec, mismatch)| (spec.name, mismatch)).unwrap_or_default();
    Err(Error::Unrecognised { path: path.to_path_buf(), name, mismatch })
}

/// Number of tensors at fault.
fn faults(mismatch: &Mismatch) -> usize {
    mismatch.missing.len() + mismatch.misshaped.len() + mismatch.unexpected.len()
}
