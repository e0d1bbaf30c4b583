//! Heads: what stands on an encoder to classify or to compare.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{Result as TensorResult, Tensor};

use pretext_ops::channels_last::{self, Activation};

use crate::builder::{Builder, Init};
use crate::encoder::{Encoder, EncoderSpec, encoder};
use crate::error::Result;
use crate::layers::{Mode, in_f32};
use crate::options::EncoderOptions;
use crate::parameters::{Kind, Parameters};
use crate::weights::Source;

/// A linear layer.
struct Linear {
    weight: Tensor,
    bias: Tensor,
}

impl Linear {
    fn new(
        (inputs, outputs): (usize, usize),
        (weight, bias): (Init, Init),
        builder: &Builder<'_>,
    ) -> Result<Self> {
        Ok(Self {
            weight: builder
                .variable("weight", Kind::Weight, (outputs, inputs), weight)?
                .into_inner(),
            bias: builder.variable("bias", Kind::Bias, outputs, bias)?.into_inner(),
        })
    }

    fn forward(&self, x: &Tensor, mode: Mode) -> TensorResult<Tensor> {
        let (weight, bias) = (mode.parameter(&self.weight), mode.parameter(&self.bias));
        pretext_ops::linear(x, &weight, Some(&bias))
    }
}

/// An encoder, the mean over its last plane, and a linear layer.
///
/// Parameter names are those of the whole network in fastai (`11.weight`, `11.bias` for the head
/// of an xresnet) or torchvision (`fc.weight`, `fc.bias`).
pub struct Classifier {
    encoder: Encoder,
    head: Linear,
}

impl Classifier {
    /// A classifier with random weights.
    ///
    /// # Errors
    /// As for [`encoder()`].
    pub fn new(
        name: &str,
        options: &EncoderOptions,
        classes: usize,
        builder: Builder<'_>,
    ) -> Result<Self> {
        let encoder = encoder(name, options, builder.clone())?;
        let head = encoder.spec().head();
        let inputs = encoder.out_channels();
        let init = match head {
            // torchvision leaves its linear layer as PyTorch makes it; fastai begins all alike.
            "fc" => (Init::TorchDefault, Init::Uniform(1.0 / (inputs as f64).sqrt())),
            _ => (Init::KaimingNormal, Init::Constant(0.0)),
        };
        let head = Linear::new((inputs, classes), init, &builder.pp(head))?;
        Ok(Self { encoder, head })
    }

    /// The encoder.
    pub fn encoder(&self) -> &Encoder {
        &self.encoder
    }

    /// `[N, 3, H, W]`, normalised, to logits `[N, K]`. The encoder computes in the pictures' dtype,
    /// `f32` or `bf16`; logits are `f32`.
    ///
    /// # Errors
    /// [`crate::Error::Tensor`] if `x` is not `[N, 3, H, W]` of the parameters' type, or is so small in
    /// training that a batch norm has a single value a channel.
    pub fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        self.head(&self.embed(x, mode)?, mode)
    }

    /// The features that the head sees: `[N, 3, H, W]` to `[N, C]`, `f32`.
    ///
    /// # Errors
    /// [`crate::Error::Tensor`] if `x` is not `[N, 3, H, W]` of the parameters' type, or is so small in
    /// training that a batch norm has a single value a channel.
    pub fn embed(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        let deepest = self.encoder.deepest(x, mode)?;
        Ok(in_f32(&channels_last::global_avg_pool2d(&deepest)?)?)
    }

    /// The logits of features: `[N, C]` to `[N, K]`.
    ///
    /// # Errors
    /// [`crate::Error::Tensor`] if the features are of another encoder.
    pub fn head(&self, features: &Tensor, mode: Mode) -> Result<Tensor> {
        Ok(self.head.forward(features, mode)?)
    }

    /// The number of layer groups: early layers, late layers, head.
    pub fn group_count() -> usize {
        3
    }

    /// The layer group of a parameter, for discriminative learning rates and freezing, as fastai
    /// cuts both families: an xresnet into stem (0), stages (1) and head (2), a resnet into stem
    /// and first two stages, last two stages, and head.
    pub fn layer_group(&self, name: &str) -> usize {
        let spec = self.encoder.spec();
        if is_head(spec, name) { Self::group_count() - 1 } else { spec.layer_group(name) }
    }

    /// The encoder's tensors among a classifier's.
    pub fn encoder_tensors(&self, parameters: &Parameters) -> BTreeMap<String, Tensor> {
        let mut tensors = parameters.tensors();
        tensors.retain(|name, _| !is_head(self.encoder.spec(), name));
        tensors
    }

    /// Puts an encoder's tensors into the classifier; the head stays as it is.
    ///
    /// A head among the tensors is passed over, and so are torchvision's `num_batches_tracked`, so
    /// that whole networks from elsewhere can be loaded too. `path` is named in errors.
    ///
    /// # Errors
    /// [`crate::Error::Mismatch`] naming the missing, unexpected and mis-shaped keys, or
    /// [`crate::Error::Type`]; nothing has changed then.
    pub fn load_encoder(
        &self,
        parameters: &Parameters,
        tensors: &impl Source,
        path: &Path,
    ) -> Result<()> {
        let spec = self.encoder.spec();
        let loaded =
            parameters.load_where(tensors, |name| !is_head(spec, name), |name| is_head(spec, name));
        loaded.map_err(|error| error.about(path))
    }
}

fn is_head(spec: &EncoderSpec, name: &str) -> bool {
    name.split_once('.').is_some_and(|(first, _)| first == spec.head())
}

/// Two linear layers with batch norm and ReLU between, onto which contrastive methods project
/// features (Chen et al., "A Simple Framework for Contrastive Learning", 2020; with the batch norm
/// of Grill et al., "Bootstrap Your Own Latent", 2020).
pub struct ProjectionHead {
    first: Linear,
    norm: crate::layers::BatchNorm,
    second: Linear,
}

impl ProjectionHead {
    /// A head from `inputs` features over `hidden` to `outputs`.
    ///
    /// # Errors
    /// [`crate::Error::Tensor`] if a name is taken.
    pub fn new(inputs: usize, hidden: usize, outputs: usize, builder: Builder<'_>) -> Result<Self> {
        let init = |fan: usize| (Init::TorchDefault, Init::Uniform(1.0 / (fan as f64).sqrt()));
        Ok(Self {
            first: Linear::new((inputs, hidden), init(inputs), &builder.pp(0))?,
            norm: crate::layers::BatchNorm::new(hidden, (1.0, 0.0), &builder.pp(1))?,
            second: Linear::new((hidden, outputs), init(hidden), &builder.pp(3))?,
        })
    }

    /// `f32` `[N, inputs]` to `[N, outputs]`.
    ///
    /// # Errors
    /// [`crate::Error::Tensor`] if shapes do not fit, or a training batch has a single sample.
    pub fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        let hidden = self.first.forward(x, mode)?;
        let (n, c) = hidden.dims2()?;
        let hidden = hidden.reshape((n, 1, 1, c))?.into();
        let normed = self.norm.forward(&hidden, mode, Activation::Relu)?.tensor()?;
        Ok(self.second.forward(&normed.reshape((n, c))?, mode)?)
    }
}
