//! The layers that networks are made of, with fastai's names inside.
//!
//! Inside a network pictures are channels-last, `[N, H, W, C]`, which trains fastest; they are
//! turned where they come in and where features go out.

use candle_core::{DType, Result as TensorResult, Tensor, Var};
use pretext_ops::channels_last::{self, FeatureMap, Running, Then};

use crate::builder::{Builder, Init};
use crate::error::Result;
use crate::options::Activation;
use crate::parameters::Kind;

/// Whether a network learns or is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Batch norm uses the batch's statistics and moves the running ones.
    Train,
    /// Batch norm uses the running statistics; nothing changes, and no gradient flows into any
    /// parameter: the result has no graph, and each feature map is freed once it is used.
    Evaluate,
}

impl Mode {
    /// A parameter as this mode uses it.
    pub(crate) fn parameter(self, value: &Tensor) -> Tensor {
        match self {
            Self::Train => value.clone(),
            Self::Evaluate => value.detach(),
        }
    }
}

/// A convolution with the same stride and padding in both directions.
pub(crate) struct Conv {
    weight: Tensor,
    bias: Option<Tensor>,
    stride: usize,
    padding: usize,
}

impl Conv {
    /// A `kernel` by `kernel` convolution that keeps the size at stride 1.
    pub(crate) fn new(
        (inputs, outputs): (usize, usize),
        kernel: usize,
        stride: usize,
        init: Init,
        bias: Option<Init>,
        builder: &Builder<'_>,
    ) -> Result<Self> {
        let weight =
            builder.variable("weight", Kind::Weight, (outputs, inputs, kernel, kernel), init)?;
        let bias =
            bias.map(|init| builder.variable("bias", Kind::Bias, outputs, init)).transpose()?;
        Ok(Self {
            weight: weight.into_inner(),
            bias: bias.map(Var::into_inner),
            stride,
            padding: (kernel - 1) / 2,
        })
    }

    /// `[N, H, W, C]` to `[N, H', W', O]`.
    pub(crate) fn forward(
        &self,
        x: &FeatureMap,
        mode: Mode,
        then: Then<'_, FeatureMap>,
    ) -> TensorResult<FeatureMap> {
        let window = (self.stride, self.padding);
        let weight = &mode.parameter(&self.weight);
        if let Some(bias) = &self.bias {
            return channels_last::conv_bias(x, weight, &mode.parameter(bias), window, then);
        }
        let y = channels_last::conv2d(
            &x.tensor()?,
            weight,
            None,
            self.stride,
            self.padding,
            channels_last::Activation::Identity,
        )?;
        let y = match then.residual {
            Some(residual) => (y + residual.tensor()?)?,
            None => y,
        };
        Ok(then.activation.apply(&y)?.into())
    }
}

/// Batch normalisation with running statistics, as `torch.nn.BatchNorm2d`.
pub(crate) struct BatchNorm {
    weight: Tensor,
    bias: Tensor,
    running_mean: Var,
    running_var: Var,
}

/// PyTorch's defaults.
const MOMENTUM: f64 = 0.1;
const EPS: f64 = 1e-5;

impl BatchNorm {
    pub(crate) fn new(
        channels: usize,
        (weight, bias): (f32, f32),
        builder: &Builder<'_>,
    ) -> Result<Self> {
        let variable =
            |name, kind, value| builder.variable(name, kind, channels, Init::Constant(value));
        Ok(Self {
            weight: variable("weight", Kind::Norm, weight)?.into_inner(),
            bias: variable("bias", Kind::Norm, bias)?.into_inner(),
            running_mean: variable("running_mean", Kind::RunningStatistic, 0.0)?,
            running_var: variable("running_var", Kind::RunningStatistic, 1.0)?,
        })
    }

    /// The running statistics, for a batch's to move them.
    fn running(&self) -> Running<'_> {
        Running { mean: &self.running_mean, variance: &self.running_var, momentum: MOMENTUM }
    }

    /// `[N, H, W, C]`, normalised and activated.
    pub(crate) fn forward(
        &self,
        x: &FeatureMap,
        mode: Mode,
        activation: channels_last::Activation,
    ) -> TensorResult<FeatureMap> {
        let (weight, bias) = (mode.parameter(&self.weight), mode.parameter(&self.bias));
        let affine = (&weight, &bias);
        match mode {
            Mode::Evaluate => {
                let (mean, var) = (&self.running_mean, &self.running_var);
                let statistics = (&mean.as_detached_tensor(), &var.as_detached_tensor());
                let then = Then { activation, ..Then::default() };
                let y = channels_last::batch_norm_eval(&x.tensor()?, affine, statistics, then, EPS);
                Ok(y?.into())
            }
            Mode::Train => {
                channels_last::batch_norm_following(x, affine, activation, EPS, self.running())
            }
        }
    }
}

