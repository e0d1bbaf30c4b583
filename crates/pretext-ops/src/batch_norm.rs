//! Batch normalisation (Ioffe and Szegedy, 2015), in two passes over memory each way.
//!
//! # Specification
//!
//! For each channel, `y = (x - mean) / sqrt(variance + eps) * weight + bias`. In training, mean and
//! (biased) variance are the batch's own, over `N`, `H` and `W`, and the gradient knows it; in
//! evaluation they are given and constant.

use candle_core::{CpuStorage, CustomOp3, Error, Layout, Result, Shape, Tensor, bail};
use rayon::iter::{IndexedParallelIterator as _, IntoParallelIterator as _, ParallelIterator as _};
use rayon::slice::{ParallelSlice as _, ParallelSliceMut as _};

use crate::peers::Batch;
use crate::values::{Float, by_dtype, check, nchw, output, slice, with1, with2};

/// What training's batch normalisation gives.
#[derive(Clone, Debug)]
pub struct BatchNormOutput {
    /// The normalised input, `[N, C, H, W]`.
    pub y: Tensor,
    /// The batch's mean, `[C]`; no gradient flows through it.
    pub mean: Tensor,
    /// The batch's unbiased variance, `[C]`, as running statistics want it; no gradient flows
    /// through it.
    pub variance: Tensor,
}

/// Normalises by the batch's own statistics: training.
///
/// * `x`: `[N, C, H, W]`, `f32` or `f64`, with more than one value a channel.
/// * `weight`, `bias`: `[C]`, of the same dtype.
/// * `eps`: what is added to the variance, from 0; 1e-5 in PyTorch.
///
/// # Errors
/// If shapes, dtypes or devices do not fit, `eps` is negative, or a channel has a single value or
/// none.
///
/// ```
/// use candle_core::{Device, Tensor};
///
/// let x = Tensor::new(&[[[[1f64, 3.]]]], &Device::Cpu)?;
/// let (weight, bias) = (Tensor::new(&[2f64], &Device::Cpu)?, Tensor::new(&[1f64], &Device::Cpu)?);
/// let out = pretext_ops::batch_norm(&x, &weight, &bias, 0.0)?;
/// assert_eq!(out.y.flatten_all()?.to_vec1::<f64>()?, [-1., 3.]);
/// assert_eq!(out.mean.to_vec1::<f64>()?, [2.]);
/// assert_eq!(out.variance.to_vec1::<f64>()?, [2.]); // unbiased: ((1-2)^2 + (3-2)^2) / (2 - 1)
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn batch_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<BatchNormOutput> {
    let (n, c, h, w) = arguments(x, &[weight, bias])?;
    let count = n * h * w;
    check_eps("batch_norm", eps)?;
    let x = x.contiguous()?;
    let (mut mean, mut variance) =
        by_dtype!("batch_norm", x.dtype(), statistics_of(&x, (n, c, h * w)))?;
    let batch = Batch::join(count, &mut mean, &mut variance)?;
    batch.check(x.dims())?;
    let unbiased = batch.unbiased();
    let tensor = |values: Vec<f64>| Tensor::from_vec(values, c, x.device())?.to_dtype(x.dtype());
    let running = variance.iter().map(|v| v * unbiased).collect();
    let op = BatchNorm::new(mean.clone(), &variance, eps, Some(batch));
    let y = x.apply_op3(&weight.contiguous()?, &bias.contiguous()?, op)?;
    Ok(BatchNormOutput { y, mean: tensor(mean)?, variance: tensor(running)? })
}

/// Normalises by given statistics: evaluation. They are data; no gradient flows into them.
///
/// * `x`: `[N, C, H, W]`, `f32` or `f64`.
/// * `weight`, `bias`, `running_mean`, `running_var`: `[C]`, of the same dtype.
/// * `eps`: what is added to the variance, from 0; 1e-5 in PyTorch.
/// * Returns `[N, C, H, W]`.
///
/// # Errors
/// If shapes, dtypes or devices do not fit, or `eps` is negative.
pub fn batch_norm_eval(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    running_mean: &Tensor,
    running_var: &Tensor,
    eps: f64,
) -> Result<Tensor> {
    arguments(x, &[weight, bias, running_mean, running_var])?;
    check_eps("batch_norm", eps)?;
    let values = |t: &Tensor| t.to_dtype(candle_core::DType::F64)?.to_vec1::<f64>();
    let op = BatchNorm::new(values(running_mean)?, &values(running_var)?, eps, None);
    x.contiguous()?.apply_op3(&weight.contiguous()?, &bias.contiguous()?, op)
}

