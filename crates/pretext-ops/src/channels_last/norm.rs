//! Batch normalisation of channels-last pictures with what follows it: a residual that is added,
//! an activation.
//!
//! [`crate::batch_norm()`] is the definition of the normalisation. Here it takes one pass over memory
//! for the statistics, one for the result, and two for the gradients, the activation and the sum
//! with the residual included.

use candle_core::{
    CpuStorage, CustomOp2, CustomOp3, DType, Error, Layout, Result, Shape, Tensor, bail,
};
use rayon::iter::{IndexedParallelIterator as _, ParallelIterator as _};
use rayon::slice::ParallelSliceMut as _;

use super::feature_map::FeatureMap;
use super::norm_gradient::Gradient;
use super::running::Running;
use super::statistics::{chunk, statistics_of};
use super::{Activation, nhwc};
use crate::activation::{Function as _, Mish};
use crate::batch_norm::{BatchNormOutput, check_eps};
use crate::buffer::unwritten;
#[cfg(feature = "cuda")]
use crate::gpu::operators::{By, normalised};
use crate::isa::Isa;
use crate::peers::Batch;
use crate::stored::Stored;
use crate::values::{Float, by_stored, check_with, output, parameters_of, slice, with1, with2};

/// What follows a normalisation: the sum with a residual, then an activation.
#[derive(Debug)]
pub struct Then<'a, T = Tensor> {
    /// Of the normalisation's shape.
    pub residual: Option<&'a T>,
    /// What the sum goes through.
    pub activation: Activation,
}

// Derived, these would ask as much of `T`.
impl<T> Clone for Then<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Then<'_, T> {}

impl<T> Default for Then<'_, T> {
    fn default() -> Self {
        Self { residual: None, activation: Activation::default() }
    }
}

/// Normalises by the batch's own statistics, adds the residual and applies the activation:
/// training.
///
/// * `x`: `[N, H, W, C]`, `f32`, `f64` or `bf16`, with more than one value a channel.
/// * `weight`, `bias`: `[C]`, of the same dtype; `f32` for `bf16`.
/// * `eps`: what is added to the variance, from 0; 1e-5 in PyTorch.
///
/// # Errors
/// If shapes, dtypes or devices do not fit, `eps` is negative, or a channel has a single value or
/// none.
pub fn batch_norm(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    then: Then<'_>,
    eps: f64,
) -> Result<BatchNormOutput> {
    let channels = arguments(x, &[weight, bias], then)?;
    check_eps("batch_norm", eps)?;
    let count = x.elem_count() / channels.max(1);
    #[cfg(feature = "cuda")]
    if crate::values::on_gpu(x) {
        Batch::of(count).check(x.dims())?;
        let (y, statistics) = on_gpu(x, (weight, bias), then, eps, None)?;
        let Some((mean, variance)) = statistics else { bail!("batch_norm: no statistics") };
        return Ok(BatchNormOutput { y: y.tensor()?, mean, variance });
    }
    let x = x.contiguous()?;
    let (mut mean, mut variance) =
        by_stored!("batch_norm", x.dtype(), statistics_of(&x, channels))?;
    let batch = Batch::join(count, &mut mean, &mut variance)?;
    batch.check(x.dims())?;
    let unbiased = batch.unbiased();
    let tensor = |values: Vec<f64>| {
        Tensor::from_vec(values, channels, x.device())?.to_dtype(parameters_of(&x))
    };
    let running = variance.iter().map(|v| v * unbiased).collect();
    let op = BatchNorm::new(mean.clone(), &variance, eps, Some(batch), then.activation);
    let y = op.apply(&x, weight, bias, then)?;
    Ok(BatchNormOutput { y, mean: tensor(mean)?, variance: tensor(running)? })
}

