//! Batch normalisation of channels-last pictures with what follows it: a residual that is added,
//! an activation.
//!
//! [`crate::batch_norm()`] is the definition of the normalisation. Here it takes one pass over memory
//! for the statistics, one for the result, and two for the gradients, the activation and the sum
//! with the residual included.

use candle_core::{
    CpuStorage, CustomOp2, CustomOp3, DType, Layout, Result, Shape, Tensor, WithDType as _, bail,
};
use rayon::iter::{IndexedParallelIterator as _, ParallelIterator as _};
use rayon::slice::{ParallelSlice as _, ParallelSliceMut as _};

use super::{Activation, nhwc};
use crate::activation::{Function as _, Mish};
use crate::batch_norm::{BatchNormOutput, check_eps};
use crate::buffer::unwritten;
use crate::isa::Isa;
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
    check_eps(eps)?;
    let count = x.elem_count() / channels.max(1);
    if count < 2 {
        bail!("batch_norm: {:?} has {count} values a channel; training needs at least 2", x.shape())
    }
    let x = x.contiguous()?;
    let (mean, variance) = by_stored!("batch_norm", x.dtype(), statistics_of(&x, channels))?;
    let unbiased = count as f64 / (count - 1) as f64;
    let tensor = |values: Vec<f64>| {
        Tensor::from_vec(values, channels, x.device())?.to_dtype(parameters_of(&x))
    };
    let running = variance.iter().map(|v| v * unbiased).collect();
    let op = BatchNorm::new(mean.clone(), &variance, eps, true, then.activation);
    let y = op.apply(&x, weight, bias, then)?;
    Ok(BatchNormOutput { y, mean: tensor(mean)?, variance: tensor(running)? })
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
    check_eps(eps)?;
    let values = |t: &Tensor| t.to_dtype(DType::F64)?.to_vec1::<f64>();
    let (mean, variance) = (values(running_mean)?, values(running_var)?);
    let op = BatchNorm::new(mean, &variance, eps, false, then.activation);
    op.apply(&x.contiguous()?, weight, bias, then)
}

