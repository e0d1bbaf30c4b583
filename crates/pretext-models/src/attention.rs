//! fastai's two self-attentions over the pixels of a plane, with spectrally normalised pointwise
//! convolutions, and squeeze-and-excitation over its channels.

use candle_core::{D, Result as TensorResult, Tensor, Var};
use pretext_ops::channels_last;

use crate::builder::{Builder, Init};
use crate::error::Result;
use crate::layers::{ConvLayer, Mode, Norm, in_f32};
use crate::options::Activation;
use crate::parameters::Kind;

/// Squeeze-and-excitation (Hu et al., "Squeeze-and-Excitation Networks", 2018): fastai's
/// `SEModule`.
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
        let (n, _, _, c) = x.dims4()?;
        let mean = channels_last::global_avg_pool2d(&x.into())?.reshape((n, 1, 1, c))?;
        let squeezed = self.squeeze.forward(&mean.into(), mode)?;
        let gate = candle_nn::ops::sigmoid(&self.excite.forward(&squeezed, mode)?.tensor()?)?;
        x.broadcast_mul(&gate)
    }
}

/// fastai's `SimpleSelfAttention`: `x + gamma (x x^T) conv(x)`, pixels flattened, with gamma
/// beginning at 0.
pub(crate) struct SimpleSelfAttention {
    conv: SpectralConv,
    gamma: Tensor,
}

impl SimpleSelfAttention {
    pub(crate) fn new(channels: usize, builder: &Builder<'_>) -> Result<Self> {
        let gamma = gamma(builder)?;
        let conv = SpectralConv::new((channels, channels), &builder.pp("conv"))?;
        Ok(Self { conv, gamma })
    }

    pub(crate) fn forward(&self, x: &Tensor, mode: Mode) -> TensorResult<Tensor> {
        let (dtype, x) = (x.dtype(), &in_f32(&channels_last::channels_first(x)?)?);
        let convolved = self.conv.forward(x, mode)?;
        let flat = x.flatten_from(2)?;
        let likeness = flat.matmul(&flat.t()?.contiguous()?)?;
        let attended = likeness.matmul(&convolved)?.reshape(x.shape())?;
        channels_last::channels_last(
            &(attended.broadcast_mul(&mode.parameter(&self.gamma))? + x)?.to_dtype(dtype)?,
        )
    }
}

/// Self-attention (Zhang et al., "Self-Attention Generative Adversarial Networks", 2019): fastai's
/// `SelfAttention`.
pub(crate) struct SelfAttention {
    query: SpectralConv,
    key: SpectralConv,
    value: SpectralConv,
    gamma: Tensor,
}

impl SelfAttention {
    pub(crate) fn new(channels: usize, builder: &Builder<'_>) -> Result<Self> {
        let gamma = gamma(builder)?;
        let conv = |name, outputs| SpectralConv::new((channels, outputs), &builder.pp(name).pp(0));
        Ok(Self {
            query: conv("query", channels / 8)?,
            key: conv("key", channels / 8)?,
            value: conv("value", channels)?,
            gamma,
        })
    }

    pub(crate) fn forward(&self, x: &Tensor, mode: Mode) -> TensorResult<Tensor> {
        let (dtype, x) = (x.dtype(), &in_f32(&channels_last::channels_first(x)?)?);
        let (query, key) = (self.query.forward(x, mode)?, self.key.forward(x, mode)?);
        let value = self.value.forward(x, mode)?;
        let likeness = query.t()?.contiguous()?.matmul(&key)?;
        let attention = candle_nn::ops::softmax(&likeness, 1)?;
        let attended = value.matmul(&attention)?.reshape(x.shape())?;
        channels_last::channels_last(
            &(attended.broadcast_mul(&mode.parameter(&self.gamma))? + x)?.to_dtype(dtype)?,
        )
    }
}

/// How much of the attention is added. It is neither a norm nor a bias, so it decays.
fn gamma(builder: &Builder<'_>) -> Result<Tensor> {
    Ok(builder.variable("gamma", Kind::Weight, 1, Init::Constant(0.0))?.into_inner())
}

/// A pointwise convolution without bias whose weight is divided by its largest singular value
/// (Miyato et al., "Spectral Normalization for Generative Adversarial Networks", 2018), as
/// `torch.nn.utils.spectral_norm` does.
struct SpectralConv {
    weight: Tensor,
    u: Var,
    v: Var,
}

impl SpectralConv {
    fn new((inputs, outputs): (usize, usize), builder: &Builder<'_>) -> Result<Self> {
        let shape = (outputs, inputs, 1);
        let weight = builder.variable("weight_orig", Kind::Weight, shape, Init::KaimingNormal)?;
        let vector = |name, length| {
            let var = builder.variable(name, Kind::RunningStatistic, length, Init::Normal(1.0))?;
            var.set(&unit_vector(&var.as_detached_tensor())?)?;
            Ok::<_, crate::Error>(var)
        };
        let (u, v) = (vector("weight_u", outputs)?, vector("weight_v", inputs)?);
        Ok(Self { weight: weight.into_inner(), u, v })
    }

    /// The weight over its largest singular value, which one power iteration a training step keeps
    /// track of.
    fn normalised_weight(&self, mode: Mode) -> TensorResult<Tensor> {
        let weight = mode.parameter(&self.weight).squeeze(2)?;
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

    /// `[N, I, H, W]` to `[N, O, H W]`.
    fn forward(&self, x: &Tensor, mode: Mode) -> TensorResult<Tensor> {
        let weight = self.normalised_weight(mode)?.unsqueeze(2)?.unsqueeze(3)?;
        pretext_ops::conv2d(x, &weight, None, 1, 0)?.flatten_from(2)
    }
}

/// A vector of length 1.
fn unit_vector(v: &Tensor) -> TensorResult<Tensor> {
    v.broadcast_div(&(v.sqr()?.sum_keepdim(D::Minus1)?.sqrt()? + 1e-12)?)
}