/// [`batch_norm`] on a feature map, and its statistics move the `running` ones.
///
/// # Errors
/// As for [`batch_norm`], and if the running statistics are not of its form.
pub fn batch_norm_following(
    x: &FeatureMap,
    (weight, bias): (&Tensor, &Tensor),
    activation: Activation,
    eps: f64,
    running: Running<'_>,
) -> Result<FeatureMap> {
    #[cfg(feature = "cuda")]
    if x.on_gpu() {
        let then = Then { residual: None, activation };
        let channels = arguments(&x.values()?, &[weight, bias], then)?;
        check_eps("batch_norm", eps)?;
        running.check(weight)?;
        Batch::of(x.dims().iter().product::<usize>() / channels.max(1)).check(x.dims())?;
        let by = By::Own { affine: (weight, bias), running: Some(running), eps };
        let then = Then { residual: None, activation };
        return Ok(normalised::<crate::cuda::Gpu>(x, by, then)?.0);
    }
    let then = Then { residual: None, activation };
    let out = batch_norm(&x.tensor()?, weight, bias, then, eps)?;
    running.follow(&out.mean, &out.variance)?;
    Ok(out.y.into())
}

#[cfg(feature = "cuda")]
fn on_gpu(
    x: &Tensor,
    affine: (&Tensor, &Tensor),
    then: Then<'_>,
    eps: f64,
    running: Option<Running<'_>>,
) -> Result<(FeatureMap, Option<crate::gpu::operators::Statistics>)> {
    let residual = then.residual.map(FeatureMap::from);
    let then = Then { residual: residual.as_ref(), activation: then.activation };
    normalised::<crate::cuda::Gpu>(&x.into(), By::Own { affine, running, eps }, then)
}

/// Normalises by given statistics, adds the residual and applies the activation: evaluation. The
/// statistics are data; no gradient flows into them.
///
/// * `x`: `[N, H, W, C]`, `f32`, `f64` or `bf16`.
/// * `weight`, `bias`, `running_mean`, `running_var`: `[C]`, of the same dtype; `f32` for `bf16`.
/// * `eps`: what is added to the variance, from 0; 1e-5 in PyTorch.
/// * Returns `[N, H, W, C]`.
///
/// # Errors
/// If shapes, dtypes or devices do not fit, or `eps` is negative.
pub fn batch_norm_eval(
    x: &Tensor,
    (weight, bias): (&Tensor, &Tensor),
    (running_mean, running_var): (&Tensor, &Tensor),
    then: Then<'_>,
    eps: f64,
) -> Result<Tensor> {
    arguments(x, &[weight, bias, running_mean, running_var], then)?;
    check_eps("batch_norm", eps)?;
    let running = (running_mean, running_var);
    #[cfg(feature = "cuda")]
    if crate::values::on_gpu(x) {
        let by = By::Given { affine: (weight, bias), statistics: running, eps };
        let residual = then.residual.map(FeatureMap::from);
        let then = Then { residual: residual.as_ref(), activation: then.activation };
        return normalised::<crate::cuda::Gpu>(&x.into(), by, then)?.0.tensor();
    }
    let values = |t: &Tensor| t.to_dtype(DType::F64)?.to_vec1::<f64>();
    let (mean, variance) = (values(running.0)?, values(running.1)?);
    let op = BatchNorm::new(mean, &variance, eps, None, then.activation);
    op.apply(&x.contiguous()?, weight, bias, then)
}

pub(super) fn arguments(x: &Tensor, channels: &[&Tensor], then: Then<'_>) -> Result<usize> {
    let pictures: Vec<&Tensor> = std::iter::once(x).chain(then.residual).collect();
    check_with("batch_norm", &pictures, channels)?;
    let (_, _, _, c) = nhwc("batch_norm", x.dims())?;
    for tensor in channels {
        if tensor.dims() != [c] {
            bail!("batch_norm: the input is {:?}, a parameter {:?}", x.shape(), tensor.shape())
        }
    }
    if let Some(residual) = then.residual.filter(|residual| residual.shape() != x.shape()) {
        bail!("batch_norm: the input is {:?}, the residual {:?}", x.shape(), residual.shape())
    }
    Ok(c)
}