pub(super) fn arguments(x: &Tensor, channels: &[&Tensor], then: Then<'_>) -> Result<usize> {
    let pictures: Vec<&Tensor> = std::iter::once(x).chain(then.residual).collect();
    check_with("batch_norm", &pictures, channels)?;
    let (_, _, _, c) = nhwc("batch_norm", x)?;
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

/// Numbers that a thread takes at a time: they stay in its cache.
const CHUNK: usize = 1 << 13;

/// Pixels of a chunk at least, so that sums over chunks stay few.
const FEWEST_PIXELS: usize = 32;

/// The numbers of a chunk of whole pixels.
fn chunk(channels: usize) -> usize {
    (CHUNK / channels.max(1)).max(FEWEST_PIXELS) * channels
}

/// A number for each channel.
type Columns<T> = Vec<<T as Stored>::Wide>;

fn statistics_of<T: Stored>(x: &Tensor, channels: usize) -> Result<(Vec<f64>, Vec<f64>)> {
    with1::<T, _>(x, |x| statistics(x, channels))
}

/// Mean and biased variance of each channel of `[.., C]`.
///
/// Each chunk's mean and squares about it are taken while it lies in cache, and joined in `f64`
/// (Chan et al., "Updating Formulae and a Pairwise Algorithm for Computing Sample Variances",
/// 1979): exact as two passes, read from memory once.
pub(super) fn statistics<T: Stored>(x: &[T], channels: usize) -> (Vec<f64>, Vec<f64>) {
    let parts: Vec<(Columns<T>, Columns<T>, usize)> = x
        .par_chunks(chunk(channels))
        .map(|x| {
            let count = x.len() / channels;
            let mut mean = vec![T::Wide::ZERO; channels];
            let mut squares = vec![T::Wide::ZERO; channels];
            let share = T::Wide::from_f64(1.0 / count as f64);
            Isa::current().run_plain(
                #[inline(always)]
                || {
                    add_columns(&mut mean, x, |_, x| x);
                    mean.iter_mut().for_each(|mean| *mean *= share);
                    let mean = &mean;
                    add_columns(&mut squares, x, |c, x| (x - mean[c]) * (x - mean[c]));
                },
            );
            (mean, squares, count)
        })
        .collect();
    let (mut mean, mut squares) = (vec![0.0; channels], vec![0.0; channels]);
    let mut total = 0.0;
    for (part_mean, part_squares, count) in parts {
        let count = count as f64;
        let joint = total + count;
        for (c, (mean, squares)) in mean.iter_mut().zip(&mut squares).enumerate() {
            let away = part_mean[c].to_f64() - *mean;
            *mean += away * count / joint;
            *squares += part_squares[c].to_f64() + away * away * total * count / joint;
        }
        total = joint;
    }
    (mean, squares.into_iter().map(|squares| squares / total).collect())
}

/// `sums[c] += f(c, x)` for all numbers of channel `c`.
#[inline(always)]
fn add_columns<T: Stored>(sums: &mut [T::Wide], x: &[T], f: impl Fn(usize, T::Wide) -> T::Wide) {
    for row in x.chunks_exact(sums.len()) {
        for (c, (sum, x)) in sums.iter_mut().zip(row).enumerate() {
            *sum += f(c, x.widen());
        }
    }
}

/// The sums over all but the last dimension, in the dtype of parameters.
pub(crate) fn column_sums(x: &Tensor) -> Result<Tensor> {
    by_stored!("column_sums", x.dtype(), column_sums_of(x))
}

fn column_sums_of<T: Stored>(x: &Tensor) -> Result<Tensor> {
    let channels = x.dims().last().copied().unwrap_or(1);
    let sums = with1::<T, _>(x, |x| {
        let parts: Vec<Vec<T::Wide>> = x
            .par_chunks(chunk(channels).max(1))
            .map(|x| {
                let mut sums = vec![T::Wide::ZERO; channels];
                Isa::current().run_plain(
                    #[inline(always)]
                    || add_columns(&mut sums, x, |_, x| x),
                );
                sums
            })
            .collect();
        let mut sums = vec![0.0_f64; channels];
        for part in parts {
            sums.iter_mut().zip(part).for_each(|(sum, part)| *sum += part.to_f64());
        }
        sums
    })?;
    Tensor::from_vec(sums, channels, x.device())?.to_dtype(parameters_of(x))
}

pub(super) struct BatchNorm {
    mean: Vec<f64>,
    /// `1 / sqrt(variance + eps)`.
    scale: Vec<f64>,
    /// Whether the statistics are those of the batch.
    own: bool,
    activation: Activation,
}

impl BatchNorm {
    pub(super) fn new(
        mean: Vec<f64>,
        variance: &[f64],
        eps: f64,
        own: bool,
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
fn sums<T: Stored, Y: Stored<Wide = T::Wide>>(
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
            let (line, slopes) = input.sums(x, before.as_deref_mut());
            // SAFETY: `finish` writes it in full.
            let mut dx = unsafe { unwritten(x.len()) };
            input.finish(&mut dx, Some(x), before.as_deref(), &slopes);
            (dx, line, before)
        })
    })??;
    let tensor = |values| Tensor::from_vec(values, x.shape(), x.device());
    let line = Tensor::from_vec(line, (2, op.mean.len()), x.device())?.to_dtype(parameters)?;
    Ok([Some(tensor(dx)?), Some(line), before.map(tensor).transpose()?])
}

/// The gradients of a normalisation, from its output's.
///
/// With `g` the gradient before the activation and `u = (x - mean) scale`: `db = sum g`,
/// `dw = sum g u`, the residual's gradient is `g`, and in training
/// `dx = weight scale (g - db / count - u dw / count)`, which is `g factor + x slope + offset`.
pub(super) struct Gradient<'a, T: Stored> {
    pub(super) op: &'a BatchNorm,
    /// Weight and bias.
    pub(super) affine: &'a [T::Wide],
    /// What was added before a Mish.
    pub(super) residual: Option<&'a [T]>,
    /// Whether nothing was added.
    pub(super) alone: bool,
    pub(super) y: &'a [T],
    pub(super) dy: &'a [T],
}

