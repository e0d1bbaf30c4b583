//! Feature maps side by side, with an activation: where skip connections join.

use std::sync::{Arc, OnceLock};

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};
use rayon::iter::{IndexedParallelIterator as _, ParallelIterator as _};
use rayon::slice::{ParallelSlice as _, ParallelSliceMut as _};

use super::feature_map::{FeatureMap, Gradient, Values, token};
use super::{Activation, nhwc};
use crate::buffer::unwritten;
use crate::isa::Isa;
use crate::stored::Stored;
use crate::values::{Float as _, by_stored, check_pictures, with2};

/// The channels of `a` and then those of `b`, activated: `[N, H, W, A]` and `[N, H, W, B]` to
/// `[N, H, W, A + B]`.
///
/// # Errors
/// If shapes, dtypes or devices do not fit.
pub fn concat(a: &FeatureMap, b: &FeatureMap, activation: Activation) -> Result<FeatureMap> {
    check_pictures("concat", &[&a.values()?, &b.values()?])?;
    let (sizes, others) = (nhwc("concat", a.dims())?, nhwc("concat", b.dims())?);
    if (sizes.0, sizes.1, sizes.2) != (others.0, others.1, others.2) {
        bail!("concat: the sizes {sizes:?} and {others:?} differ in more than channels")
    }
    #[cfg(feature = "cuda")]
    if a.on_gpu() {
        return crate::gpu::operators::concat::<crate::cuda::Gpu>(a, b, activation);
    }
    let pass = Arc::new(Pass {
        a: a.contiguous()?,
        b: b.contiguous()?,
        channels: (sizes.3, others.3),
        relu: activation == Activation::Relu,
        y: OnceLock::new(),
        gradient: Gradient::default(),
    });
    let token = pass.a.argument()?.apply_op2(&pass.b.argument()?, Concat(pass.clone()))?;
    let Some(y) = pass.y.get() else { bail!("concat: there is no result") };
    let y = FeatureMap::beside(y.clone(), token, pass.gradient.clone());
    match activation {
        Activation::Mish => Ok(activation.apply(&y.tensor()?)?.into()),
        Activation::Identity | Activation::Relu => Ok(y),
    }
}

struct Pass {
    a: FeatureMap,
    b: FeatureMap,
    channels: (usize, usize),
    relu: bool,
    y: OnceLock<Values>,
    gradient: Gradient,
}

/// Pixels a thread takes at a time.
const PIXELS: usize = 256;

struct Concat(Arc<Pass>);

impl CustomOp2 for Concat {
    fn name(&self) -> &'static str {
        "concat"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        by_stored!("concat", self.0.a.dtype(), forward(&self.0))?;
        Ok(token())
    }

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        _: &Tensor,
        _: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (da, db) = by_stored!("concat", self.0.a.dtype(), backward(&self.0))?;
        let da = a.track_op().then(|| self.0.a.hand_over(da));
        let db = b.track_op().then(|| self.0.b.hand_over(db));
        self.0.y.get().inspect(|y| y.used_up());
        Ok((da.transpose()?, db.transpose()?))
    }
}

fn forward<T: Stored>(pass: &Pass) -> Result<()> {
    let (a, b) = (&pass.a.values()?, &pass.b.values()?);
    let (n, h, w, _) = a.dims4()?;
    let (first, second) = pass.channels;
    let both = (first + second).max(1);
    let y = with2::<T, _>(a, b, |a, b| {
        // SAFETY: each row is written in full.
        let mut y = unsafe { unwritten::<T>(n * h * w * (first + second)) };
        y.par_chunks_mut(PIXELS * both).enumerate().for_each(|(i, y)| {
            Isa::current().run_plain(
                #[inline(always)]
                || {
                    for (row, y) in (i * PIXELS..).zip(y.chunks_exact_mut(both)) {
                        y[..first].copy_from_slice(&a[row * first..][..first]);
                        y[first..].copy_from_slice(&b[row * second..][..second]);
                        if pass.relu {
                            // Written so that a NaN comes through.
                            for y in y {
                                *y = if y.widen() < T::Wide::ZERO { T::zero() } else { *y };
                            }
                        }
                    }
                },
            );
        });
        y
    })?;
    let y = Tensor::from_vec(y, (n, h, w, first + second), a.device())?;
    if pass.y.set(y.into()).is_err() {
        bail!("concat: a node was run twice")
    }
    Ok(())
}

fn backward<T: Stored>(pass: &Pass) -> Result<(Tensor, Tensor)> {
    let dy = pass.gradient.take()?;
    let Some(y) = pass.y.get() else { bail!("concat: there is no result") };
    let y = y.get()?;
    let (first, second) = pass.channels;
    let both = (first + second).max(1);
    let (da, db) = with2::<T, _>(&y, &dy, |y, dy| {
        let rows = y.len() / both;
        // SAFETY: each row is written in full.
        let mut da = unsafe { unwritten::<T>(rows * first) };
        // SAFETY: as above.
        let mut db = unsafe { unwritten::<T>(rows * second) };
        let outputs = da
            .par_chunks_mut((PIXELS * first).max(1))
            .zip(db.par_chunks_mut((PIXELS * second).max(1)));
        let inputs = y.par_chunks(PIXELS * both).zip(dy.par_chunks(PIXELS * both));
        outputs.zip(inputs).for_each(|((da, db), (y, dy))| {
            Isa::current().run_plain(
                #[inline(always)]
                || {
                    let part = |to: &mut [T], y: &[T], dy: &[T]| {
                        for ((to, y), dy) in to.iter_mut().zip(y).zip(dy) {
                            let passes = !pass.relu || y.widen() > T::Wide::ZERO;
                            *to = if passes { *dy } else { T::zero() };
                        }
                    };
                    let rows = y.chunks_exact(both).zip(dy.chunks_exact(both)).enumerate();
                    for (row, (y, dy)) in rows {
                        part(&mut da[row * first..][..first], &y[..first], &dy[..first]);
                        part(&mut db[row * second..][..second], &y[first..], &dy[first..]);
                    }
                },
            );
        });
        (da, db)
    })?;
    let (n, h, w, _) = y.dims4()?;
    let tensor = |values, channels| Tensor::from_vec(values, (n, h, w, channels), y.device());
    Ok((tensor(da, first)?, tensor(db, second)?))
}
