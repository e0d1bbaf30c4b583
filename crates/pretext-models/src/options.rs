//! Variants of an encoder: activation, poolings, attention, initial state.

use candle_core::{Result, Tensor};
use pretext_ops::channels_last::{self, FeatureMap};
use serde::{Deserialize, Serialize};

/// Variants of an encoder; the default is what fastai and torchvision build without arguments.
///
/// All but `zero_init_residual` are for xresnets alone; [`crate::encoder()`] refuses them for
/// resnets.
///
/// ```
/// use pretext_models::{Activation, EncoderOptions, ShortcutPool, StemPool};
///
/// let options = EncoderOptions { activation: Activation::Mish, ..EncoderOptions::default() };
/// assert_eq!(options.pool, StemPool::Max);
/// assert_eq!(options.shortcut_pool, ShortcutPool::Avg);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EncoderOptions {
    /// The activation: fastai's `act_cls`.
    pub activation: Activation,
    /// How the stem's output is halved.
    pub pool: StemPool,
    /// How shortcuts halve a picture: fastai's `pool`.
    pub shortcut_pool: ShortcutPool,
    /// Simple self-attention at the end of the first stage: fastai's `sa`.
    pub self_attention: bool,
    /// Squeeze-and-excitation in every block, as fastai's `xse_resnet`s.
    pub squeeze_excite: bool,
    /// For resnets: whether the last batch norm of each block begins at 0, so that the block
    /// begins as its shortcut (Goyal et al., "Accurate, Large Minibatch SGD", 2017). torchvision
    /// leaves it off. An xresnet always begins so.
    pub zero_init_residual: bool,
}

/// The activation of an xresnet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Activation {
    /// `max(x, 0)`.
    #[default]
    Relu,
    /// `x tanh(ln(1 + e^x))` (Misra, "Mish", 2019).
    Mish,
}

impl Activation {
    /// The operator, for layers that apply it as they write.
    pub(crate) fn op(self) -> channels_last::Activation {
        match self {
            Self::Relu => channels_last::Activation::Relu,
            Self::Mish => channels_last::Activation::Mish,
        }
    }

    pub(crate) fn forward(self, x: &Tensor) -> Result<Tensor> {
        self.op().apply(x)
    }
}

/// How an xresnet's stem is halved, rounded up. fastai knows the maximum alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StemPool {
    /// The maximum of 3x3 pixels.
    #[default]
    Max,
    /// The mean of 3x3 pixels, with zeros beyond the border: `torch.nn.AvgPool2d(3, 2, 1)`.
    Avg,
    /// The maximum of 3x3 pixels, blurred by 1 2 1 in both directions before every second pixel
    /// is kept (Zhang, "Making Convolutional Networks Shift-Invariant Again", 2019).
    MaxBlur,
}

impl StemPool {
    pub(crate) fn forward(self, x: &FeatureMap) -> Result<FeatureMap> {
        match self {
            Self::Max => channels_last::max_pool2d(x, 3, 2, 1),
            Self::Avg => channels_last::avg_pool2d(x, 3, 2, 1, pretext_ops::AvgPool::default()),
            Self::MaxBlur => {
                channels_last::blur_pool2d(&channels_last::max_pool2d(x, 3, 1, 1)?, BLUR, 2)
            }
        }
    }
}

/// How an xresnet's shortcuts halve a picture, rounded up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ShortcutPool {
    /// The mean of 2x2 pixels; at an odd border, of those that there are.
    #[default]
    Avg,
    /// The maximum of 2x2 pixels; at an odd border, where fastai fails, of those that there are.
    Max,
    /// The maximum of each pixel and its right and lower neighbours, blurred by 1 2 1 in both
    /// directions before every second pixel is kept (Zhang, 2019).
    MaxBlur,
}

/// Taps of the binomial filter behind a maximum.
const BLUR: usize = 3;

impl ShortcutPool {
    pub(crate) fn forward(self, x: &FeatureMap) -> Result<FeatureMap> {
        let (_, h, w, _) = x.dims4()?;
        match self {
            Self::Avg => {
                let options = pretext_ops::AvgPool { ceil_mode: true, ..Default::default() };
                channels_last::avg_pool2d(x, 2, 2, 0, options)
            }
            Self::Max => {
                // A repeated border does not change a maximum.
                let x = x.tensor()?.pad_with_same(1, 0, h % 2)?.pad_with_same(2, 0, w % 2)?;
                channels_last::max_pool2d(&x.into(), 2, 2, 0)
            }
            Self::MaxBlur => {
                let x = x.tensor()?.pad_with_same(1, 0, 1)?.pad_with_same(2, 0, 1)?;
                let maxima = channels_last::max_pool2d(&x.into(), 2, 1, 0)?;
                channels_last::blur_pool2d(&maxima, BLUR, 2)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    /// Pools the numbers from 0 of a plane of `h` by `w`.
    #[track_caller]
    fn check(
        (h, w): (usize, usize),
        pool: impl Fn(&FeatureMap) -> Result<FeatureMap>,
        want: &[&[f32]],
    ) {
        let x = Tensor::arange(0f32, (h * w) as f32, &Device::Cpu).unwrap();
        let y = pool(&x.reshape((1, h, w, 1)).unwrap().into()).unwrap().tensor().unwrap();
        assert_eq!(y.squeeze(0).unwrap().squeeze(2).unwrap().to_vec2::<f32>().unwrap(), want);
    }

    #[test]
    fn shortcuts_halve_odd_planes_too() {
        check((3, 3), |x| ShortcutPool::Avg.forward(x), &[&[2.0, 3.5], &[6.5, 8.0]]);
        check((3, 3), |x| ShortcutPool::Max.forward(x), &[&[4.0, 5.0], &[7.0, 8.0]]);
        check((2, 4), |x| ShortcutPool::Max.forward(x), &[&[5.0, 7.0]]);
        // Maxima 5 6 7 7 in both rows, reflected to 6 | 5 6 7 7 | 7.
        check((2, 4), |x| ShortcutPool::MaxBlur.forward(x), &[&[5.5, 6.75]]);
    }

    #[test]
    fn stems_halve_odd_planes_too() {
        check((3, 3), |x| StemPool::Max.forward(x), &[&[4.0, 5.0], &[7.0, 8.0]]);
        check(
            (3, 3),
            |x| StemPool::Avg.forward(x),
            &[&[8.0 / 9.0, 12.0 / 9.0], &[20.0 / 9.0, 24.0 / 9.0]],
        );
        // Maxima 4 5 5, 7 8 8, 7 8 8: rows give 4.5 5, 7.5 8, 7.5 8 with reflected borders.
        check((3, 3), |x| StemPool::MaxBlur.forward(x), &[&[6.0, 6.5], &[7.5, 8.0]]);
    }

    #[test]
    fn absent_options_are_the_default() {
        let options: EncoderOptions = serde_json::from_str(r#"{"pool":"max-blur"}"#).unwrap();
        assert_eq!(options, EncoderOptions { pool: StemPool::MaxBlur, ..Default::default() });
    }
}
