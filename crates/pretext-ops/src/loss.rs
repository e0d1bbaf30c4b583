//! Losses: one number a batch.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, DType, Layout, Result, Shape, Tensor, bail};
use rayon::iter::{IndexedParallelIterator as _, ParallelIterator as _};
use rayon::slice::{ParallelSlice as _, ParallelSliceMut as _};

use crate::values::{Float, by_dtype, check, if_on_gpu, output, slice, with1, with2};

/// Cross-entropy with label smoothing (Szegedy et al., 2016), the mean over the batch, as
/// `torch.nn.CrossEntropyLoss(label_smoothing=smoothing)`.
///
/// * `logits`: `[N, K]`, `f32` or `f64`.
/// * `classes`: `[N]`, `u32`, each below `K`; data, no gradient flows into them. Where they lie on a GPU
///   beside the logits nobody looks at them, for that takes a wait: there a class of `K` or more makes
///   the loss NaN.
/// * `smoothing`: the share of the target spread evenly over all classes, `0..=1`.
/// * Returns a scalar.
///
/// # Errors
/// If shapes or dtypes do not fit, the batch is empty, `smoothing` is out of range, or a class is
/// `K` or more.
///
/// ```
/// use candle_core::{Device, Tensor};
///
/// let logits = Tensor::new(&[[0f64, 3f64.ln()]], &Device::Cpu)?; // probabilities 1/4 and 3/4
/// let classes = Tensor::new(&[1u32], &Device::Cpu)?;
/// let loss = pretext_ops::cross_entropy(&logits, &classes, 0.0)?.to_scalar::<f64>()?;
/// assert!((loss - (4.0f64 / 3.0).ln()).abs() < 1e-12);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn cross_entropy(logits: &Tensor, classes: &Tensor, smoothing: f64) -> Result<Tensor> {
    check("cross_entropy", &[logits])?;
    let &[n, k] = logits.dims() else {
        bail!("cross_entropy: the logits are {:?}, they must be [N, K]", logits.shape())
    };
    if classes.dims() != [n] || classes.dtype() != DType::U32 {
        bail!(
            "cross_entropy: the classes are {:?} {:?}, they must be u32 [{n}]",
            classes.dtype(),
            classes.shape()
        )
    }
    if n == 0 {
        bail!("cross_entropy: the batch is empty, a mean over it is undefined")
    }
    if !(0.0..=1.0).contains(&smoothing) {
        bail!("cross_entropy: the smoothing is {smoothing}, it must be 0 to 1")
    }
    #[cfg(feature = "cuda")]
    if crate::values::on_gpu(logits) && crate::values::on_gpu(classes) {
        if !logits.device().same_device(classes.device()) {
            let devices = (logits.device(), classes.device());
            bail!("cross_entropy: logits and classes lie on {:?} and {:?}", devices.0, devices.1)
        }
        return crate::gpu::operators::cross_entropy::<crate::cuda::Gpu>(
            logits, classes, smoothing,
        );
    }
    let of_cpu = classes;
    let classes = of_cpu.to_vec1::<u32>()?;
    if let Some(class) = classes.iter().find(|&&class| class as usize >= k) {
        bail!("cross_entropy: class {class} is not below the {k} logits")
    }
    if_on_gpu!(logits => cross_entropy(logits, &of_cpu.to_device(logits.device())?, smoothing));
    logits.contiguous()?.apply_op1(CrossEntropy { classes, smoothing })
}

struct CrossEntropy {
    classes: Vec<u32>,
    smoothing: f64,
}

impl CrossEntropy {
    /// Calls `f(row, logarithms of the probabilities)`.
    fn each<T: Float>(&self, logits: &[T], mut f: impl FnMut(usize, &[f64])) {
        let k = logits.len() / self.classes.len();
        for (row, logits) in logits.chunks_exact(k).enumerate() {
            let most = logits.iter().map(|v| v.to_f64()).fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = logits.iter().map(|v| (v.to_f64() - most).exp()).sum();
            let log: Vec<f64> = logits.iter().map(|v| v.to_f64() - most - sum.ln()).collect();
            f(row, &log);
        }
    }