impl BatchNorm {
    /// A convolution without a bias and this normalisation behind it, `[N, H, W, C]` to
    /// `[N, H', W', O]`.
    pub(crate) fn behind(
        &self,
        conv: &Conv,
        x: &FeatureMap,
        mode: Mode,
        then: Then<'_, FeatureMap>,
    ) -> TensorResult<FeatureMap> {
        let (mean, var) = (&self.running_mean, &self.running_var);
        let [weight, scale, shift] =
            [&conv.weight, &self.weight, &self.bias].map(|value| mode.parameter(value));
        let (norm, window) = ((&scale, &shift), (conv.stride, conv.padding));
        match mode {
            Mode::Evaluate => channels_last::conv_norm_eval(
                x,
                &weight,
                norm,
                (&mean.as_detached_tensor(), &var.as_detached_tensor()),
                window,
                then,
                EPS,
            ),
            Mode::Train => {
                let running = self.running();
                channels_last::conv_norm_following(x, &weight, norm, window, then, EPS, running)
            }
        }
    }
}

/// A network's result: `f32`, also where it was computed in `bf16` or `f16`.
pub(crate) fn in_f32(x: &Tensor) -> TensorResult<Tensor> {
    match x.dtype() {
        DType::BF16 | DType::F16 => x.to_dtype(DType::F32),
        _ => Ok(x.clone()),
    }
}

/// fastai's `ConvLayer`: convolution `0`, then batch norm `1` if any, then the activation if any.
pub(crate) struct ConvLayer {
    conv: Conv,
    norm: Option<BatchNorm>,
    activation: Option<Activation>,
}

/// What a [`ConvLayer`] has behind its convolution.
#[derive(Clone, Copy)]
pub(crate) enum Norm {
    /// Batch norm whose weight begins at 1.
    One,
    /// Batch norm whose weight begins at 0, so that a residual branch begins as nothing (Goyal et
    /// al., 2017).
    Zero,
    /// None; the convolution has a bias that begins so.
    Bias(Init),
}

impl ConvLayer {
    pub(crate) fn new(
        channels: (usize, usize),
        kernel: usize,
        stride: usize,
        norm: Norm,
        activation: Option<Activation>,
        builder: &Builder<'_>,
    ) -> Result<Self> {
        Self::with_init(channels, kernel, stride, Init::KaimingNormal, norm, activation, builder)
    }

    pub(crate) fn with_init(
        channels: (usize, usize),
        kernel: usize,
        stride: usize,
        init: Init,
        norm: Norm,
        activation: Option<Activation>,
        builder: &Builder<'_>,
    ) -> Result<Self> {
        let (bias, weight) = match norm {
            Norm::One => (None, Some(1.0)),
            Norm::Zero => (None, Some(0.0)),
            Norm::Bias(init) => (Some(init), None),
        };
        let conv = Conv::new(channels, kernel, stride, init, bias, &builder.pp(0))?;
        let norm = weight
            .map(|weight| BatchNorm::new(channels.1, (weight, 0.0), &builder.pp(1)))
            .transpose()?;
        Ok(Self { conv, norm, activation })
    }

    pub(crate) fn forward(&self, x: &FeatureMap, mode: Mode) -> TensorResult<FeatureMap> {
        self.forward_onto(x, None, self.activation, mode)
    }

    /// The same with a residual added before the given activation.
    pub(crate) fn forward_onto(
        &self,
        x: &FeatureMap,
        residual: Option<&FeatureMap>,
        activation: Option<Activation>,
        mode: Mode,
    ) -> TensorResult<FeatureMap> {
        let activation = activation.map(Activation::op).unwrap_or_default();
        let then = Then { residual, activation };
        match &self.norm {
            Some(norm) => norm.behind(&self.conv, x, mode, then),
            None => self.conv.forward(x, mode, then),
        }
    }
}