pub(super) struct BatchNorm {
    pub(super) mean: Vec<f64>,
    /// `1 / sqrt(variance + eps)`.
    pub(super) scale: Vec<f64>,
    /// The batch that the statistics are of; `None`: they are given.
    pub(super) own: Option<Batch>,
    pub(super) activation: Activation,
}

impl BatchNorm {
    pub(super) fn new(
        mean: Vec<f64>,
        variance: &[f64],
        eps: f64,
        own: Option<Batch>,
        activation: Activation,
    ) -> Self {
        let scale = variance.iter().map(|v| 1.0 / (v + eps).sqrt()).collect();
        Self { mean, scale, own, activation }
    }

    /// Weight and bias become one tensor, `[2, C]`, for an operator takes three at most.
    fn apply(self, x: &Tensor, weight: &Tensor, bias: &Tensor, then: Then<'_>) -> Result<Tensor> {
        let affine = Tensor::stack(&[weight, bias], 0)?;
        match then.residual {
            Some(residual) => x.apply_op3(&affine, &residual.contiguous()?, self),
            None => x.apply_op2(&affine, self),
        }
    }

    /// Factor and shift of each channel.
    pub(super) fn line<T: Float>(&self, affine: &[T]) -> (Vec<T>, Vec<T>) {
        let (weight, bias) = affine.split_at(self.mean.len());
        let factor: Vec<T> =
            weight.iter().zip(&self.scale).map(|(w, s)| *w * T::from_f64(*s)).collect();
        let shift = bias.iter().zip(&self.mean).zip(&factor);
        let shift = shift.map(|((b, mean), f)| *b - T::from_f64(*mean) * *f).collect();
        (factor, shift)
    }
}

impl CustomOp2 for BatchNorm {
    fn name(&self) -> &'static str {
        "batch_norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        affine: &CpuStorage,
        affine_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        use candle_core::backend::BackendStorage as _;
        let (x, affine) = ((x, x_layout), (affine, affine_layout));
        by_stored!("batch_norm", x.0.dtype(), forward(self, x, affine, None))
    }

    fn bwd(
        &self,
        x: &Tensor,
        affine: &Tensor,
        y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let [dx, da, _] =
            by_stored!("batch_norm", x.dtype(), backward(self, x, affine, None, y, dy))?;
        Ok((dx, da))
    }
}

impl CustomOp3 for BatchNorm {
    fn name(&self) -> &'static str {
        "batch_norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        affine: &CpuStorage,
        affine_layout: &Layout,
        residual: &CpuStorage,
        residual_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        use candle_core::backend::BackendStorage as _;
        let (x, affine) = ((x, x_layout), (affine, affine_layout));
        let residual = Some((residual, residual_layout));
        by_stored!("batch_norm", x.0.dtype(), forward(self, x, affine, residual))
    }

    fn bwd(
        &self,
        x: &Tensor,
        affine: &Tensor,
        residual: &Tensor,
        y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let residual = Some(residual);
        let [dx, da, dr] =
            by_stored!("batch_norm", x.dtype(), backward(self, x, affine, residual, y, dy))?;
        Ok((dx, da, dr))
    }
}

type Argument<'a> = (&'a CpuStorage, &'a Layout);

fn forward<T: Stored>(
    op: &BatchNorm,
    x: Argument<'_>,
    affine: Argument<'_>,
    residual: Option<Argument<'_>>,
) -> Result<(CpuStorage, Shape)> {
    let residual = residual.map(|(values, layout)| slice::<T>(values, layout)).transpose()?;
    let (factor, shift) = op.line(slice::<T::Wide>(affine.0, affine.1)?);
    let y = normalise(op.activation, slice::<T>(x.0, x.1)?, residual, &factor, &shift);
    Ok(output(y, x.1.shape().clone()))
}

