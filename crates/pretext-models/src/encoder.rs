//! Every encoder that can be trained, in one table.

use candle_core::Tensor;

use crate::builder::Builder;
use crate::error::{Error, Result};
use crate::layers::Mode;
use crate::options::EncoderOptions;
use crate::resnet::ResNet;
use crate::xresnet::XResNet;

/// One trainable encoder.
#[derive(Debug)]
pub struct EncoderSpec {
    /// The word that names it on the command line.
    pub name: &'static str,
    /// One line for `--help`.
    pub about: &'static str,
    /// Blocks in each stage.
    blocks: [usize; 4],
    /// What a block's last convolution multiplies its width by.
    expansion: usize,
    family: Family,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    XResNet,
    ResNet,
}

/// Every trainable encoder, in the order in which `--help` lists them.
pub const ENCODERS: &[EncoderSpec] = &[
    spec("xresnet18", "fastai's xresnet, 11 million parameters", [2, 2, 2, 2], 1, Family::XResNet),
    spec("xresnet34", "fastai's xresnet, 21 million parameters", [3, 4, 6, 3], 1, Family::XResNet),
    spec("xresnet50", "fastai's xresnet, 24 million parameters", [3, 4, 6, 3], 4, Family::XResNet),
    spec(
        "resnet18",
        "torchvision's resnet, 11 million parameters",
        [2, 2, 2, 2],
        1,
        Family::ResNet,
    ),
    spec(
        "resnet34",
        "torchvision's resnet, 21 million parameters",
        [3, 4, 6, 3],
        1,
        Family::ResNet,
    ),
    spec(
        "resnet50",
        "torchvision's resnet, 24 million parameters",
        [3, 4, 6, 3],
        4,
        Family::ResNet,
    ),
];

const fn spec(
    name: &'static str,
    about: &'static str,
    blocks: [usize; 4],
    expansion: usize,
    family: Family,
) -> EncoderSpec {
    EncoderSpec { name, about, blocks, expansion, family }
}

impl EncoderSpec {
    /// The channels of the stem and of the four stages.
    pub fn channels(&self) -> [usize; 5] {
        let e = self.expansion;
        [64, 64 * e, 128 * e, 256 * e, 512 * e]
    }

    /// The head's name in a whole network's parameter names.
    pub(crate) fn head(&self) -> &'static str {
        match self.family {
            Family::XResNet => "11",
            Family::ResNet => "fc",
        }
    }

    /// The layer group of one of the encoder's parameters, 0 or 1, as fastai cuts them: an xresnet
    /// behind its stem, a resnet behind its second stage.
    pub(crate) fn layer_group(&self, name: &str) -> usize {
        let first = name.split('.').next().unwrap_or_default();
        let early = match self.family {
            Family::XResNet => ["0", "1", "2"].contains(&first),
            Family::ResNet => ["conv1", "bn1", "layer1", "layer2"].contains(&first),
        };
        usize::from(!early)
    }
}

/// A convolutional network without a head: pictures in, features at five scales out.
pub struct Encoder {
    spec: &'static EncoderSpec,
    network: Network,
}

enum Network {
    XResNet(XResNet),
    ResNet(ResNet),
}

/// Builds an encoder of [`ENCODERS`] with random weights.
///
/// Parameter names are fastai's for xresnets (`0.0.weight`, `4.0.convpath.0.0.weight`, …) and
/// torchvision's for resnets (`conv1.weight`, `layer1.0.conv1.weight`, …).
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use pretext_models::{Builder, EncoderOptions, Mode, Parameters, encoder};
/// use rand::{SeedableRng, rngs::StdRng};
///
/// let parameters = Parameters::new(&Device::Cpu);
/// let mut rng = StdRng::seed_from_u64(0);
/// let builder = Builder::new(&parameters, &mut rng);
/// let encoder = encoder("xresnet18", &EncoderOptions::default(), builder)?;
/// let x = Tensor::zeros((2, 3, 64, 64), DType::F32, &Device::Cpu)?;
/// assert_eq!(encoder.forward(&x, Mode::Evaluate)?.dims(), [2, 512, 2, 2]);
/// # Ok::<(), pretext_models::Error>(())
/// ```
///
/// # Errors
/// If there is no such encoder, or it has no such variant.
pub fn encoder(name: &str, options: &EncoderOptions, builder: Builder<'_>) -> Result<Encoder> {
    let spec = ENCODERS
        .iter()
        .find(|spec| spec.name == name)
        .ok_or_else(|| Error::UnknownEncoder { name: name.to_owned() })?;
    let network = match spec.family {
        Family::XResNet => {
            Network::XResNet(XResNet::new(spec.blocks, spec.expansion, options, &builder)?)
        }
        Family::ResNet => {
            let plain = EncoderOptions::default();
            let refuse = |option| Err(Error::Option { encoder: spec.name, option });
            match options {
                o if o.activation != plain.activation => return refuse("other activation"),
                o if o.pool != plain.pool => return refuse("other stem pooling"),
                o if o.shortcut_pool != plain.shortcut_pool => return refuse("shortcut pooling"),
                o if o.self_attention => return refuse("self-attention"),
                o if o.squeeze_excite => return refuse("squeeze-and-excitation"),
                o => {
                    let zero_init = o.zero_init_residual;
                    let network = ResNet::new(spec.blocks, spec.expansion, zero_init, &builder)?;
                    Network::ResNet(network)
                }
            }
        }
    };
    Ok(Encoder { spec, network })
}

impl Encoder {
    /// Its name in [`ENCODERS`].
    pub fn name(&self) -> &'static str {
        self.spec.name
    }

    /// Its entry in [`ENCODERS`].
    pub fn spec(&self) -> &'static EncoderSpec {
        self.spec
    }

    /// The channels of what [`forward`](Self::forward) gives.
    pub fn out_channels(&self) -> usize {
        self.spec.channels()[4]
    }

    /// The deepest features: `[N, 3, H, W]`, normalised `f32`, to `[N, C, H / 32, W / 32]`, rounded
    /// up.
    ///
    /// # Errors
    /// If a picture is too small or memory cannot be had.
    pub fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        let deepest = self.features(x, mode)?.pop();
        Ok(deepest.ok_or_else(|| candle_core::Error::Msg("an encoder without stages".into()))?)
    }

    /// The features of the stem and of the four stages, from shallow to deep: `[N, C_i, H / s,
    /// W / s]` for `s` of 2, 4, 8, 16 and 32, rounded up, with [`EncoderSpec::channels`].
    ///
    /// # Errors
    /// As for [`forward`](Self::forward).
    pub fn features(&self, x: &Tensor, mode: Mode) -> Result<Vec<Tensor>> {
        Ok(match &self.network {
            Network::XResNet(network) => network.features(x, mode)?,
            Network::ResNet(network) => network.features(x, mode)?,
        })
    }
}
