//! A U-Net decoder on any encoder (Ronneberger et al., "U-Net", 2015), after fastai's
//! `DynamicUnet` and under its parameter names.
//!
//! The encoder stands below `layers.0` under its own names: for an xresnet they are fastai's; where
//! fastai numbers the layers of a resnet anew, torchvision's names stay.

use std::collections::BTreeMap;

use candle_core::{Result as TensorResult, Tensor};
use pretext_ops::channels_last::{self, FeatureMap, Then};

use crate::attention::SelfAttention;
use crate::builder::{Builder, Init};
use crate::encoder::{Encoder, encoder};
use crate::error::Result;
use crate::layers::{BatchNorm, Conv, ConvLayer, Mode, Norm, in_f32};
use crate::options::{Activation, EncoderOptions};
use crate::parameters::Parameters;

/// Variants of the decoder; the default is what fastai's `unet_learner` makes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UNetOptions {
    /// Blur behind each pixel shuffle (Sugawara et al., 2018).
    pub blur: bool,
    /// End in a sigmoid, so that the output lies within `0..=1`: fastai's `y_range=(0, 1)`.
    pub sigmoid: bool,
    /// Self-attention (Zhang et al., 2019) in the last block but two.
    pub self_attention: bool,
}

/// Pictures in, pictures of the same size out.
pub struct UNet {
    encoder: Encoder,
    norm: BatchNorm,
    middle: [ConvLayer; 2],
    blocks: Vec<UpBlock>,
    last_shuffle: Shuffle,
    last_block: [ConvLayer; 2],
    last_conv: Conv,
    sigmoid: bool,
}

/// The encoder's name in fastai's list of layers.
const ENCODER: &str = "layers.0";
/// The first decoder block's place in that list: after encoder, norm, activation and middle.
const FIRST_BLOCK: usize = 4;

impl UNet {
    /// A U-Net for pictures of `size` by `size` pixels, with random weights; three channels out.
    ///
    /// As in fastai, the decoder has a block for each change of size inside the encoder, so very
    /// small pictures (16 px and below) have fewer. Any size may be given to
    /// [`forward`](Self::forward) afterwards.
    ///
    /// # Errors
    /// As for [`encoder()`].
    pub fn new(
        name: &str,
        options: &EncoderOptions,
        size: usize,
        unet: &UNetOptions,
        builder: Builder<'_>,
    ) -> Result<Self> {
        let encoder = encoder(name, options, builder.pp(ENCODER))?;
        let builder = builder.pp("layers");
        let relu = Some(Activation::Relu);
        let bias = Norm::Bias(Init::Constant(0.0));
        let channels = encoder.spec().channels();
        let deepest = channels[4];
        let norm = BatchNorm::new(deepest, (1.0, 1e-3), &builder.pp(1))?;
        let middle = builder.pp(3);
        let middle = [
            ConvLayer::new((deepest, 2 * deepest), 3, 1, bias, relu, &middle.pp(0))?,
            ConvLayer::new((2 * deepest, deepest), 3, 1, bias, relu, &middle.pp(1))?,
        ];
        let skips = skips(size);
        let (mut inputs, mut blocks) = (deepest, Vec::new());
        for (i, &skip) in skips.iter().enumerate() {
            let plan = Plan {
                channels: (inputs, channels[skip]),
                skip,
                last: i + 1 == skips.len(),
                blur: unet.blur,
                attends: unet.self_attention && i + 3 == skips.len(),
            };
            let block = UpBlock::new(plan, &builder.pp(FIRST_BLOCK + i))?;
            inputs = block.outputs;
            blocks.push(block);
        }
        // fastai's list goes on with the last shuffle, two layers without parameters, the last
        // block and the last convolution.
        let next = FIRST_BLOCK + blocks.len();
        let last_shuffle = Shuffle::new((inputs, inputs), false, &builder.pp(next))?;
        let merged = inputs + 3;
        let last = builder.pp(next + 3).pp("convpath");
        let last_block = [
            ConvLayer::new((merged, merged), 3, 1, bias, relu, &last.pp(0))?,
            ConvLayer::new((merged, merged), 3, 1, bias, None, &last.pp(1))?,
        ];
        let last_conv = Conv::new(
            (merged, 3),
            1,
            1,
            Init::TorchDefault,
            Some(Init::Normal(0.01)),
            &builder.pp(next + 4).pp(0),
        )?;
        let sigmoid = unet.sigmoid;
        Ok(Self { encoder, norm, middle, blocks, last_shuffle, last_block, last_conv, sigmoid })
    }