/// `activation(x factor + shift + residual)`.
pub(super) fn normalise<T: Stored>(
    activation: Activation,
    x: &[T],
    residual: Option<&[T]>,
    factor: &[T::Wide],
    shift: &[T::Wide],
) -> Vec<T> {
    let chunk = chunk(factor.len()).max(1);
    // SAFETY: each chunk is written in full.
    let mut y = unsafe { unwritten(x.len()) };
    y.par_chunks_mut(chunk).enumerate().for_each(|(i, y)| {
        let x = &x[i * chunk..][..y.len()];
        let residual = residual.map(|residual| &residual[i * chunk..][..y.len()]);
        let line = (factor, shift);
        Isa::current().run_plain(
            #[inline(always)]
            || match activation {
                Activation::Identity => sums(y, x, residual, line, |y| y),
                // Written so that a NaN comes through.
                Activation::Relu => {
                    let zero = T::Wide::ZERO;
                    sums(y, x, residual, line, |y| if y < zero { zero } else { y });
                }
                Activation::Mish => sums(y, x, residual, line, |y| Mish.value(y)),
            },
        );
    });
    y
}

/// `y = f(x factor + shift + residual)`.
#[inline(always)]
pub(super) fn sums<T: Stored, Y: Stored<Wide = T::Wide>>(
    y: &mut [Y],
    x: &[T],
    residual: Option<&[T]>,
    (factor, shift): (&[T::Wide], &[T::Wide]),
    f: impl Fn(T::Wide) -> T::Wide,
) {
    let channels = factor.len();
    let rows = y.chunks_exact_mut(channels).zip(x.chunks_exact(channels));
    match residual {
        None => {
            for (y, x) in rows {
                for (((y, x), slope), s) in y.iter_mut().zip(x).zip(factor).zip(shift) {
                    *y = Y::narrow(f(x.widen() * *slope + *s));
                }
            }
        }
        Some(residual) => {
            for ((y, x), r) in rows.zip(residual.chunks_exact(channels)) {
                let line = factor.iter().zip(shift);
                for (((y, x), r), (slope, s)) in y.iter_mut().zip(x).zip(r).zip(line) {
                    *y = Y::narrow(f(x.widen() * *slope + *s + r.widen()));
                }
            }
        }
    }
}

fn backward<T: Stored>(
    op: &BatchNorm,
    x: &Tensor,
    affine: &Tensor,
    residual: Option<&Tensor>,
    y: &Tensor,
    dy: &Tensor,
) -> Result<[Option<Tensor>; 3]> {
    let parameters = affine.dtype();
    let affine = with1::<T::Wide, _>(affine, <[T::Wide]>::to_vec)?;
    let residual_values = residual.map(|r| with1::<T, _>(r, <[T]>::to_vec));
    let residual_values = match op.activation {
        // Only its slope needs to know what was added.
        Activation::Mish => residual_values.transpose()?,
        _ => None,
    };
    let (dx, line, before) = with1::<T, _>(x, |x| {
        with2::<T, _>(y, dy, |y, dy| {
            let input = Gradient {
                op,
                affine: &affine,
                residual: residual_values.as_deref(),
                alone: residual.is_none(),
                y,
                dy,
            };
            let mut before = residual.map(|_| {
                // SAFETY: `sums` writes it in full.
                unsafe { unwritten(x.len()) }
            });
            let (line, slopes) = input.sums(x, before.as_deref_mut())?;
            // SAFETY: `finish` writes it in full.
            let mut dx = unsafe { unwritten(x.len()) };
            input.finish(&mut dx, Some(x), before.as_deref(), &slopes);
            Ok::<_, Error>((dx, line, before))
        })
    })???;
    let tensor = |values| Tensor::from_vec(values, x.shape(), x.device());
    let line = Tensor::from_vec(line, (2, op.mean.len()), x.device())?.to_dtype(parameters)?;
    Ok([Some(tensor(dx)?), Some(line), before.map(tensor).transpose()?])
}