/// `factor`, `slope` and `offset` of each channel.
pub(super) type Slopes<T> = [Vec<T>; 3];

impl<T: Stored> Gradient<'_, T> {
    /// `dw` and `db`, one after the other, and what `dx` needs of them. `before` takes `g`.
    pub(super) fn sums(&self, x: &[T], before: Option<&mut [T]>) -> (Vec<f64>, Slopes<T::Wide>) {
        let channels = self.op.mean.len();
        let size = chunk(channels).max(1);
        let mean: Vec<T::Wide> = self.op.mean.iter().map(|m| T::Wide::from_f64(*m)).collect();
        let line = self.op.line(self.affine);
        let part = |g: &mut Vec<T::Wide>, i: usize, x: &[T], before: Option<&mut [T]>| {
            let zeros = || vec![T::Wide::ZERO; channels];
            let (mut db, mut dw) = (zeros(), zeros());
            g.resize(x.len(), T::Wide::ZERO);
            Isa::current().run_plain(
                #[inline(always)]
                || {
                    self.before(i * size, x, g, &line);
                    for (x, g) in x.chunks_exact(channels).zip(g.chunks_exact(channels)) {
                        let sums = db.iter_mut().zip(&mut dw).zip(&mean);
                        for (((db, dw), mean), (x, g)) in sums.zip(x.iter().zip(g)) {
                            *db += *g;
                            *dw += *g * (x.widen() - *mean);
                        }
                    }
                    if let Some(before) = before {
                        before.iter_mut().zip(&*g).for_each(|(to, g)| *to = T::narrow(*g));
                    }
                },
            );
            (db, dw)
        };
        let chunks = x.par_chunks(size).enumerate();
        let parts: Vec<(Columns<T>, Columns<T>)> = match before {
            Some(before) => chunks
                .zip(before.par_chunks_mut(size))
                .map_init(Vec::new, |g, ((i, x), before)| part(g, i, x, Some(before)))
                .collect(),
            None => chunks.map_init(Vec::new, |g, (i, x)| part(g, i, x, None)).collect(),
        };
        let (mut dw, mut db) = (vec![0.0; channels], vec![0.0; channels]);
        for (part_b, part_w) in parts {
            db.iter_mut().zip(part_b).for_each(|(db, part)| *db += part.to_f64());
            dw.iter_mut().zip(part_w).for_each(|(dw, part)| *dw += part.to_f64());
        }
        dw.iter_mut().zip(&self.op.scale).for_each(|(dw, scale)| *dw *= scale);
        let slopes = self.slopes(line.0, &dw, &db, (x.len() / channels.max(1)).max(1) as f64);
        dw.append(&mut db);
        (dw, slopes)
    }

    fn slopes(&self, factor: Vec<T::Wide>, dw: &[f64], db: &[f64], count: f64) -> Slopes<T::Wide> {
        if !self.op.own {
            let zeros = vec![T::Wide::ZERO; factor.len()];
            return [factor, zeros.clone(), zeros];
        }
        let each = |c: usize| {
            let factor = factor[c].to_f64();
            let slope = -factor * self.op.scale[c] * dw[c] / count;
            let offset = -factor * db[c] / count - slope * self.op.mean[c];
            (T::Wide::from_f64(slope), T::Wide::from_f64(offset))
        };
        let (slope, offset) = (0..factor.len()).map(each).unzip();
        [factor, slope, offset]
    }

    /// `g` of the numbers from `first` on.
    #[inline(always)]
    fn before(
        &self,
        first: usize,
        x: &[T],
        g: &mut [T::Wide],
        (factor, shift): &(Vec<T::Wide>, Vec<T::Wide>),
    ) {
        let (y, dy) = (&self.y[first..][..g.len()], &self.dy[first..][..g.len()]);
        let zero = T::Wide::ZERO;
        match self.op.activation {
            Activation::Identity => g.iter_mut().zip(dy).for_each(|(g, dy)| *g = dy.widen()),
            // Taken from `x`, which is read anyway.
            Activation::Relu if self.alone => {
                let channels = factor.len();
                let rows = g.chunks_exact_mut(channels).zip(x.chunks_exact(channels));
                for ((g, x), dy) in rows.zip(dy.chunks_exact(channels)) {
                    let line = factor.iter().zip(shift);
                    for (((g, x), dy), (f, s)) in g.iter_mut().zip(x).zip(dy).zip(line) {
                        *g = if x.widen() * *f + *s > zero { dy.widen() } else { zero };
                    }
                }
            }
            Activation::Relu => {
                for ((g, y), dy) in g.iter_mut().zip(y).zip(dy) {
                    *g = if y.widen() > zero { dy.widen() } else { zero };
                }
            }
            Activation::Mish => {
                let residual = self.residual.map(|residual| &residual[first..][..g.len()]);
                sums(g, x, residual, (factor, shift), |g| g);
                for (g, dy) in g.iter_mut().zip(dy) {
                    *g = Mish.slope(*g) * dy.widen();
                }
            }
        }
    }

    /// `dx`; without `x`, `dx` holds it. With `before`, it holds `g`.
    pub(super) fn finish(
        &self,
        dx: &mut [T],
        x: Option<&[T]>,
        before: Option<&[T]>,
        slopes: &Slopes<T::Wide>,
    ) {
        let size = chunk(slopes[0].len()).max(1);
        let line = self.op.line(self.affine);
        let identity = self.op.activation == Activation::Identity;
        let known = before.or(identity.then_some(self.dy));
        dx.par_chunks_mut(size).enumerate().for_each_init(Vec::new, |buffer, (i, dx)| {
            let first = i * size;
            let x = x.map(|x| &x[first..][..dx.len()]);
            Isa::current().run_plain(
                #[inline(always)]
                || match known {
                    Some(g) => input_gradient(dx, x, &g[first..][..dx.len()], slopes),
                    None => {
                        buffer.resize(dx.len(), T::Wide::ZERO);
                        self.before(first, x.unwrap_or(dx), buffer, &line);
                        input_gradient(dx, x, buffer, slopes);
                    }
                },
            );
        });
    }
}

