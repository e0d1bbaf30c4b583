//! Every encoder that can be trained, in one table.

use candle_core::{Result as TensorResult, Tensor};
use pretext_ops::channels_last::{self, FeatureMap};

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
/// [`Error::UnknownEncoder`] naming those that there are; [`Error::Option`] if it has no such variant;
/// [`Error::Tensor`] if the builder's names are taken.
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

    /// The deepest features: `[N, 3, H, W]`, normalised, `f32` or `bf16`, to `[N, C, H / 32, W / 32]`, rounded
    /// up.
    ///
    /// # Errors
    /// [`Error::Tensor`] if `x` is not `[N, 3, H, W]` of the parameters' type, or is so small in
    /// training that a batch norm has a single value a channel.
    pub fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        Ok(channels_last::channels_first(&self.deepest(x, mode)?.tensor()?)?)
    }

    /// The same channels-last: `[N, H / 32, W / 32, C]`.
    pub(crate) fn deepest(&self, x: &Tensor, mode: Mode) -> Result<FeatureMap> {
        let deepest = self.features_channels_last(channels_last::channels_last(x)?, mode)?.pop();
        let none = || candle_core::Error::Msg("an encoder without stages".into());
        Ok(deepest.ok_or_else(none)?)
    }

    /// The features of the stem and of the four stages, from shallow to deep: `[N, C_i, H / s,
    /// W / s]` for `s` of 2, 4, 8, 16 and 32, rounded up, with [`EncoderSpec::channels`].
    ///
    /// # Errors
    /// As for [`forward`](Self::forward).
    pub fn features(&self, x: &Tensor, mode: Mode) -> Result<Vec<Tensor>> {
        let features = self.features_channels_last(channels_last::channels_last(x)?, mode)?;
        let turned = features.iter().map(|map| channels_last::channels_first(&map.tensor()?));
        Ok(turned.collect::<TensorResult<_>>()?)
    }

    /// The same with input and features channels-last.
    pub(crate) fn features_channels_last(&self, x: Tensor, mode: Mode) -> Result<Vec<FeatureMap>> {
        let x = &x.into();
        Ok(match &self.network {
            Network::XResNet(network) => network.features(x, mode)?,
            Network::ResNet(network) => network.features(x, mode)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};
    use rand::{SeedableRng as _, rngs::StdRng};

    use super::*;
    use crate::options::{Activation, ShortcutPool, StemPool};
    use crate::parameters::Parameters;

    fn build(name: &str, options: EncoderOptions) -> Result<Encoder> {
        let parameters = Parameters::new(&Device::Cpu);
        encoder(name, &options, Builder::new(&parameters, &mut StdRng::seed_from_u64(0)))
    }

    #[track_caller]
    fn check_refused(name: &str, options: EncoderOptions, want: &str) {
        assert_eq!(
            build(name, options).err().map(|error| error.to_string()).as_deref(),
            Some(want)
        );
    }

    #[test]
    fn what_there_is_not() {
        let plain = EncoderOptions::default();
        check_refused(
            "resnet19",
            plain,
            "no encoder is called \"resnet19\"; choose one of: xresnet18, xresnet34, xresnet50, \
             resnet18, resnet34, resnet50",
        );
        let mish = EncoderOptions { activation: Activation::Mish, ..plain };
        let stem = EncoderOptions { pool: StemPool::Avg, ..plain };
        let shortcut = EncoderOptions { shortcut_pool: ShortcutPool::Max, ..plain };
        let attention = EncoderOptions { self_attention: true, ..plain };
        let excite = EncoderOptions { squeeze_excite: true, ..plain };
        for (options, option) in [
            (mish, "other activation"),
            (stem, "other stem pooling"),
            (shortcut, "shortcut pooling"),
            (attention, "self-attention"),
            (excite, "squeeze-and-excitation"),
        ] {
            let want = format!("resnet18 has no {option}; only xresnets have it");
            check_refused("resnet18", options, &want);
        }
    }

    #[test]
    fn sizes_are_rounded_up() {
        for name in ["xresnet18", "resnet18"] {
            let encoder = build(name, EncoderOptions::default()).unwrap();
            for (h, w) in [(33, 64), (1, 7)] {
                let x = Tensor::zeros((1, 3, h, w), DType::F32, &Device::Cpu).unwrap();
                let features = encoder.features(&x, Mode::Evaluate).unwrap();
                for (i, (feature, channels)) in
                    features.iter().zip(encoder.spec().channels()).enumerate()
                {
                    let side = |pixels: usize| pixels.div_ceil(2 << i);
                    assert_eq!(feature.dims(), [1, channels, side(h), side(w)], "{name}");
                }
            }
        }
    }

    #[test]
    fn groups_are_fastai_s() {
        let group = |encoder: usize, name| ENCODERS[encoder].layer_group(name);
        let xresnet =
            ["0.0.weight", "2.1.bias", "4.0.convpath.0.0.weight", "7.1.convpath.1.1.bias"];
        assert_eq!(xresnet.map(|name| group(0, name)), [0, 0, 1, 1]);
        let resnet = ["conv1.weight", "bn1.bias", "layer2.1.bn2.bias", "layer3.0.conv1.weight"];
        assert_eq!(resnet.map(|name| group(3, name)), [0, 0, 0, 1]);
    }
}
