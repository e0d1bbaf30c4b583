//! Convolutions with what follows them.

use candle_core::{DType, Result, Shape, Tensor, bail};

use super::activation::activate;
use super::norm::{By, Gradients, Norm, Statistics};
use super::tape::record;
use crate::channels_last::{Activation, FeatureMap, Running, Then};
use crate::conv2d::Geometry;
use crate::gpu::product::{At, Form, Order, Product};
use crate::gpu::{Place, weights};

/// A convolution of one batch, and what its gradients are made of.
struct Convolution<M> {
    gpu: M,
    g: Geometry,
    /// `[N, H, W, C]`, without a graph.
    x: Tensor,
    /// `f32` `[O, C, K, L]`.
    weight: Tensor,
    /// The weight as the product of this form took it.
    kernels: (Tensor, Form),
    /// Whether the gradients of pictures and weight are.
    wanted: (bool, bool),
}

impl<M: Place> Convolution<M> {
    /// The sums alone, `[N, H', W', O]`, and what remains to be known of them.
    fn new(
        g: Geometry,
        x: Tensor,
        weight: &Tensor,
        wanted: (bool, bool),
    ) -> Result<(Tensor, Self)> {
        if g.n * g.pixels() * g.o == 0 || x.elem_count() == 0 {
            bail!("conv2d: on a GPU a batch of {:?} is empty", x.shape())
        }
        let (gpu, weight) = (M::of(&x)?, weight.detach().contiguous()?);
        let form = form_of(&gpu, &g, x.dtype(), Product::Forward)?;
        let kernels = kernels(&gpu, &g, form, &weight)?;
        let pictures = in_form(&gpu, &x, form)?;
        let y = gpu.numbers(form.0, g.n * g.pixels() * g.o)?;
        let at = At { x: gpu.at(&pictures)?, w: gpu.at(&kernels)?, y: gpu.address(&y) };
        gpu.product(&g, form, Product::Forward, at)?;
        let y =
            from_form(gpu.tensor(y, form.0, shape(&g, form.1, (g.o, g.out)))?, form, x.dtype())?;
        Ok((y, Self { gpu, g, x, weight, kernels: (kernels, form), wanted }))
    }

    /// The gradients of pictures and weight, as far as they are wanted.
    fn backward(&self, dy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let dx = self.wanted.0.then(|| self.input(dy)).transpose()?;
        Ok((dx, self.wanted.1.then(|| self.weight(dy)).transpose()?))
    }

    fn input(&self, dy: &Tensor) -> Result<Tensor> {
        let Self { gpu, g, x, weight, .. } = self;
        let form = form_of(gpu, g, x.dtype(), Product::Input)?;
        let kernels = match &self.kernels {
            (known, same) if *same == form => known.clone(),
            _ => kernels(gpu, g, form, weight)?,
        };
        let dy = in_form(gpu, dy, form)?;
        let dx = gpu.numbers(form.0, x.elem_count())?;
        let at = At { x: gpu.address(&dx), w: gpu.at(&kernels)?, y: gpu.at(&dy)? };
        gpu.product(g, form, Product::Input, at)?;
        let dx = gpu.tensor(dx, form.0, shape(g, form.1, (g.c, (g.h, g.w))))?;
        from_form(dx, form, x.dtype())
    }

    fn weight(&self, dy: &Tensor) -> Result<Tensor> {
        let Self { gpu, g, x, weight, .. } = self;
        let form = form_of(gpu, g, x.dtype(), Product::Weight)?;
        let (x, dy) = (in_form(gpu, x, form)?, in_form(gpu, dy, form)?);
        let numbers = weight.elem_count();
        let dw = gpu.numbers(form.0, numbers)?;
        let at = At { x: gpu.at(&x)?, w: gpu.address(&dw), y: gpu.at(&dy)? };
        gpu.product(g, form, Product::Weight, at)?;
        if weights::lie_so(g, form) {
            return gpu.tensor(dw, DType::F32, weight.shape());
        }
        let turned = gpu.numbers(DType::F32, numbers)?;
        let (from, to) = (gpu.address(&dw), gpu.address(&turned));
        weights::weights_gradient(gpu, g, form, from, to)?;
        gpu.tensor(turned, DType::F32, weight.shape())
    }
}

/// The form in which a product of pictures of a dtype is computed: in theirs, or in `f32`, as on GPUs of
/// before there were others; channels-last, or the other way.
fn form_of<M: Place>(gpu: &M, g: &Geometry, dtype: DType, product: Product) -> Result<Form> {
    for form in [(dtype, Order::ChannelsLast), (DType::F32, Order::ChannelsLast)] {
        if gpu.computes(g, form, product)? {
            return Ok(form);
        }
    }
    Ok((DType::F32, Order::ChannelsFirst))
}

/// `[N, H, W, C]` as a product of a form takes them.
fn in_form<M: Place>(gpu: &M, pictures: &Tensor, (dtype, order): Form) -> Result<Tensor> {
    let pictures = pictures.to_dtype(dtype)?;
    match order {
        Order::ChannelsLast => gpu.aligned(&pictures),
        Order::ChannelsFirst => gpu.aligned(&pictures.permute((0, 3, 1, 2))?),
    }
}

