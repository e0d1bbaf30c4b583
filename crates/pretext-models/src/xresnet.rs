//! xresnet as fastai 2.8 defines it: He et al.'s residual networks (2016) with the tricks of
//! "Bag of Tricks for Image Classification" (He et al., 2019), under fastai's parameter names.
//!
//! Three convolutions of 32, 32 and 64 channels in place of the 7x7 one; the stride of a
//! bottleneck on its 3x3 convolution; shortcuts that pool before they convolve; the last batch norm
//! of each residual branch beginning at zero; every convolution from Kaiming's normal.

use candle_core::Result as TensorResult;
use pretext_ops::channels_last::FeatureMap;

use crate::attention::{SimpleSelfAttention, SqueezeExcite};
use crate::builder::Builder;
use crate::error::Result;
use crate::layers::{ConvLayer, Mode, Norm};
use crate::options::{Activation, EncoderOptions, ShortcutPool, StemPool};

/// fastai's `ResBlock`, plain (expansion 1) or bottleneck (expansion 4).
struct Block {
    branch: Vec<ConvLayer>,
    squeeze_excite: Option<SqueezeExcite>,
    self_attention: Option<SimpleSelfAttention>,
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
        let self_attention =
            attends.then(|| SimpleSelfAttention::new(outputs, &take())).transpose()?;
        let pool = (stride != 1).then_some(options.shortcut_pool);
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

    fn forward(&self, x: &FeatureMap, mode: Mode) -> TensorResult<FeatureMap> {
        let mut identity = x.clone();
        if let Some(pool) = self.pool {
            identity = pool.forward(&identity)?;
        }
        if let Some(shortcut) = &self.shortcut {
            identity = shortcut.forward(&identity, mode)?;
        }
        let mut branch = x.clone();
        let plain = self.squeeze_excite.is_none() && self.self_attention.is_none();
        for (i, layer) in self.branch.iter().enumerate() {
            if plain && i + 1 == self.branch.len() {
                // The sum and the activation in the norm's own pass over memory.
                return layer.forward_onto(&branch, Some(&identity), Some(self.activation), mode);
            }
            branch = layer.forward(&branch, mode)?;
        }
        if let Some(squeeze_excite) = &self.squeeze_excite {
            branch = squeeze_excite.forward(&branch.tensor()?, mode)?.into();
        }
        if let Some(self_attention) = &self.self_attention {
            branch = self_attention.forward(&branch.tensor()?, mode)?.into();
        }
        Ok(self.activation.forward(&(branch.tensor()? + identity.tensor()?)?)?.into())
    }
}

/// The convolutional part of an xresnet.
pub(crate) struct XResNet {
    stem: Vec<ConvLayer>,
    pool: StemPool,
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
        Ok(Self { stem, pool: options.pool, stages })
    }

    /// The outputs of the stem and of the four stages, channels-last as the input.
    pub(crate) fn features(&self, x: &FeatureMap, mode: Mode) -> TensorResult<Vec<FeatureMap>> {
        let mut x = x.clone();
        for layer in &self.stem {
            x = layer.forward(&x, mode)?;
        }
        let mut features = vec![x.clone()];
        x = self.pool.forward(&x)?;
        for stage in &self.stages {
            for block in stage {
                x = block.forward(&x, mode)?;
            }
            features.push(x.clone());
        }
        Ok(features)
    }
}