    /// `[N, 3, H, W]`, normalised, to `[N, 3, H, W]`: within `0..=1` with a sigmoid, else unbounded.
    /// It computes in the input's dtype, `f32` or `bf16`; the result is `f32`.
    ///
    /// # Errors
    /// [`crate::Error::Tensor`] if `x` is not `[N, 3, H, W]` of the parameters' type, or is so small in
    /// training that a batch norm has a single value a channel.
    pub fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        let x = &channels_last::channels_last(x)?;
        let features = self.encoder.features_channels_last(x.clone(), mode)?;
        let mut y = self.norm.forward(&features[4], mode, channels_last::Activation::Relu)?;
        for layer in &self.middle {
            y = layer.forward(&y, mode)?;
        }
        for block in &self.blocks {
            y = block.forward(&y, &features[block.skip], mode)?;
        }
        let up = resize(&self.last_shuffle.forward(&y, mode)?, &x.into())?;
        let identity = channels_last::Activation::Identity;
        let merged = channels_last::concat(&up, &x.into(), identity)?;
        y = self.last_block[0].forward(&merged, mode)?;
        let relu = Some(Activation::Relu);
        y = self.last_block[1].forward_onto(&y, Some(&merged), relu, mode)?;
        let y = self.last_conv.forward(&y, mode, Then::default())?.tensor()?;
        let y = in_f32(&channels_last::channels_first(&y)?)?;
        Ok(if self.sigmoid { candle_nn::ops::sigmoid(&y)? } else { y })
    }

    /// The encoder.
    pub fn encoder(&self) -> &Encoder {
        &self.encoder
    }

    /// The encoder's tensors among the U-Net's, under the encoder's own names.
    pub fn encoder_tensors(&self, parameters: &Parameters) -> BTreeMap<String, Tensor> {
        let inside = |name: &str| Some(name.strip_prefix(ENCODER)?.strip_prefix('.')?.to_owned());
        let tensors = parameters.tensors().into_iter();
        tensors.filter_map(|(name, tensor)| Some((inside(&name)?, tensor))).collect()
    }
}

/// Which of the encoder's features a decoder for pictures of this size takes up, from deep to
/// shallow: those behind which the size changes.
fn skips(size: usize) -> Vec<usize> {
    let sides: Vec<usize> = (1..=5).map(|halvings| size.div_ceil(1 << halvings)).collect();
    (0..4).rev().filter(|&i| sides[i] != sides[i + 1]).collect()
}

/// The feature map at the size of another, by nearest neighbours.
fn resize(x: &FeatureMap, like: &FeatureMap) -> TensorResult<FeatureMap> {
    let ((_, h, w, _), (_, height, width, _)) = (x.dims4()?, like.dims4()?);
    if (h, w) == (height, width) {
        Ok(x.clone())
    } else {
        channels_last::upsample_nearest2d(x, height, width)
    }
}

/// fastai's `PixelShuffle_ICNR`: twice the size by a pointwise convolution.
struct Shuffle {
    conv: ConvLayer,
    blur: bool,
}

impl Shuffle {
    fn new((inputs, outputs): (usize, usize), blur: bool, builder: &Builder<'_>) -> Result<Self> {
        let conv = ConvLayer::with_init(
            (inputs, 4 * outputs),
            1,
            1,
            Init::Icnr,
            Norm::Bias(Init::Constant(0.0)),
            Some(Activation::Relu),
            &builder.pp(0),
        )?;
        Ok(Self { conv, blur })
    }

    fn forward(&self, x: &FeatureMap, mode: Mode) -> TensorResult<FeatureMap> {
        let y = channels_last::pixel_shuffle(&self.conv.forward(x, mode)?, 2)?;
        if self.blur { channels_last::replicate_blur2d(&y) } else { Ok(y) }
    }
}

/// fastai's `UnetBlock`: up-sample, join the skip connection, convolve twice.
struct UpBlock {
    shuffle: Shuffle,
    norm: BatchNorm,
    convs: [ConvLayer; 2],
    attention: Option<SelfAttention>,
    /// Which of the encoder's features it takes up.
    skip: usize,
    outputs: usize,
}

/// What one [`UpBlock`] is like.
struct Plan {
    /// Of its input and of the skip connection.
    channels: (usize, usize),
    skip: usize,
    last: bool,
    blur: bool,
    attends: bool,
}

impl UpBlock {
    fn new(plan: Plan, builder: &Builder<'_>) -> Result<Self> {
        let Plan { channels: (inputs, skip_channels), skip, last, blur, attends } = plan;
        let joined = inputs / 2 + skip_channels;
        let outputs = if last { joined / 2 } else { joined };
        let bias = Norm::Bias(Init::Constant(0.0));
        let relu = Some(Activation::Relu);
        Ok(Self {
            shuffle: Shuffle::new((inputs, inputs / 2), blur, &builder.pp("shuf"))?,
            norm: BatchNorm::new(skip_channels, (1.0, 1e-3), &builder.pp("bn"))?,
            convs: [
                ConvLayer::new((joined, outputs), 3, 1, bias, relu, &builder.pp("conv1"))?,
                ConvLayer::new((outputs, outputs), 3, 1, bias, relu, &builder.pp("conv2"))?,
            ],
            attention: attends
                .then(|| SelfAttention::new(outputs, &builder.pp("conv2").pp(2)))
                .transpose()?,
            skip,
            outputs,
        })
    }

    fn forward(&self, x: &FeatureMap, skip: &FeatureMap, mode: Mode) -> TensorResult<FeatureMap> {
        let up = resize(&self.shuffle.forward(x, mode)?, skip)?;
        let skip = self.norm.forward(skip, mode, channels_last::Activation::Identity)?;
        let joined = channels_last::concat(&up, &skip, channels_last::Activation::Relu)?;
        let y = self.convs[1].forward(&self.convs[0].forward(&joined, mode)?, mode)?;
        match &self.attention {
            Some(attention) => Ok(attention.forward(&y.tensor()?, mode)?.into()),
            None => Ok(y),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_for_each_change_of_size() {
        assert_eq!(skips(128), [3, 2, 1, 0]);
        assert_eq!(skips(32), [3, 2, 1, 0]);
        assert_eq!(skips(16), [2, 1, 0]);
        assert_eq!(skips(8), [1, 0]);
    }
}
