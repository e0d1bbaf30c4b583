//! The gradients of a normalisation and of what follows it.

use candle_core::{Result, Tensor, WithDType as _};
use rayon::iter::{IndexedParallelIterator as _, ParallelIterator as _};
use rayon::slice::{ParallelSlice as _, ParallelSliceMut as _};

use super::Activation;
use super::norm::{BatchNorm, sums};
use super::statistics::{CHUNK, Columns, chunk};
use crate::activation::{Function as _, Mish};
use crate::buffer::unwritten;
use crate::isa::Isa;
use crate::stored::Stored;
use crate::values::{Float as _, with2};

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
    ///
    /// # Errors
    /// If the sums are over several processes and another one cannot be reached.
    pub(super) fn sums(
        &self,
        x: &[T],
        before: Option<&mut [T]>,
    ) -> Result<(Vec<f64>, Slopes<T::Wide>)> {
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
        dw.append(&mut db);
        let slopes = self.slopes(line.0, &dw)?;
        Ok((dw, slopes))
    }

    fn slopes(&self, factor: Vec<T::Wide>, sums: &[f64]) -> Result<Slopes<T::Wide>> {
        let Some(batch) = &self.op.own else {
            let zeros = vec![T::Wide::ZERO; factor.len()];
            return Ok([factor, zeros.clone(), zeros]);
        };
        // The parameters' gradients are this part's; the statistics' are the whole batch's.
        let sums = batch.sum(sums)?;
        let ((dw, db), count) = (sums.split_at(factor.len()), batch.count.max(1.0));
        let each = |c: usize| {
            let factor = factor[c].to_f64();
            let slope = -factor * self.op.scale[c] * dw[c] / count;
            let offset = -factor * db[c] / count - slope * self.op.mean[c];
            (T::Wide::from_f64(slope), T::Wide::from_f64(offset))
        };
        let (slope, offset) = (0..factor.len()).map(each).unzip();
        Ok([factor, slope, offset])
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