    /// What class `j` should get in row `row`.
    fn target(&self, row: usize, j: usize, k: usize) -> f64 {
        let own = if self.classes[row] as usize == j { 1.0 - self.smoothing } else { 0.0 };
        own + self.smoothing / k as f64
    }
}

impl CustomOp1 for CrossEntropy {
    fn name(&self) -> &'static str {
        "cross_entropy"
    }

    fn cpu_fwd(&self, logits: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        use candle_core::backend::BackendStorage as _;
        by_dtype!(self.name(), logits.dtype(), cross_entropy_forward(self, logits, layout))
    }

    fn bwd(&self, logits: &Tensor, _loss: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        by_dtype!(self.name(), logits.dtype(), cross_entropy_backward(self, logits, gradient))
            .map(Some)
    }
}

fn cross_entropy_forward<T: Float>(
    op: &CrossEntropy,
    logits: &CpuStorage,
    layout: &Layout,
) -> Result<(CpuStorage, Shape)> {
    let mut loss = 0.0;
    op.each(slice::<T>(logits, layout)?, |row, log| {
        let k = log.len();
        // A class of no weight costs nothing, however impossible (a logit of minus infinity).
        let terms = (0..k).map(|j| (op.target(row, j, k), log[j])).filter(|(t, _)| *t != 0.0);
        loss -= terms.map(|(target, log)| target * log).sum::<f64>();
    });
    Ok(output(vec![T::from_f64(loss / op.classes.len() as f64)], ()))
}

fn cross_entropy_backward<T: Float>(
    op: &CrossEntropy,
    logits: &Tensor,
    gradient: &Tensor,
) -> Result<Tensor> {
    let scale = with1::<T, _>(gradient, |g| g[0].to_f64())? / op.classes.len() as f64;
    let mut out = Vec::with_capacity(logits.elem_count());
    with1::<T, _>(logits, |logits| {
        op.each(logits, |row, log| {
            let k = log.len();
            out.extend((0..k).map(|j| T::from_f64(scale * (log[j].exp() - op.target(row, j, k)))));
        });
    })?;
    Tensor::from_vec(out, logits.shape(), logits.device())
}

/// The mean squared difference, a scalar, as `torch.nn.functional.mse_loss`.
///
/// `prediction`, `target`: `f32` or `f64`, of one shape. Gradients flow into both; `detach` a target
/// that is computed and shall be data.
///
/// # Errors
/// If shapes, dtypes or devices differ, or there are no elements.
///
/// ```
/// use candle_core::{Device, Tensor};
///
/// let prediction = Tensor::new(&[1f32, 2.], &Device::Cpu)?;
/// let target = Tensor::new(&[1f32, 5.], &Device::Cpu)?;
/// assert_eq!(pretext_ops::mse_loss(&prediction, &target)?.to_scalar::<f32>()?, 4.5);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn mse_loss(prediction: &Tensor, target: &Tensor) -> Result<Tensor> {
    difference("mse_loss", prediction, target, Difference::Squared)
}

/// The mean absolute difference, a scalar, as `torch.nn.functional.l1_loss`.
///
/// `prediction`, `target`: `f32` or `f64`, of one shape. Gradients flow into both; `detach` a target
/// that is computed and shall be data.
///
/// # Errors
/// If shapes, dtypes or devices differ, or there are no elements.
///
/// ```
/// use candle_core::{Device, Tensor};
///
/// let prediction = Tensor::new(&[1f32, 2.], &Device::Cpu)?;
/// let target = Tensor::new(&[1f32, 5.], &Device::Cpu)?;
/// assert_eq!(pretext_ops::l1_loss(&prediction, &target)?.to_scalar::<f32>()?, 1.5);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn l1_loss(prediction: &Tensor, target: &Tensor) -> Result<Tensor> {
    difference("l1_loss", prediction, target, Difference::Absolute)
}

