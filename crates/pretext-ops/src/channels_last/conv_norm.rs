//! A convolution, its batch normalisation, the sum with a residual and an activation in one.
//!
//! [`conv2d()`] followed by [`batch_norm`](super::batch_norm) is the definition. In one, the sums
//! between the two need no gradient tensor of their own (candle would clear one and add to it), the
//! backward pass turns them into their gradient in place, and in evaluation the normalisation is the
//! convolution's epilogue.
//!
//! candle's operators take three tensors and this one needs four, so it is two nodes of the graph:
//! the convolution, which hands on a token of one number, and the normalisation, which takes it and
//! hands on another. The sums, the result and their gradients pass beside the graph.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use candle_core::{
    CpuStorage, CustomOp2, CustomOp3, DType, Error, Layout, Result, Shape, Tensor, bail,
};

use super::conv2d::{self, Convolve, Epilogue, by_element, conv2d};
use super::feature_map::{self, FeatureMap, token};
use super::norm::{BatchNorm, Then, normalise};
use super::norm_gradient::Gradient;
use super::running::Running;
use super::{Activation, nhwc};
use crate::activation::{Function as _, Mish};
use crate::batch_norm::check_eps;
use crate::buffer::unwritten;
use crate::conv2d::Geometry;
use crate::isa::Isa;
use crate::peers::Batch;
use crate::values::{check_with, slice, with1, with2};

/// A batch, and the statistics that it was normalised by.
#[derive(Debug)]
pub struct ConvNormOutput {
    /// `[N, H', W', O]`.
    pub y: FeatureMap,
    /// The mean of each channel's sums: `[O]`.
    pub mean: Tensor,
    /// Their unbiased variance, which running statistics follow: `[O]`.
    pub variance: Tensor,
}

/// Convolves without a bias, normalises by the batch's own statistics, adds the residual and applies
/// the activation: training.
///
/// * `x`: `[N, H, W, C]`, `f32`, `f64` or `bf16`.
/// * `weight`: `[O, C, K, L]`, of the same dtype, `f32` for `bf16`.
/// * `norm`: the normalisation's weight and bias, `[O]` each.
/// * `stride`, `padding`: as for [`conv2d()`].
/// * `eps`: as for [`batch_norm`](super::batch_norm).
///
/// # Errors
/// As for [`conv2d()`] and [`batch_norm`](super::batch_norm).
pub fn conv_norm(
    x: &FeatureMap,
    weight: &Tensor,
    norm: (&Tensor, &Tensor),
    (stride, padding): (usize, usize),
    then: Then<'_, FeatureMap>,
    eps: f64,
) -> Result<ConvNormOutput> {
    let geometry = geometry(x, weight, &[norm.0, norm.1], then, (stride, padding))?;
    check_eps("batch_norm", eps)?;
    let channels = geometry.o;
    #[cfg(feature = "cuda")]
    if x.on_gpu() {
        let (y, statistics) = on_gpu(geometry, x, weight, norm, then, eps, None)?;
        let Some((mean, variance)) = statistics else { bail!("conv_norm: no statistics") };
        return Ok(ConvNormOutput { y, mean, variance });
    }
    if x.dtype() == DType::F64 {
        let sums = conv2d(&x.tensor()?, weight, None, stride, padding, Activation::Identity)?;
        let residual = then.residual.map(FeatureMap::tensor).transpose()?;
        let then = Then { residual: residual.as_ref(), activation: then.activation };
        let out = super::batch_norm(&sums, norm.0, norm.1, then, eps)?;
        return Ok(ConvNormOutput { y: out.y.into(), mean: out.mean, variance: out.variance });
    }
    let call = Call { geometry, activation: then.activation, statistics: Statistics::Own(eps) };
    let (y, mean, variance, unbiased) =
        by_element!("conv_norm", x.dtype(), apply(call, x, weight, norm, then, None))?;
    let tensor = |values: Vec<f64>| {
        Tensor::from_vec(values, channels, weight.device())?.to_dtype(weight.dtype())
    };
    let variance = variance.iter().map(|v| v * unbiased).collect();
    Ok(ConvNormOutput { y, mean: tensor(mean)?, variance: tensor(variance)? })
}

/// [`conv_norm`], and its statistics move the `running` ones.
///
/// # Errors
/// As for [`conv_norm`], and if the running statistics are not of its form.
pub fn conv_norm_following(
    x: &FeatureMap,
    weight: &Tensor,
    norm: (&Tensor, &Tensor),
    window: (usize, usize),
    then: Then<'_, FeatureMap>,
    eps: f64,
    running: Running<'_>,
) -> Result<FeatureMap> {
    #[cfg(feature = "cuda")]
    if x.on_gpu() {
        running.check(norm.0)?;
        let geometry = geometry(x, weight, &[norm.0, norm.1], then, window)?;
        check_eps("batch_norm", eps)?;
        return Ok(on_gpu(geometry, x, weight, norm, then, eps, Some(running))?.0);
    }
    let ConvNormOutput { y, mean, variance } = conv_norm(x, weight, norm, window, then, eps)?;
    running.follow(&mean, &variance)?;
    Ok(y)
}