/// The way back, to a dtype.
fn from_form(pictures: Tensor, (_, order): Form, dtype: DType) -> Result<Tensor> {
    match order {
        Order::ChannelsLast => pictures.to_dtype(dtype),
        Order::ChannelsFirst => pictures.permute((0, 2, 3, 1))?.contiguous()?.to_dtype(dtype),
    }
}

fn shape(
    g: &Geometry,
    order: Order,
    (channels, (height, width)): (usize, (usize, usize)),
) -> Shape {
    match order {
        Order::ChannelsLast => (g.n, height, width, channels).into(),
        Order::ChannelsFirst => (g.n, channels, height, width).into(),
    }
}

fn kernels<M: Place>(gpu: &M, g: &Geometry, form: Form, weight: &Tensor) -> Result<Tensor> {
    if weights::lie_so(g, form) {
        return gpu.aligned(weight);
    }
    let kernels = gpu.numbers(form.0, weight.elem_count())?;
    weights::weights(gpu, g, form, gpu.at(weight)?, gpu.address(&kernels))?;
    gpu.tensor(kernels, form.0, weight.elem_count())
}

/// As [`crate::channels_last::conv2d`], whose checks are done.
pub(crate) fn conv2d<M: Place>(
    g: Geometry,
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    activation: Activation,
) -> Result<Tensor> {
    let x = FeatureMap::from(x);
    if let Some(bias) = bias {
        let then = Then { residual: None, activation };
        return conv_bias::<M>(g, &x, weight, bias, then)?.tensor();
    }
    let wanted = (x.tracks(), weight.track_op());
    let (y, convolution) = Convolution::<M>::new(g, x.numbers()?, weight, wanted)?;
    let y = record::<M>("conv2d", &[&x], &[weight], y, move |dy| {
        let (dx, dw) = convolution.backward(dy)?;
        Ok(vec![dx, dw])
    })?;
    activate::<M>(&y.tensor()?, activation)
}

/// As [`crate::conv2d()`], whose checks are done: pictures are turned there and back.
pub(crate) fn conv2d_channels_first<M: Place>(
    g: Geometry,
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
) -> Result<Tensor> {
    let turned = x.permute((0, 2, 3, 1))?.contiguous()?;
    conv2d::<M>(g, &turned, weight, bias, Activation::Identity)?.permute((0, 3, 1, 2))?.contiguous()
}

/// As [`crate::channels_last::conv_bias`], whose checks are done.
pub(crate) fn conv_bias<M: Place>(
    g: Geometry,
    x: &FeatureMap,
    weight: &Tensor,
    bias: &Tensor,
    then: Then<'_, FeatureMap>,
) -> Result<FeatureMap> {
    Ok(convolved::<M>("conv_bias", g, x, weight, By::Bias(bias), then)?.0)
}

/// As [`crate::channels_last::conv_norm`], or with `running` as
/// [`crate::channels_last::conv_norm_following`], whose checks are done.
pub(crate) fn conv_norm<M: Place>(
    g: Geometry,
    x: &FeatureMap,
    weight: &Tensor,
    affine: (&Tensor, &Tensor),
    then: Then<'_, FeatureMap>,
    eps: f64,
    running: Option<Running<'_>>,
) -> Result<(FeatureMap, Option<Statistics>)> {
    convolved::<M>("conv_norm", g, x, weight, By::Own { affine, running, eps }, then)
}

/// As [`crate::channels_last::conv_norm_eval`], whose checks are done.
pub(crate) fn conv_norm_eval<M: Place>(
    g: Geometry,
    x: &FeatureMap,
    weight: &Tensor,
    affine: (&Tensor, &Tensor),
    statistics: (&Tensor, &Tensor),
    then: Then<'_, FeatureMap>,
    eps: f64,
) -> Result<FeatureMap> {
    let by = By::Given { affine, statistics, eps };
    Ok(convolved::<M>("conv_norm", g, x, weight, by, then)?.0)
}

/// A convolution, what normalises it, and what follows, as one operator.
fn convolved<M: Place>(
    name: &'static str,
    g: Geometry,
    x: &FeatureMap,
    weight: &Tensor,
    by: By<'_>,
    then: Then<'_, FeatureMap>,
) -> Result<(FeatureMap, Option<Statistics>)> {
    let wanted = (x.tracks(), weight.track_op());
    let (sums, convolution) = Convolution::<M>::new(g, x.numbers()?, weight, wanted)?;
    let (y, norm, statistics) = Norm::new(&convolution.gpu, sums, wanted.0 || wanted.1, by, then)?;
    let maps: Vec<&FeatureMap> = std::iter::once(x).chain(then.residual).collect();
    let parameters: Vec<&Tensor> = std::iter::once(weight).chain(by.parameters()).collect();
    let y = record::<M>(name, &maps, &parameters, y, move |dy| {
        let Gradients { x: sums, residual, parameters } = norm.backward(dy)?;
        let (dx, dw) = match sums {
            Some(sums) => convolution.backward(&sums)?,
            None => (None, None),
        };
        Ok([vec![dx], residual, vec![dw], parameters].concat())
    })?;
    Ok((y, statistics))
}
