//! xresnet as fastai 2.8 defines it: He et al.'s residual networks (2016) with the tricks of
//! "Bag of Tricks for Image Classification" (He et al., 2019), under fastai's parameter names.
//!
//! Three convolutions of 32, 32 and 64 channels in place of the 7x7 one; the stride of a
//! bottleneck on its 3x3 convolution; shortcuts that pool before they convolve; the last batch norm
//! of each residual branch beginning at zero; every convolution from Kaiming's normal.

use candle_core::{Result as TensorResult, Tensor};
use serde::{Deserialize, Serialize};

use crate::builder::Builder;
use crate::error::Result;
use crate::layers::{ConvLayer, Mode, Norm, SelfAttention, SqueezeExcite};

/// The activation of an xresnet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Activation {
    /// `max(x, 0)`.
    #[default]
    Relu,
    /// `x tanh(ln(1 + e^x))` (Misra, 2019).
    Mish,
}

/// How an xresnet's shortcuts halve a picture: fastai's `pool`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ShortcutPool {
    /// The mean of 2x2 pixels; at an odd border, of those that there are.
    #[default]
    Avg,
    /// The maximum of 2x2 pixels; an odd last row or column is left out, as PyTorch does, so
    /// pictures' sides must stay even.
    Max,
    /// The maximum of each pixel and its right and lower neighbours, blurred by 1 2 1 before every
    /// second pixel is kept (Zhang, "Making Convolutional Networks Shift-Invariant Again", 2019).
    MaxBlur,
}

/// Variants of an encoder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EncoderOptions {
    /// The activation.
    pub activation: Activation,
    /// How shortcuts halve a picture.
    pub pool: ShortcutPool,
    /// fastai's simple self-attention at the end of the first stage.
    pub self_attention: bool,
    /// Squeeze-and-excitation in every block, as fastai's `xse_resnet`.
    pub squeeze_excite: bool,
}

impl ShortcutPool {
    fn forward(self, x: &Tensor) -> TensorResult<Tensor> {
        match self {
            Self::Avg => {
                let options = pretext_ops::AvgPool { ceil_mode: true, ..Default::default() };
                pretext_ops::avg_pool2d(x, 2, 2, 0, options)
            }
            Self::Max => pretext_ops::max_pool2d(x, 2, 2, 0),
            Self::MaxBlur => {
                let (_, _, h, w) = x.dims4()?;
                // Padded by one all around, the window that begins at each pixel is the second.
                let all = pretext_ops::max_pool2d(x, 2, 1, 1)?;
                let own = all.narrow(2, 1, h)?.narrow(3, 1, w)?.contiguous()?;
                pretext_ops::blur_pool2d(&own, 3, 2)
            }
        }
    }
}

/// fastai's `ResBlock`, plain (expansion 1) or bottleneck (expansion 4).
struct Block {
    branch: Vec<ConvLayer>,
    squeeze_excite: Option<SqueezeExcite>,
    self_attention: Option<SelfAttention>,
    pool: Option<ShortcutPool>,
    shortcut: Option<ConvLayer>,
    activation: Activation,
}

/// The shape of one block.
#[derive(Clone, Copy)]
struct Shape {
    inputs: usize,
    width: usize,
    expansion: usize,
    stride: usize,
    attends: bool,
}