#[cfg(feature = "cuda")]
fn on_gpu(
    geometry: Geometry,
    x: &FeatureMap,
    weight: &Tensor,
    norm: (&Tensor, &Tensor),
    then: Then<'_, FeatureMap>,
    eps: f64,
    running: Option<Running<'_>>,
) -> Result<(FeatureMap, Option<crate::gpu::operators::Statistics>)> {
    let (n, h, w, c) = x.dims4()?;
    Batch::of(geometry.n * geometry.pixels()).check(&[n, h, w, c])?;
    crate::gpu::operators::conv_norm::<crate::cuda::Gpu>(
        geometry, x, weight, norm, then, eps, running,
    )
}

/// Convolves without a bias, normalises by given statistics, adds the residual and applies the
/// activation: evaluation.
///
/// * `norm`: the normalisation's weight and bias, `[O]` each.
/// * `running`: mean and variance, `[O]` each; no gradient flows into them.
/// * The rest as for [`conv_norm`].
///
/// # Errors
/// As for [`conv2d()`] and [`batch_norm_eval`](super::batch_norm_eval).
pub fn conv_norm_eval(
    x: &FeatureMap,
    weight: &Tensor,
    norm: (&Tensor, &Tensor),
    running: (&Tensor, &Tensor),
    (stride, padding): (usize, usize),
    then: Then<'_, FeatureMap>,
    eps: f64,
) -> Result<FeatureMap> {
    let geometry =
        geometry(x, weight, &[norm.0, norm.1, running.0, running.1], then, (stride, padding))?;
    check_eps("batch_norm", eps)?;
    #[cfg(feature = "cuda")]
    if x.on_gpu() {
        return crate::gpu::operators::conv_norm_eval::<crate::cuda::Gpu>(
            geometry, x, weight, norm, running, then, eps,
        );
    }
    if x.dtype() == DType::F64 {
        let sums = conv2d(&x.tensor()?, weight, None, stride, padding, Activation::Identity)?;
        let residual = then.residual.map(FeatureMap::tensor).transpose()?;
        let then = Then { residual: residual.as_ref(), activation: then.activation };
        return Ok(super::batch_norm_eval(&sums, norm, running, then, eps)?.into());
    }
    let values = |t: &Tensor| t.to_dtype(DType::F64)?.to_vec1::<f64>();
    let given = Some((values(running.0)?, values(running.1)?));
    let call = Call { geometry, activation: then.activation, statistics: Statistics::Given(eps) };
    Ok(by_element!("conv_norm", x.dtype(), apply(call, x, weight, norm, then, given))?.0)
}

/// Mean and biased variance.
type Moments = (Vec<f64>, Vec<f64>);

/// The two nodes; returns the result, the statistics, and what makes the variance unbiased.
fn apply<T: Convolve>(
    call: Call,
    x: &FeatureMap,
    weight: &Tensor,
    norm: (&Tensor, &Tensor),
    then: Then<'_, FeatureMap>,
    given: Option<Moments>,
) -> Result<(FeatureMap, Vec<f64>, Vec<f64>, f64)> {
    let (mean, variance) = given.unwrap_or_default();
    let pass: Arc<Pass<T>> = Arc::new(Pass {
        call,
        x: x.contiguous()?,
        residual: then.residual.map(FeatureMap::contiguous).transpose()?,
        weight: weight.contiguous()?,
        saved: Mutex::new(Saved { mean, variance, batch: Batch::default(), sums: None }),
        y: OnceLock::new(),
        gradient: feature_map::Gradient::default(),
    });
    let token = pass.x.argument()?.apply_op2(&pass.weight, Convolution(pass.clone()))?;
    let affine = Tensor::stack(&[norm.0, norm.1], 0)?;
    let op = Normalisation(pass.clone());
    let token = match &pass.residual {
        Some(residual) => token.apply_op3(&affine, &residual.argument()?, op),
        None => token.apply_op2(&affine, op),
    }?;
    let Some(y) = pass.y.get() else { bail!("conv_norm: the normalisation left no result") };
    let y = FeatureMap::beside(y.clone(), token, pass.gradient.clone());
    let saved = pass.saved();
    Ok((y, saved.mean.clone(), saved.variance.clone(), saved.batch.unbiased()))
}

