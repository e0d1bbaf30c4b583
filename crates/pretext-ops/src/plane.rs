//! Operators that treat each picture's channels alone: a plane in, a plane out.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use rayon::iter::{IndexedParallelIterator as _, ParallelIterator as _};
use rayon::slice::{ParallelSlice as _, ParallelSliceMut as _};

use crate::values::{Float, by_dtype, check, elements, nchw, output, slice, with2};

/// What is done to one plane. Gradients are added to a plane of zeros.
pub(crate) trait Plane: Copy + Send + Sync + 'static {
    const NAME: &'static str;
    /// Height and width of the output.
    fn size(&self, input: (usize, usize)) -> (usize, usize);
    fn forward<T: Float>(&self, input: (usize, usize), x: &[T], y: &mut [T]);
    fn backward<T: Float>(&self, input: (usize, usize), x: &[T], dy: &[T], dx: &mut [T]);
}

/// Applies a plane operator to `[N, C, H, W]`; the caller has checked its parameters.
pub(crate) fn apply<P: Plane>(x: &Tensor, plane: P) -> Result<Tensor> {
    let (n, c, h, w) = x.dims4()?;
    let (height, width) = plane.size((h, w));
    elements(P::NAME, &[n, c, height, width])?;
    x.contiguous()?.apply_op1(PlaneOp(plane))
}

/// The four dimensions of a plane operator's input.
pub(crate) fn input(op: &str, x: &Tensor) -> Result<(usize, usize, usize, usize)> {
    check(op, &[x])?;
    nchw(op, x)
}

struct PlaneOp<P>(P);

impl<P: Plane> CustomOp1 for PlaneOp<P> {
    fn name(&self) -> &'static str {
        P::NAME
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        use candle_core::backend::BackendStorage as _;
        by_dtype!(self.name(), x.dtype(), forward(&self.0, x, layout))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        by_dtype!(self.name(), x.dtype(), backward(&self.0, x, dy)).map(Some)
    }
}

fn forward<T: Float>(
    plane: &impl Plane,
    x: &CpuStorage,
    layout: &Layout,
) -> Result<(CpuStorage, Shape)> {
    let (n, c, h, w) = layout.shape().dims4()?;
    let x = slice::<T>(x, layout)?;
    let (height, width) = plane.size((h, w));
    let mut y = vec![T::zero(); n * c * height * width];
    if h * w > 0 && height * width > 0 {
        y.par_chunks_mut(height * width)
            .zip(x.par_chunks(h * w))
            .for_each(|(y, x)| plane.forward((h, w), x, y));
    }
    Ok(output(y, (n, c, height, width)))
}

fn backward<T: Float>(plane: &impl Plane, x: &Tensor, dy: &Tensor) -> Result<Tensor> {
    let (_, _, h, w) = x.dims4()?;
    let (height, width) = plane.size((h, w));
    let dx = with2::<T, _>(x, dy, |x, dy| {
        let mut dx = vec![T::zero(); x.len()];
        if h * w > 0 && height * width > 0 {
            dx.par_chunks_mut(h * w)
                .zip(x.par_chunks(h * w))
                .zip(dy.par_chunks(height * width))
                .for_each(|((dx, x), dy)| plane.backward((h, w), x, dy, dx));
        }
        dx
    })?;
    Tensor::from_vec(dx, x.shape(), x.device())
}
