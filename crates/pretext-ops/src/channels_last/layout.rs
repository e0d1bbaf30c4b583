//! The way of pictures from one layout to the other, on all threads.

use candle_core::backend::BackendStorage as _;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use rayon::iter::{IndexedParallelIterator as _, ParallelIterator as _};
use rayon::slice::{ParallelSlice as _, ParallelSliceMut as _};

use crate::buffer::unwritten;
use crate::stored::Stored;
use crate::values::{by_stored, check_pictures, on_gpu, output, slice};

/// `[N, C, H, W]` to `[N, H, W, C]`.
///
/// # Errors
/// If `x` has another rank, or is of other numbers than `f32`, `f64` or `bf16` on the CPU.
pub fn channels_last(x: &Tensor) -> Result<Tensor> {
    check_pictures("channels_last", &[x])?;
    let (n, c, h, w) = x.dims4()?;
    if on_gpu(x) {
        return x.permute((0, 2, 3, 1))?.contiguous();
    }
    let shape = Shape::from((n, h, w, c));
    x.contiguous()?.apply_op1(Transpose { rows: c, columns: h * w, shape })
}

/// `[N, H, W, C]` to `[N, C, H, W]`.
///
/// # Errors
/// As for [`channels_last`].
pub fn channels_first(x: &Tensor) -> Result<Tensor> {
    check_pictures("channels_first", &[x])?;
    let (n, h, w, c) = x.dims4()?;
    if on_gpu(x) {
        return x.permute((0, 3, 1, 2))?.contiguous();
    }
    let shape = Shape::from((n, c, h, w));
    x.contiguous()?.apply_op1(Transpose { rows: h * w, columns: c, shape })
}

/// Each picture is a matrix, which is turned over.
struct Transpose {
    rows: usize,
    columns: usize,
    /// The result's.
    shape: Shape,
}

impl CustomOp1 for Transpose {
    fn name(&self) -> &'static str {
        "channels_last"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        by_stored!("channels_last", x.dtype(), transpose(self, x, layout))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let back = Self { rows: self.columns, columns: self.rows, shape: x.shape().clone() };
        gradient.contiguous()?.apply_op1_no_bwd(&back).map(Some)
    }
}

/// Columns that are taken together, so that what is read and what is written stay in cache.
const BLOCK: usize = 256;

fn transpose<T: Stored>(
    op: &Transpose,
    x: &CpuStorage,
    layout: &Layout,
) -> Result<(CpuStorage, Shape)> {
    let x = slice::<T>(x, layout)?;
    let &Transpose { rows, columns, .. } = op;
    let size = rows * columns;
    if size == 0 {
        return Ok(output(Vec::<T>::new(), op.shape.clone()));
    }
    // SAFETY: each number of each picture is written.
    let mut y = unsafe { unwritten(x.len()) };
    y.par_chunks_mut(size).zip(x.par_chunks(size)).for_each(|(y, x)| {
        for first in (0..columns).step_by(BLOCK) {
            let block = first..(first + BLOCK).min(columns);
            for (row, x) in x.chunks_exact(columns).enumerate() {
                let to = y[block.start * rows + row..].iter_mut().step_by(rows);
                to.zip(&x[block.clone()]).for_each(|(to, x)| *to = *x);
            }
        }
    });
    Ok(output(y, op.shape.clone()))
}