fn geometry(
    x: &FeatureMap,
    weight: &Tensor,
    channels: &[&Tensor],
    then: Then<'_, FeatureMap>,
    (stride, padding): (usize, usize),
) -> Result<Geometry> {
    let pictures: Result<Vec<Tensor>> =
        std::iter::once(x).chain(then.residual).map(FeatureMap::values).collect();
    let pictures = pictures?;
    let pictures: Vec<&Tensor> = pictures.iter().collect();
    check_with("conv_norm", &pictures, &[&[weight], channels].concat())?;
    let (n, h, w, c) = nhwc("conv_norm", x.dims())?;
    let geometry = Geometry::new((n, c, h, w), weight, stride, padding)?;
    for tensor in channels {
        if tensor.dims() != [geometry.o] {
            bail!("conv_norm: the weight is {:?}, a parameter {:?}", weight.shape(), tensor.shape())
        }
    }
    let size = [n, geometry.out.0, geometry.out.1, geometry.o];
    if let Some(residual) = then.residual {
        let residual = residual.dims();
        if residual != size {
            bail!("conv_norm: the result is {size:?}, the residual {residual:?}")
        }
    }
    Ok(geometry)
}

/// Whose statistics normalise, and what is added to the variance.
#[derive(Clone, Copy)]
enum Statistics {
    /// The batch's.
    Own(f64),
    Given(f64),
}

/// What is to be done.
#[derive(Clone, Copy)]
struct Call {
    geometry: Geometry,
    activation: Activation,
    statistics: Statistics,
}

/// What the nodes leave for each other.
struct Saved<T> {
    mean: Vec<f64>,
    /// Biased.
    variance: Vec<f64>,
    /// What they are of, if not given.
    batch: Batch,
    /// The convolution's result; between the nodes' backward passes, its gradient.
    sums: Option<Vec<T>>,
}

/// One application to one batch, which both nodes share.
struct Pass<T> {
    call: Call,
    x: FeatureMap,
    residual: Option<FeatureMap>,
    weight: Tensor,
    saved: Mutex<Saved<T>>,
    /// `[N, H', W', O]`.
    y: OnceLock<feature_map::Values>,
    gradient: feature_map::Gradient,
}

impl<T: Convolve> Pass<T> {
    /// A poisoned lock means that another thread panicked; what it saved is still whole.
    fn saved(&self) -> std::sync::MutexGuard<'_, Saved<T>> {
        self.saved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn norm(&self, saved: &Saved<T>) -> BatchNorm {
        let (eps, own) = match self.call.statistics {
            Statistics::Own(eps) => (eps, Some(saved.batch.clone())),
            Statistics::Given(eps) => (eps, None),
        };
        BatchNorm::new(saved.mean.clone(), &saved.variance, eps, own, self.call.activation)
    }

    fn sums(&self, x: &[T], weight: &[f32]) -> Vec<T> {
        conv2d::forward(Isa::current(), &self.call.geometry, x, weight, Epilogue::default())
    }

    /// Leaves the result; returns its token.
    fn forward(&self, affine: &[f32]) -> Result<(CpuStorage, Shape)> {
        let Geometry { n, o, out: (height, width), .. } = self.call.geometry;
        let saved = self.saved();
        let (factor, shift) = self.norm(&saved).line(affine);
        let run = |residual: Option<&[T]>| match (self.call.statistics, &saved.sums) {
            (Statistics::Own(_), Some(sums)) => {
                Ok(normalise(self.call.activation, sums, residual, &factor, &shift))
            }
            _ => self.in_one(&factor, &shift, residual),
        };
        let y = match &self.residual {
            Some(residual) => with1::<T, _>(&residual.values()?, |residual| run(Some(residual)))?,
            None => run(None),
        }?;
        let y = Tensor::from_vec(y, (n, height, width, o), self.weight.device())?;
        if self.y.set(y.into()).is_err() {
            bail!("conv_norm: a node was run twice")
        }
        Ok(token())
    }

    /// A convolution whose epilogue normalises.
    fn in_one(&self, factor: &[f32], shift: &[f32], residual: Option<&[T]>) -> Result<Vec<T>> {
        let relu = self.call.activation == Activation::Relu;
        let epilogue = Epilogue { scale: Some(factor), bias: Some(shift), residual, relu };
        let mut y = with1::<T, _>(&self.x.values()?, |x| {
            with1::<f32, _>(&self.weight, |weight| {
                conv2d::forward(Isa::current(), &self.call.geometry, x, weight, epilogue)
            })
        })??;
        if self.call.activation == Activation::Mish {
            y.iter_mut().for_each(|y| *y = T::narrow(Mish.value(y.widen())));
        }
        Ok(y)
    }