impl Block {
    fn new(shape: Shape, options: &EncoderOptions, builder: &Builder<'_>) -> Result<Self> {
        let Shape { inputs, width, expansion, stride, attends } = shape;
        let (inputs, outputs) = (inputs * expansion, width * expansion);
        let activation = Some(options.activation);
        let path = builder.pp("convpath");
        let branch = if expansion == 1 {
            vec![
                ConvLayer::new((inputs, width), 3, stride, Norm::One, activation, &path.pp(0))?,
                ConvLayer::new((width, outputs), 3, 1, Norm::Zero, None, &path.pp(1))?,
            ]
        } else {
            // fastai's SE bottleneck is wider inside than the plain one.
            let (first, second) =
                if options.squeeze_excite { (2 * width, outputs) } else { (width, width) };
            vec![
                ConvLayer::new((inputs, first), 1, 1, Norm::One, activation, &path.pp(0))?,
                ConvLayer::new((first, second), 3, stride, Norm::One, activation, &path.pp(1))?,
                ConvLayer::new((second, outputs), 1, 1, Norm::Zero, None, &path.pp(2))?,
            ]
        };
        let mut next = branch.len();
        let mut take = || {
            next += 1;
            path.pp(next - 1)
        };
        let squeeze_excite = options
            .squeeze_excite
            .then(|| SqueezeExcite::new(outputs, options.activation, &take()))
            .transpose()?;
        let self_attention = attends.then(|| SelfAttention::new(outputs, &take())).transpose()?;
        let pool = (stride != 1).then_some(options.pool);
        let shortcut = (inputs != outputs)
            .then(|| {
                let place = usize::from(pool.is_some());
                let builder = builder.pp("idpath").pp(place);
                ConvLayer::new((inputs, outputs), 1, 1, Norm::One, None, &builder)
            })
            .transpose()?;
        let activation = options.activation;
        Ok(Self { branch, squeeze_excite, self_attention, pool, shortcut, activation })
    }

    fn forward(&self, x: &Tensor, mode: Mode) -> TensorResult<Tensor> {
        let mut branch = x.clone();
        for layer in &self.branch {
            branch = layer.forward(&branch, mode)?;
        }
        if let Some(squeeze_excite) = &self.squeeze_excite {
            branch = squeeze_excite.forward(&branch, mode)?;
        }
        if let Some(self_attention) = &self.self_attention {
            branch = self_attention.forward(&branch, mode)?;
        }
        let mut identity = x.clone();
        if let Some(pool) = self.pool {
            identity = pool.forward(&identity)?;
        }
        if let Some(shortcut) = &self.shortcut {
            identity = shortcut.forward(&identity, mode)?;
        }
        self.activation.forward(&(branch + identity)?)
    }
}

/// The convolutional part of an xresnet.
pub(crate) struct XResNet {
    stem: Vec<ConvLayer>,
    stages: Vec<Vec<Block>>,
}

const STEM: [usize; 4] = [3, 32, 32, 64];
const WIDTHS: [usize; 4] = [64, 128, 256, 512];
/// The stem's max-pooling stands between stem and stages in fastai's list of layers.
const FIRST_STAGE: usize = 4;

impl XResNet {
    pub(crate) fn new(
        blocks: [usize; 4],
        expansion: usize,
        options: &EncoderOptions,
        builder: &Builder<'_>,
    ) -> Result<Self> {
        let stem = (0..3)
            .map(|i| {
                let (channels, stride) = ((STEM[i], STEM[i + 1]), if i == 0 { 2 } else { 1 });
                let activation = Some(options.activation);
                ConvLayer::new(channels, 3, stride, Norm::One, activation, &builder.pp(i))
            })
            .collect::<Result<_>>()?;
        let mut inputs = STEM[3] / expansion;
        let mut stages = Vec::new();
        for (stage, (count, width)) in blocks.into_iter().zip(WIDTHS).enumerate() {
            let builder = builder.pp(FIRST_STAGE + stage);
            let mut row = Vec::new();
            for i in 0..count {
                let shape = Shape {
                    inputs,
                    width,
                    expansion,
                    stride: if stage > 0 && i == 0 { 2 } else { 1 },
                    attends: options.self_attention && stage == 0 && i + 1 == count,
                };
                row.push(Block::new(shape, options, &builder.pp(i))?);
                inputs = width;
            }
            stages.push(row);
        }
        Ok(Self { stem, stages })
    }

    /// The outputs of the stem and of the four stages.
    pub(crate) fn features(&self, x: &Tensor, mode: Mode) -> TensorResult<Vec<Tensor>> {
        let mut x = x.clone();
        for layer in &self.stem {
            x = layer.forward(&x, mode)?;
        }
        let mut features = vec![x.clone()];
        x = pretext_ops::max_pool2d(&x, 3, 2, 1)?;
        for stage in &self.stages {
            for block in stage {
                x = block.forward(&x, mode)?;
            }
            features.push(x.clone());
        }
        Ok(features)
    }
}
