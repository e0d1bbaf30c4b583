//! Matrix products on strided slices, by the `gemm` crate on one thread.
//!
//! One thread, because operators cut their work into pieces themselves: the pieces, and so the
//! rounding, do not depend on how many threads there are.

use gemm::Parallelism;
use rayon::iter::{IndexedParallelIterator as _, ParallelIterator as _};
use rayon::slice::ParallelSliceMut as _;

use crate::values::Float;

/// A matrix inside a slice: element `(i, j)` is `values[i * row + j * column]`.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a, T> {
    pub(crate) values: &'a [T],
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) row: usize,
    pub(crate) column: usize,
}

impl<'a, T> Matrix<'a, T> {
    /// Rows one after the other, `stride` apart.
    pub(crate) fn rows(values: &'a [T], rows: usize, columns: usize, stride: usize) -> Self {
        Self { values, rows, columns, row: stride, column: 1 }
    }

    pub(crate) fn transposed(self) -> Self {
        Self { rows: self.columns, columns: self.rows, row: self.column, column: self.row, ..self }
    }

    /// Some of its rows.
    fn band(self, first: usize, rows: usize) -> Self {
        Self { values: &self.values[first * self.row..], rows, ..self }
    }
}

/// The length a slice must have to hold such a matrix.
fn extent(rows: usize, columns: usize, row: usize, column: usize) -> usize {
    if rows == 0 || columns == 0 { 0 } else { (rows - 1) * row + (columns - 1) * column + 1 }
}

/// Rows of a product that one thread takes at a time.
const BAND: usize = 128;

/// `out = a b` with the rows of `out` one after the other, in bands of rows that threads share: for
/// products that there is only one of.
pub(crate) fn product_in_bands<T: Float>(out: &mut [T], a: Matrix<'_, T>, b: Matrix<'_, T>) {
    let columns = b.columns.max(1);
    out.par_chunks_mut(BAND * columns).enumerate().for_each(|(band, out)| {
        product(out, columns, a.band(band * BAND, out.len() / columns), b, false);
    });
}

/// `out = a b`, or `out += a b` with `add`. Rows of `out` are `stride` apart.
///
/// # Panics
/// If the matrices do not fit each other or their slices: a bug of the calling operator.
pub(crate) fn product<T: Float>(
    out: &mut [T],
    stride: usize,
    a: Matrix<'_, T>,
    b: Matrix<'_, T>,
    add: bool,
) {
    assert_eq!(a.columns, b.rows, "inner dimensions");
    assert!(a.values.len() >= extent(a.rows, a.columns, a.row, a.column), "left matrix");
    assert!(b.values.len() >= extent(b.rows, b.columns, b.row, b.column), "right matrix");
    assert!(out.len() >= extent(a.rows, b.columns, stride, 1), "product");
    assert!(b.columns <= stride || a.rows <= 1, "rows of the product overlap");
    // SAFETY: the asserts above keep every element that is read or written inside its slice, and
    // `out` is borrowed mutably, so nothing else is reached through it.
    unsafe {
        gemm::gemm(
            a.rows,
            b.columns,
            a.columns,
            out.as_mut_ptr(),
            1,
            stride as isize,
            add,
            a.values.as_ptr(),
            a.column as isize,
            a.row as isize,
            b.values.as_ptr(),
            b.column as isize,
            b.row as isize,
            T::one(),
            T::one(),
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}
