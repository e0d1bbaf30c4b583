//! The layers that networks are made of, with fastai's names inside.

use candle_core::{D, Result as TensorResult, Tensor, Var};

use crate::builder::{Builder, Init};
use crate::error::Result;
use crate::parameters::Kind;
use crate::xresnet::Activation;

/// Whether a network learns or is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Batch norm uses the batch's statistics and moves the running ones.
    Train,
    /// Batch norm uses the running statistics; nothing changes.
    Evaluate,
}

impl Activation {
    pub(crate) fn forward(self, x: &Tensor) -> TensorResult<Tensor> {
        match self {
            Self::Relu => pretext_ops::relu(x),
            Self::Mish => pretext_ops::mish(x),
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

    pub(crate) fn forward(&self, x: &Tensor) -> TensorResult<Tensor> {
        pretext_ops::conv2d(x, &self.weight, self.bias.as_ref(), self.stride, self.padding)
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

    pub(crate) fn forward(&self, x: &Tensor, mode: Mode) -> TensorResult<Tensor> {
        let (mean, var) = (&self.running_mean, &self.running_var);
        match mode {
            Mode::Evaluate => pretext_ops::batch_norm_eval(
                x,
                &self.weight,
                &self.bias,
                &mean.as_detached_tensor(),
                &var.as_detached_tensor(),
                EPS,
            ),
            Mode::Train => {
                let out = pretext_ops::batch_norm(x, &self.weight, &self.bias, EPS)?;
                follow(mean, &out.mean)?;
                follow(var, &out.variance)?;
                Ok(out.y)
            }
        }
    }
}

/// Moves a running statistic a little towards the batch's.
fn follow(running: &Var, batch: &Tensor) -> TensorResult<()> {
    let kept = (running.as_detached_tensor() * (1.0 - MOMENTUM))?;
    running.set(&(kept + (batch.detach() * MOMENTUM)?)?)
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

    pub(crate) fn forward(&self, x: &Tensor, mode: Mode) -> TensorResult<Tensor> {
        let mut x = self.conv.forward(x)?;
        if let Some(norm) = &self.norm {
            x = norm.forward(&x, mode)?;
        }
        match self.activation {
            Some(activation) => activation.forward(&x),
            None => Ok(x),
        }
    }
}

/// Squeeze-and-excitation (Hu et al., 2018), fastai's `SEModule`.
pub(crate) struct SqueezeExcite {
    squeeze: ConvLayer,
    excite: ConvLayer,
}

/// What the channels are divided by in the squeeze.
const REDUCTION: usize = 16;

impl SqueezeExcite {
    pub(crate) fn new(
        channels: usize,
        activation: Activation,
        builder: &Builder<'_>,
    ) -> Result<Self> {
        let few = (channels / REDUCTION).div_ceil(8) * 8;
        let builder = builder.pp("layers");
        let bias = Norm::Bias(Init::Constant(0.0));
        let squeeze =
            ConvLayer::new((channels, few), 1, 1, bias, Some(activation), &builder.pp(1))?;
        let excite = ConvLayer::new((few, channels), 1, 1, bias, None, &builder.pp(2))?;
        Ok(Self { squeeze, excite })
    }

    pub(crate) fn forward(&self, x: &Tensor, mode: Mode) -> TensorResult<Tensor> {
        let (n, c, _, _) = x.dims4()?;
        let mean = pretext_ops::global_avg_pool2d(x)?.reshape((n, c, 1, 1))?;
        let squeezed = self.squeeze.forward(&mean, mode)?;
        let gate = candle_nn::ops::sigmoid(&self.excite.forward(&squeezed, mode)?)?;
        x.broadcast_mul(&gate)
    }
}

/// fastai's `SimpleSelfAttention`: `x + gamma (x x^T) conv(x)`, with a spectrally normalised
/// pointwise convolution (Miyato et al., 2018) and gamma beginning at 0.
pub(crate) struct SelfAttention {
    weight: Tensor,
    u: Var,
    v: Var,
    gamma: Tensor,
}

impl SelfAttention {
    pub(crate) fn new(channels: usize, builder: &Builder<'_>) -> Result<Self> {
        let conv = builder.pp("conv");
        let unit = Init::Normal(1.0);
        let gamma = builder.variable("gamma", Kind::Norm, 1, Init::Constant(0.0))?;
        let weight = conv.variable(
            "weight_orig",
            Kind::Weight,
            (channels, channels, 1),
            Init::KaimingNormal,
        )?;
        let u = conv.variable("weight_u", Kind::RunningStatistic, channels, unit)?;
        let v = conv.variable("weight_v", Kind::RunningStatistic, channels, unit)?;
        for direction in [&u, &v] {
            direction.set(&unit_vector(&direction.as_detached_tensor())?)?;
        }
        Ok(Self { weight: weight.into_inner(), u, v, gamma: gamma.into_inner() })
    }

    /// The weight divided by its largest singular value, which one power iteration a training step
    /// keeps track of.
    fn normalised_weight(&self, mode: Mode) -> TensorResult<Tensor> {
        let weight = self.weight.squeeze(2)?;
        if mode == Mode::Train {
            let fixed = weight.detach();
            let column = |var: &Var| var.as_detached_tensor().unsqueeze(1);
            self.v.set(&unit_vector(&fixed.t()?.matmul(&column(&self.u)?)?.squeeze(1)?)?)?;
            self.u.set(&unit_vector(&fixed.matmul(&column(&self.v)?)?.squeeze(1)?)?)?;
        }
        // Copies: the next step changes the variables, and this step's backward pass needs today's.
        let u = self.u.as_detached_tensor().copy()?.unsqueeze(0)?;
        let v = self.v.as_detached_tensor().copy()?.unsqueeze(1)?;
        let sigma = u.matmul(&weight.matmul(&v)?)?;
        weight.broadcast_div(&sigma)
    }

    pub(crate) fn forward(&self, x: &Tensor, mode: Mode) -> TensorResult<Tensor> {
        let (n, c, h, w) = x.dims4()?;
        let weight = self.normalised_weight(mode)?.reshape((c, c, 1, 1))?;
        let convolved = pretext_ops::conv2d(x, &weight, None, 1, 0)?.reshape((n, c, h * w))?;
        let flat = x.reshape((n, c, h * w))?;
        let likeness = flat.matmul(&flat.t()?.contiguous()?)?;
        let attended = likeness.matmul(&convolved)?.reshape((n, c, h, w))?;
        attended.broadcast_mul(&self.gamma)? + x
    }
}

/// A vector of length 1.
fn unit_vector(v: &Tensor) -> TensorResult<Tensor> {
    v.broadcast_div(&(v.sqr()?.sum_keepdim(D::Minus1)?.sqrt()? + 1e-12)?)
}