pub(crate) fn check_eps(op: &str, eps: f64) -> Result<()> {
    if !(eps >= 0.0 && eps.is_finite()) {
        bail!("{op}: eps is {eps}, it must be a number from 0")
    }
    Ok(())
}

fn arguments(x: &Tensor, channels: &[&Tensor]) -> Result<(usize, usize, usize, usize)> {
    check("batch_norm", &[&[x], channels].concat())?;
    let (n, c, h, w) = nchw("batch_norm", x)?;
    for tensor in channels {
        if tensor.dims() != [c] {
            bail!("batch_norm: the input is {:?}, a parameter {:?}", x.shape(), tensor.shape())
        }
    }
    Ok((n, c, h, w))
}

fn statistics_of<T: Float>(
    x: &Tensor,
    dims: (usize, usize, usize),
) -> Result<(Vec<f64>, Vec<f64>)> {
    with1::<T, _>(x, |x| statistics(x, dims))
}

/// Mean and biased variance of each channel of `[N, C, pixels]`.
fn statistics<T: Float>(x: &[T], (n, c, pixels): (usize, usize, usize)) -> (Vec<f64>, Vec<f64>) {
    let count = (n * pixels) as f64;
    (0..c)
        .into_par_iter()
        .map(|channel| {
            let planes = || (0..n).map(|i| &x[(i * c + channel) * pixels..][..pixels]);
            let mean = planes().map(|plane| sum(plane, |v| v)).sum::<f64>() / count;
            let shift = T::from_f64(mean);
            let squares =
                planes().map(|plane| sum(plane, |v| (v - shift) * (v - shift))).sum::<f64>();
            (mean, squares / count)
        })
        .unzip()
}

/// Lanes of a sum: as many additions as a processor has under way at once.
const LANES: usize = 16;

/// The sum of `f` over a plane, in lanes, so that it runs at the speed of memory and rounds less
/// than one long chain would.
fn sum<T: Float>(plane: &[T], f: impl Fn(T) -> T) -> f64 {
    let mut lanes = [T::zero(); LANES];
    let chunks = plane.chunks_exact(LANES);
    let rest: f64 = chunks.remainder().iter().map(|&v| f(v).to_f64()).sum();
    for chunk in chunks {
        for (lane, &v) in lanes.iter_mut().zip(chunk) {
            *lane += f(v);
        }
    }
    lanes.iter().map(|lane| lane.to_f64()).sum::<f64>() + rest
}

struct BatchNorm {
    mean: Vec<f64>,
    /// `1 / sqrt(variance + eps)`.
    scale: Vec<f64>,
    /// The batch that the statistics are of; `None`: they are given.
    own: Option<Batch>,
}

impl BatchNorm {
    fn new(mean: Vec<f64>, variance: &[f64], eps: f64, own: Option<Batch>) -> Self {
        let scale = variance.iter().map(|v| 1.0 / (v + eps).sqrt()).collect();
        Self { mean, scale, own }
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
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        use candle_core::backend::BackendStorage as _;
        let arguments = [(x, x_layout), (weight, weight_layout), (bias, bias_layout)];
        by_dtype!(self.name(), x.dtype(), forward(self, arguments))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [dx, dw, db] = by_dtype!(self.name(), x.dtype(), backward(self, x, weight, dy))?;
        Ok((Some(dx), Some(dw), Some(db.reshape(bias.shape())?)))
    }
}

