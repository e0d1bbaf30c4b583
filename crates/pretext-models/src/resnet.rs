//! resnet as torchvision defines it (He et al., "Deep Residual Learning for Image Recognition",
//! 2016), under torchvision's parameter names.

use candle_core::Result as TensorResult;
use pretext_ops::channels_last::{self, Activation, FeatureMap, Then};

use crate::builder::{Builder, Init};
use crate::error::Result;
use crate::layers::{BatchNorm, Conv, Mode};

/// A convolution and its batch norm, as torchvision lists them: `conv1` with `bn1` and so on.
struct NormedConv {
    conv: Conv,
    norm: BatchNorm,
}

impl NormedConv {
    fn new(
        channels: (usize, usize),
        kernel: usize,
        stride: usize,
        scale: f32,
        (conv, norm): (Builder<'_>, Builder<'_>),
    ) -> Result<Self> {
        let init = Init::KaimingNormalFanOut;
        Ok(Self {
            conv: Conv::new(channels, kernel, stride, init, None, &conv)?,
            norm: BatchNorm::new(channels.1, (scale, 0.0), &norm)?,
        })
    }

    fn forward(
        &self,
        x: &FeatureMap,
        mode: Mode,
        then: Then<'_, FeatureMap>,
    ) -> TensorResult<FeatureMap> {
        self.norm.behind(&self.conv, x, mode, then)
    }
}

/// torchvision's `BasicBlock` or `Bottleneck`.
struct Block {
    branch: Vec<NormedConv>,
    shortcut: Option<NormedConv>,
}

impl Block {
    fn new(
        (inputs, width, expansion): (usize, usize, usize),
        stride: usize,
        zero_init: bool,
        builder: &Builder<'_>,
    ) -> Result<Self> {
        let outputs = width * expansion;
        // Channels, kernel and stride of each convolution.
        let plan = if expansion == 1 {
            vec![((inputs, width), 3, stride), ((width, outputs), 3, 1)]
        } else {
            vec![((inputs, width), 1, 1), ((width, width), 3, stride), ((width, outputs), 1, 1)]
        };
        let last = plan.len();
        let branch = (1..)
            .zip(plan)
            .map(|(i, (channels, kernel, stride))| {
                let names = (builder.pp(format!("conv{i}")), builder.pp(format!("bn{i}")));
                let scale = if zero_init && i == last { 0.0 } else { 1.0 };
                NormedConv::new(channels, kernel, stride, scale, names)
            })
            .collect::<Result<_>>()?;
        let shortcut = (stride != 1 || inputs != outputs)
            .then(|| {
                let builder = builder.pp("downsample");
                let names = (builder.pp(0), builder.pp(1));
                NormedConv::new((inputs, outputs), 1, stride, 1.0, names)
            })
            .transpose()?;
        Ok(Self { branch, shortcut })
    }

    fn forward(&self, x: &FeatureMap, mode: Mode) -> TensorResult<FeatureMap> {
        let identity = match &self.shortcut {
            Some(shortcut) => shortcut.forward(x, mode, Then::default())?,
            None => x.clone(),
        };
        let last = self.branch.len() - 1;
        let mut x = x.clone();
        for (i, layer) in self.branch.iter().enumerate() {
            let residual = (i == last).then_some(&identity);
            x = layer.forward(&x, mode, Then { residual, activation: Activation::Relu })?;
        }
        Ok(x)
    }
}

/// The convolutional part of a resnet.
pub(crate) struct ResNet {
    stem: NormedConv,
    stages: Vec<Vec<Block>>,
}

impl ResNet {
    pub(crate) fn new(
        blocks: [usize; 4],
        expansion: usize,
        zero_init: bool,
        builder: &Builder<'_>,
    ) -> Result<Self> {
        let names = (builder.pp("conv1"), builder.pp("bn1"));
        let stem = NormedConv::new((3, 64), 7, 2, 1.0, names)?;
        let mut inputs = 64;
        let mut stages = Vec::new();
        for (stage, (count, width)) in blocks.into_iter().zip([64, 128, 256, 512]).enumerate() {
            let builder = builder.pp(format!("layer{}", stage + 1));
            let mut row = Vec::new();
            for i in 0..count {
                let stride = if stage > 0 && i == 0 { 2 } else { 1 };
                let channels = (inputs, width, expansion);
                row.push(Block::new(channels, stride, zero_init, &builder.pp(i))?);
                inputs = width * expansion;
            }
            stages.push(row);
        }
        Ok(Self { stem, stages })
    }

    /// The outputs of the stem and of the four stages, channels-last as the input.
    pub(crate) fn features(&self, x: &FeatureMap, mode: Mode) -> TensorResult<Vec<FeatureMap>> {
        let relu = Then { activation: Activation::Relu, ..Then::default() };
        let mut x = self.stem.forward(x, mode, relu)?;
        let mut features = vec![x.clone()];
        x = channels_last::max_pool2d(&x, 3, 2, 1)?;
        for stage in &self.stages {
            for block in stage {
                x = block.forward(&x, mode)?;
            }
            features.push(x.clone());
        }
        Ok(features)
    }
}