/// `dx = g factor + x slope + offset`; without `x`, `dx` holds it.
#[inline(always)]
fn input_gradient<T: Stored, G: Stored<Wide = T::Wide>>(
    dx: &mut [T],
    x: Option<&[T]>,
    g: &[G],
    [factor, slope, offset]: &Slopes<T::Wide>,
) {
    let channels = factor.len();
    let lines = || factor.iter().zip(slope).zip(offset);
    let rows = dx.chunks_exact_mut(channels).zip(g.chunks_exact(channels));
    match x {
        Some(x) => {
            for ((dx, g), x) in rows.zip(x.chunks_exact(channels)) {
                for (((dx, g), x), ((f, s), o)) in dx.iter_mut().zip(g).zip(x).zip(lines()) {
                    *dx = T::narrow(g.widen() * *f + x.widen() * *s + *o);
                }
            }
        }
        None => {
            for (dx, g) in rows {
                for ((dx, g), ((f, s), o)) in dx.iter_mut().zip(g).zip(lines()) {
                    *dx = T::narrow(g.widen() * *f + dx.widen() * *s + *o);
                }
            }
        }
    }
}

/// The gradient before a ReLU, from its output and the gradient behind it.
pub(super) fn before_relu<T: Stored>(y: &Tensor, dy: &Tensor) -> Result<Tensor> {
    let dx = with2::<T, _>(y, dy, |y, dy| {
        // SAFETY: each chunk is written in full.
        let mut dx = unsafe { unwritten::<T>(dy.len()) };
        let chunks = dx.par_chunks_mut(CHUNK).zip(y.par_chunks(CHUNK)).zip(dy.par_chunks(CHUNK));
        chunks.for_each(|((dx, y), dy)| {
            Isa::current().run_plain(
                #[inline(always)]
                || {
                    for ((dx, y), dy) in dx.iter_mut().zip(y).zip(dy) {
                        *dx = if y.widen() > T::Wide::ZERO { *dy } else { T::zero() };
                    }
                },
            );
        });
        dx
    })?;
    Tensor::from_vec(dx, dy.shape(), dy.device())
}
