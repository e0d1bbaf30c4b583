//! Layer normalisation (Ba, Kiros and Hinton, 2016).
//!
//! # Specification
//!
//! For each row, `y = (x - mean) / sqrt(variance + eps) * weight + bias` with the row's own mean and
//! (biased) variance, which the gradient knows.

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};
use rayon::iter::{IndexedParallelIterator as _, ParallelIterator as _};
use rayon::slice::{ParallelSlice as _, ParallelSliceMut as _};

use crate::batch_norm::check_eps;
use crate::values::{Float, by_dtype, check_with, if_on_gpu, output, slice, with1, with2};

/// Normalises the numbers of the last dimension, as `torch.nn.functional.layer_norm`.
///
/// * `x`: `[.., C]`, `f32` or `f64`; on a GPU `f32`, `bf16` or `f16`.
/// * `weight`, `bias`: `[C]`, of the same dtype; `f32` for `bf16` and `f16`.
/// * `eps`: what is added to the variance, from 0; 1e-5 in PyTorch.
///
/// # Errors
/// If shapes, dtypes or devices do not fit, `C` is 0, or `eps` is negative.
///
/// ```
/// use candle_core::{Device, Tensor};
///
/// let x = Tensor::new(&[[1f64, 3.]], &Device::Cpu)?;
/// let (weight, bias) = (Tensor::new(&[2f64, 2.], &Device::Cpu)?, Tensor::new(&[1f64, 0.], &Device::Cpu)?);
/// let y = pretext_ops::layer_norm(&x, &weight, &bias, 0.0)?;
/// assert_eq!(y.to_vec2::<f64>()?, [[-1., 2.]]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    check_with("layer_norm", &[x], &[weight, bias])?;
    check_eps("layer_norm", eps)?;
    let Some(&channels) = x.dims().last().filter(|&&channels| channels > 0) else {
        bail!("layer_norm: the input is {:?}, it must be [.., C] with a C of 1 or more", x.shape())
    };
    for parameter in [weight, bias] {
        if parameter.dims() != [channels] {
            bail!("layer_norm: the input is {:?}, a parameter {:?}", x.shape(), parameter.shape())
        }
    }
    if_on_gpu!(x => layer_norm(x, weight, bias, eps));
    x.contiguous()?.apply_op3(&weight.contiguous()?, &bias.contiguous()?, LayerNorm { eps })
}

struct LayerNorm {
    eps: f64,
}

/// Rows that a thread takes at a time, whose gradients of the parameters are one part of their sum.
const ROWS: usize = 32;

impl LayerNorm {
    /// Mean and 1 / deviation of a row.
    fn line<T: Float>(&self, row: &[T]) -> (T, T) {
        let count = row.len() as f64;
        let mean = row.iter().map(|v| v.to_f64()).sum::<f64>() / count;
        let squares = row.iter().map(|v| (v.to_f64() - mean) * (v.to_f64() - mean));
        let variance = squares.sum::<f64>() / count;
        (T::from_f64(mean), T::from_f64(1.0 / (variance + self.eps).sqrt()))
    }
}

impl CustomOp3 for LayerNorm {
    fn name(&self) -> &'static str {
        "layer_norm"
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
        _bias: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [dx, dw, db] = by_dtype!(self.name(), x.dtype(), backward(self, x, weight, dy))?;
        Ok((Some(dx), Some(dw), Some(db)))
    }
}

fn forward<T: Float>(
    op: &LayerNorm,
    [x, weight, bias]: [(&CpuStorage, &Layout); 3],
) -> Result<(CpuStorage, Shape)> {
    let shape = x.1.shape().clone();
    let (x, weight, bias) =
        (slice::<T>(x.0, x.1)?, slice::<T>(weight.0, weight.1)?, slice::<T>(bias.0, bias.1)?);
    let mut y = vec![T::zero(); x.len()];
    let size = ROWS * weight.len();
    y.par_chunks_mut(size).zip(x.par_chunks(size)).for_each(|(y, x)| {
        for (y, x) in y.chunks_exact_mut(weight.len()).zip(x.chunks_exact(weight.len())) {
            let (mean, scale) = op.line(x);
            for (((y, x), weight), bias) in y.iter_mut().zip(x).zip(weight).zip(bias) {
                *y = (*x - mean) * scale * *weight + *bias;
            }
        }
    });
    Ok(output(y, shape))
}

/// With `u = (x - mean) scale` and `g = dy weight`: `db = sum dy` and `dw = sum dy u` over rows, and
/// `dx = scale (g - mean of g - u mean of g u)` in each.
fn backward<T: Float>(
    op: &LayerNorm,
    x: &Tensor,
    weight: &Tensor,
    dy: &Tensor,
) -> Result<[Tensor; 3]> {
    let weights = with1::<T, _>(weight, <[T]>::to_vec)?;
    let channels = weights.len();
    let (dx, dw, db) = with2::<T, _>(x, dy, |x, dy| {
        let mut dx = vec![T::zero(); x.len()];
        let size = ROWS * channels;
        let parts: Vec<[Vec<f64>; 2]> = dx
            .par_chunks_mut(size)
            .zip(x.par_chunks(size))
            .zip(dy.par_chunks(size))
            .map(|((dx, x), dy)| {
                let [mut dw, mut db] = [vec![0.0; channels], vec![0.0; channels]];
                let rows = dx.chunks_exact_mut(channels).zip(x.chunks_exact(channels));
                for ((dx, x), dy) in rows.zip(dy.chunks_exact(channels)) {
                    let (mean, scale) = op.line(x);
                    let (mut sum, mut dot) = (0.0, 0.0);
                    for (c, (x, dy)) in x.iter().zip(dy).enumerate() {
                        let (normed, g) = ((*x - mean) * scale, *dy * weights[c]);
                        sum += g.to_f64();
                        dot += (g * normed).to_f64();
                        dw[c] += (*dy * normed).to_f64();
                        db[c] += dy.to_f64();
                    }
                    let offset = T::from_f64(sum / channels as f64);
                    let slope = T::from_f64(dot / channels as f64);
                    for (c, (dx, (x, dy))) in dx.iter_mut().zip(x.iter().zip(dy)).enumerate() {
                        let normed = (*x - mean) * scale;
                        *dx = scale * (*dy * weights[c] - offset - normed * slope);
                    }
                }
                [dw, db]
            })
            .collect();
        // In their order, whoever was ready first.
        let [mut dw, mut db] = [vec![0.0; channels], vec![0.0; channels]];
        for [more_w, more_b] in &parts {
            dw.iter_mut().zip(more_w).for_each(|(sum, more)| *sum += more);
            db.iter_mut().zip(more_b).for_each(|(sum, more)| *sum += more);
        }
        (dx, dw, db)
    })?;
    let of_channels =
        |values: Vec<f64>| Tensor::from_vec(values, channels, x.device())?.to_dtype(x.dtype());
    Ok([Tensor::from_vec(dx, x.shape(), x.device())?, of_channels(dw)?, of_channels(db)?])
}