fn forward<T: Float>(
    op: &BatchNorm,
    [x, weight, bias]: [(&CpuStorage, &Layout); 3],
) -> Result<(CpuStorage, Shape)> {
    let shape = x.1.shape();
    let (_, c, h, w) = shape.dims4()?;
    let (x, weight, bias) =
        (slice::<T>(x.0, x.1)?, slice::<T>(weight.0, weight.1)?, slice::<T>(bias.0, bias.1)?);
    let mut y = vec![T::zero(); x.len()];
    if !y.is_empty() {
        let planes = y.par_chunks_mut(h * w).zip(x.par_chunks(h * w)).enumerate();
        planes.for_each(|(plane, (y, x))| {
            let channel = plane % c;
            let factor = weight[channel] * T::from_f64(op.scale[channel]);
            let shift = bias[channel] - T::from_f64(op.mean[channel]) * factor;
            for (y, x) in y.iter_mut().zip(x) {
                *y = *x * factor + shift;
            }
        });
    }
    Ok(output(y, shape.clone()))
}

/// With `u = (x - mean) scale`: `db = sum dy`, `dw = sum dy u`, and in training
/// `dx = weight scale (dy - db / count - u dw / count)`.
fn backward<T: Float>(
    op: &BatchNorm,
    x: &Tensor,
    weight: &Tensor,
    dy: &Tensor,
) -> Result<[Tensor; 3]> {
    let (n, c, h, w) = x.dims4()?;
    let pixels = h * w;
    let weights = with1::<T, _>(weight, <[T]>::to_vec)?;
    let (dx, db, dw) = with2::<T, _>(x, dy, |x, dy| {
        let (db, dw): (Vec<f64>, Vec<f64>) = (0..c)
            .into_par_iter()
            .map(|channel| {
                let (mean, mut db, mut dw) = (T::from_f64(op.mean[channel]), 0.0, 0.0);
                for i in 0..n {
                    let at = (i * c + channel) * pixels;
                    let (x, dy) = (&x[at..at + pixels], &dy[at..at + pixels]);
                    db += sum(dy, |g| g);
                    dw += dot_centred(x, dy, mean);
                }
                (db, dw * op.scale[channel])
            })
            .unzip();
        // The parameters' gradients are this part's; the statistics' are the whole batch's.
        let (sums, count) = match &op.own {
            Some(batch) => (batch.sum(&[&db[..], &dw].concat())?, batch.count),
            None => (vec![0.0; 2 * c], 1.0),
        };
        let mut dx = vec![T::zero(); x.len()];
        if !dx.is_empty() {
            let planes =
                dx.par_chunks_mut(pixels).zip(x.par_chunks(pixels)).zip(dy.par_chunks(pixels));
            planes.enumerate().for_each(|(plane, ((dx, x), dy))| {
                let channel = plane % c;
                let scale = op.scale[channel];
                let factor = weights[channel] * T::from_f64(scale);
                if op.own.is_none() {
                    for (dx, dy) in dx.iter_mut().zip(dy) {
                        *dx = *dy * factor;
                    }
                    return;
                }
                // The statistics' part of the gradient is affine in x.
                let slope = T::from_f64(-sums[c + channel] / count * scale);
                let offset = T::from_f64(-sums[channel] / count);
                let mean = T::from_f64(op.mean[channel]);
                for ((dx, dy), x) in dx.iter_mut().zip(dy).zip(x) {
                    *dx = factor * (*dy + slope * (*x - mean) + offset);
                }
            });
        }
        Ok::<_, Error>((dx, db, dw))
    })??;
    let channels = |values: Vec<f64>| Tensor::from_vec(values, c, x.device())?.to_dtype(x.dtype());
    Ok([Tensor::from_vec(dx, x.shape(), x.device())?, channels(dw)?, channels(db)?])
}

/// `sum of dy (x - mean)` over a plane, in lanes.
fn dot_centred<T: Float>(x: &[T], dy: &[T], mean: T) -> f64 {
    let mut lanes = [T::zero(); LANES];
    let (xs, dys) = (x.chunks_exact(LANES), dy.chunks_exact(LANES));
    let rest = xs.remainder().iter().zip(dys.remainder());
    let rest: f64 = rest.map(|(&x, &dy)| ((x - mean) * dy).to_f64()).sum();
    for (x, dy) in xs.zip(dys) {
        for ((lane, &x), &dy) in lanes.iter_mut().zip(x).zip(dy) {
            *lane += (x - mean) * dy;
        }
    }
    lanes.iter().map(|lane| lane.to_f64()).sum::<f64>() + rest
}