    /// The gradients of weight and bias, and what the graph gets for the residual; that of the sums
    /// is left for the convolution, if wanted.
    fn backward(&self, affine: &Tensor, wanted: bool) -> Result<(Tensor, Option<Tensor>)> {
        let dy = self.gradient.take()?;
        let Some(kept) = self.y.get() else { bail!("conv_norm: there is no result") };
        let y = &kept.get()?;
        let mut saved = self.saved();
        let mut sums = match saved.sums.take() {
            Some(sums) => sums,
            // Evaluation, or a second backward pass.
            None => {
                let weight = with1::<f32, _>(&self.weight, <[f32]>::to_vec)?;
                with1::<T, _>(&self.x.values()?, |x| self.sums(x, &weight))?
            }
        };
        let op = self.norm(&saved);
        let affine = with1::<f32, _>(affine, <[f32]>::to_vec)?;
        let added = match (self.call.activation, &self.residual) {
            // Only its slope needs to know what was added.
            (Activation::Mish, Some(residual)) => {
                Some(with1::<T, _>(&residual.values()?, <[T]>::to_vec)?)
            }
            _ => None,
        };
        let (line, before) = with2::<T, _>(y, &dy, |y, dy| {
            let gradient = Gradient {
                op: &op,
                affine: &affine,
                residual: added.as_deref(),
                alone: self.residual.is_none(),
                y,
                dy,
            };
            let mut before = self.residual.as_ref().map(|_| {
                // SAFETY: `sums` writes it in full.
                unsafe { unwritten(sums.len()) }
            });
            let (line, slopes) = gradient.sums(&sums, before.as_deref_mut())?;
            gradient.finish(&mut sums, None, before.as_deref(), &slopes);
            Ok::<_, Error>((line, before))
        })??;
        // Without anything to train before the normalisation nobody takes it.
        saved.sums = wanted.then_some(sums);
        let line = Tensor::from_vec(line, (2, self.call.geometry.o), dy.device())?;
        let before = match (before, &self.residual) {
            (Some(before), Some(residual)) if residual.argument()?.track_op() => {
                Some(residual.hand_over(Tensor::from_vec(before, dy.shape(), dy.device())?)?)
            }
            _ => None,
        };
        kept.used_up();
        Ok((line.to_dtype(DType::F32)?, before))
    }
}

/// The first node.
struct Convolution<T>(Arc<Pass<T>>);

impl<T: Convolve> CustomOp2 for Convolution<T> {
    fn name(&self) -> &'static str {
        "conv_norm"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        // Evaluation convolves in the second node, which knows the normalisation.
        if let Statistics::Own(_) = self.0.call.statistics {
            let weight = slice(weight, weight_layout)?;
            let (sums, moments) = with1::<T, _>(&self.0.x.values()?, |x| {
                conv2d::forward_measured(Isa::current(), &self.0.call.geometry, x, weight)
            })?;
            let (mut mean, mut variance) = moments;
            let Geometry { n, o, out: (height, width), .. } = self.0.call.geometry;
            let batch = Batch::join(n * height * width, &mut mean, &mut variance)?;
            batch.check(&[n, height, width, o])?;
            let mut saved = self.0.saved();
            (saved.mean, saved.variance, saved.batch) = (mean, variance, batch);
            saved.sums = Some(sums);
        }
        Ok(token())
    }

    fn bwd(
        &self,
        argument: &Tensor,
        weight: &Tensor,
        _token: &Tensor,
        _: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let Some(dy) = self.0.saved().sums.take() else {
            bail!("conv_norm: the normalisation's backward pass did not come first")
        };
        let (g, x, values) = (&self.0.call.geometry, &self.0.x, self.0.x.values()?);
        // The pictures themselves need no gradient, which saves a third of the first layer's work.
        let dx = argument.track_op().then(|| {
            let others = x.take_others();
            x.hand_over(conv2d::input_gradient(g, &values, weight, &dy, others.as_ref())?)
        });
        let dw = conv2d::weight_gradient(g, &values, weight, &dy)?;
        Ok((dx.transpose()?, dw))
    }
}

/// The second node.
struct Normalisation<T>(Arc<Pass<T>>);

impl<T: Convolve> CustomOp2 for Normalisation<T> {
    fn name(&self) -> &'static str {
        "conv_norm"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        affine: &CpuStorage,
        layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.0.forward(slice(affine, layout)?)
    }

    fn bwd(
        &self,
        token: &Tensor,
        affine: &Tensor,
        _: &Tensor,
        _: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (line, _) = self.0.backward(affine, token.track_op())?;
        Ok((Some(token.zeros_like()?), Some(line)))
    }
}

impl<T: Convolve> CustomOp3 for Normalisation<T> {
    fn name(&self) -> &'static str {
        "conv_norm"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        affine: &CpuStorage,
        layout: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.0.forward(slice(affine, layout)?)
    }

    fn bwd(
        &self,
        token: &Tensor,
        affine: &Tensor,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (line, before) = self.0.backward(affine, token.track_op())?;
        Ok((Some(token.zeros_like()?), Some(line), before))
    }
}
