//! Activations, in one pass over memory each way.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use rayon::iter::{IndexedParallelIterator as _, ParallelIterator as _};
use rayon::slice::{ParallelSlice as _, ParallelSliceMut as _};

use crate::buffer::unwritten;
#[cfg(feature = "cuda")]
use crate::channels_last::Activation;
use crate::isa::Isa;
use crate::stored::Stored;
use crate::values::{Float, by_stored, check_pictures, if_on_gpu, output, slice, with2};

/// `max(x, 0)` of each element; the gradient at 0 is 0, as PyTorch's.
///
/// `x`: any shape, `f32`, `f64` or `bf16`; the shape stays. A NaN stays a NaN.
///
/// # Errors
/// If the dtype or device does not fit.
///
/// ```
/// use candle_core::{Device, Tensor};
///
/// let x = Tensor::new(&[-1f32, 0., 2.], &Device::Cpu)?;
/// assert_eq!(pretext_ops::relu(&x)?.to_vec1::<f32>()?, [0., 0., 2.]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn relu(x: &Tensor) -> Result<Tensor> {
    check_pictures("relu", &[x])?;
    if_on_gpu!(x => activate(x, Activation::Relu));
    x.contiguous()?.apply_op1(Elementwise(Relu))
}

/// `x tanh(ln(1 + e^x))` of each element (Misra, "Mish", 2019).
///
/// `x`: any shape, `f32`, `f64` or `bf16`; the shape stays.
///
/// # Errors
/// If the dtype or device does not fit.
///
/// ```
/// use candle_core::{Device, Tensor};
///
/// let x = Tensor::new(&[0f64, 1.], &Device::Cpu)?;
/// let y = pretext_ops::mish(&x)?.to_vec1::<f64>()?;
/// assert!(y[0] == 0.0 && (y[1] - 0.865_098).abs() < 1e-6);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn mish(x: &Tensor) -> Result<Tensor> {
    check_pictures("mish", &[x])?;
    if_on_gpu!(x => activate(x, Activation::Mish));
    x.contiguous()?.apply_op1(Elementwise(Mish))
}

/// A function of one number, and its slope.
pub(crate) trait Function: Copy + Send + Sync {
    const NAME: &'static str;
    fn value<T: Float>(self, x: T) -> T;
    fn slope<T: Float>(self, x: T) -> T;
}

#[derive(Clone, Copy)]
struct Relu;

impl Function for Relu {
    const NAME: &'static str = "relu";

    #[inline(always)]
    fn value<T: Float>(self, x: T) -> T {
        // Written so that a NaN comes through.
        if x < T::zero() { T::zero() } else { x }
    }

    #[inline(always)]
    fn slope<T: Float>(self, x: T) -> T {
        if x > T::zero() { T::one() } else { T::zero() }
    }
}

#[derive(Clone, Copy)]
pub(crate) struct Mish;

/// `tanh(ln(1 + e^x))`; where `e^x` overflows, the infinity becomes the right 1.
fn tanh_softplus<T: Float>(x: T) -> T {
    x.exp().ln_1p().tanh()
}

impl Function for Mish {
    const NAME: &'static str = "mish";

    fn value<T: Float>(self, x: T) -> T {
        x * tanh_softplus(x)
    }

    fn slope<T: Float>(self, x: T) -> T {
        let tanh = tanh_softplus(x);
        let sigmoid = T::one() / (T::one() + (-x).exp());
        tanh + x * sigmoid * (T::one() - tanh * tanh)
    }
}

/// Elements a thread takes at a time.
const CHUNK: usize = 1 << 14;

struct Elementwise<F>(F);

impl<F: Function> CustomOp1 for Elementwise<F> {
    fn name(&self) -> &'static str {
        F::NAME
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        use candle_core::backend::BackendStorage as _;
        by_stored!(F::NAME, x.dtype(), forward(self.0, x, layout))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        by_stored!(F::NAME, x.dtype(), backward(self.0, x, dy)).map(Some)
    }
}

fn forward<T: Stored>(
    f: impl Function,
    x: &CpuStorage,
    layout: &Layout,
) -> Result<(CpuStorage, Shape)> {
    let x = slice::<T>(x, layout)?;
    // SAFETY: each chunk is written in full.
    let mut y = unsafe { unwritten(x.len()) };
    y.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).for_each(|(y, x)| {
        Isa::current().run_plain(
            #[inline(always)]
            || {
                for (y, x) in y.iter_mut().zip(x) {
                    *y = T::narrow(f.value(x.widen()));
                }
            },
        );
    });
    Ok(output(y, layout.shape().clone()))
}

fn backward<T: Stored>(f: impl Function, x: &Tensor, dy: &Tensor) -> Result<Tensor> {
    let dx = with2::<T, _>(x, dy, |x, dy| {
        // SAFETY: each chunk is written in full.
        let mut dx = unsafe { unwritten(x.len()) };
        let chunks = dx.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).zip(dy.par_chunks(CHUNK));
        chunks.for_each(|((dx, x), dy)| {
            Isa::current().run_plain(
                #[inline(always)]
                || {
                    for ((dx, x), dy) in dx.iter_mut().zip(x).zip(dy) {
                        *dx = T::narrow(f.slope(x.widen()) * dy.widen());
                    }
                },
            );
        });
        dx
    })?;
    Tensor::from_vec(dx, x.shape(), x.device())
}