fn difference(op: &str, prediction: &Tensor, target: &Tensor, kind: Difference) -> Result<Tensor> {
    check(op, &[prediction, target])?;
    if prediction.shape() != target.shape() {
        bail!("{op}: prediction is {:?}, target {:?}", prediction.shape(), target.shape())
    }
    if prediction.elem_count() == 0 {
        bail!("{op}: the mean of no elements is undefined")
    }
    if_on_gpu!(prediction => difference(kind.name(), prediction, target, kind.on_gpu()));
    prediction.contiguous()?.apply_op2(&target.contiguous()?, kind)
}

#[derive(Clone, Copy)]
enum Difference {
    Squared,
    Absolute,
}

impl Difference {
    fn name(self) -> &'static str {
        match self {
            Self::Squared => "mse_loss",
            Self::Absolute => "l1_loss",
        }
    }

    #[cfg(feature = "cuda")]
    fn on_gpu(self) -> crate::gpu::loss::Kind {
        match self {
            Self::Squared => crate::gpu::loss::Kind::Squared,
            Self::Absolute => crate::gpu::loss::Kind::Absolute,
        }
    }

    fn value<T: Float>(self, d: T) -> T {
        match self {
            Self::Squared => d * d,
            Self::Absolute if d < T::zero() => -d,
            Self::Absolute => d,
        }
    }

    fn slope<T: Float>(self, d: T) -> T {
        match self {
            Self::Squared => d + d,
            Self::Absolute if d > T::zero() => T::one(),
            Self::Absolute if d < T::zero() => -T::one(),
            Self::Absolute => T::zero(),
        }
    }
}

/// Elements summed at a time; fixed, so that the sum does not depend on the number of threads.
const CHUNK: usize = 1 << 14;

impl CustomOp2 for Difference {
    fn name(&self) -> &'static str {
        Difference::name(*self)
    }

    fn cpu_fwd(
        &self,
        prediction: &CpuStorage,
        p: &Layout,
        target: &CpuStorage,
        t: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        use candle_core::backend::BackendStorage as _;
        by_dtype!(self.name(), prediction.dtype(), mean_of(*self, (prediction, p), (target, t)))
    }

    fn bwd(
        &self,
        prediction: &Tensor,
        target: &Tensor,
        _loss: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let slope = by_dtype!(
            self.name(),
            prediction.dtype(),
            slopes(*self, prediction, target, gradient)
        )?;
        let towards = target.track_op().then(|| slope.neg()).transpose()?;
        Ok((Some(slope), towards))
    }
}

fn mean_of<T: Float>(
    kind: Difference,
    prediction: (&CpuStorage, &Layout),
    target: (&CpuStorage, &Layout),
) -> Result<(CpuStorage, Shape)> {
    let p = slice::<T>(prediction.0, prediction.1)?;
    let t = slice::<T>(target.0, target.1)?;
    let sums: Vec<f64> = p
        .par_chunks(CHUNK)
        .zip(t.par_chunks(CHUNK))
        .map(|(p, t)| p.iter().zip(t).map(|(&p, &t)| kind.value(p - t).to_f64()).sum())
        .collect();
    let mean = sums.iter().sum::<f64>() / p.len() as f64;
    Ok(output(vec![T::from_f64(mean)], ()))
}

fn slopes<T: Float>(
    kind: Difference,
    prediction: &Tensor,
    target: &Tensor,
    gradient: &Tensor,
) -> Result<Tensor> {
    let scale = with1::<T, _>(gradient, |g| g[0].to_f64())? / prediction.elem_count() as f64;
    let scale = T::from_f64(scale);
    let out = with2::<T, _>(prediction, target, |p, t| {
        let mut out = vec![T::zero(); p.len()];
        let chunks = out.par_chunks_mut(CHUNK).zip(p.par_chunks(CHUNK)).zip(t.par_chunks(CHUNK));
        chunks.for_each(|((out, p), t)| {
            for ((out, &p), &t) in out.iter_mut().zip(p).zip(t) {
                *out = scale * kind.slope(p - t);
            }
        });
        out
    })?;
    Tensor::from_vec(out, prediction.shape(), prediction.device())
}
