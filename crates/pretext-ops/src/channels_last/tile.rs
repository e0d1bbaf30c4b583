//! The innermost loop of every convolution: a tile of the product that lives in registers.
//!
//! The right matrix comes in *panels* of two vectors' width, `[k][2 lanes]`, so that it is read in
//! order; the left one's numbers are broadcast from where they lie.

#![allow(clippy::needless_range_loop, reason = "the indices are those of the formulae")]

use std::array;
use std::ops::Range;

use pulp::Simd;

/// Vectors that a panel is wide.
pub(crate) const VECTORS: usize = 2;

/// Bytes in a line of the cache.
pub(crate) const LINE: usize = 64;

/// Columns of a panel.
pub(crate) const fn width(lanes: usize) -> usize {
    VECTORS * lanes
}

/// Rows of a tile: with its two columns of vectors it fills the registers that there are.
pub(crate) const fn rows(lanes: usize) -> usize {
    if lanes == 16 { 12 } else { 6 }
}

/// The accumulators of a tile.
pub(crate) type Tile<S, const M: usize, const V: usize> = [[<S as Simd>::f32s; V]; M];

/// A tile of zeros.
#[inline(always)]
pub(crate) fn zeros<S: Simd, const M: usize, const V: usize>(simd: S) -> Tile<S, M, V> {
    [[simd.splat_f32s(-0.0); V]; M]
}

/// Asks for the memory that a tile's row will be written to, so that it is at hand when the sums are.
#[inline(always)]
pub(crate) fn expect_write<T>(row: &[T]) {
    #[cfg(target_arch = "x86_64")]
    for line in row.chunks(LINE / size_of::<T>()) {
        // SAFETY: a hint, which reads and writes nothing.
        unsafe {
            std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(
                line.as_ptr().cast(),
            );
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = row;
}

/// Rows of a panel that are asked for ahead of time: processors do so by themselves only up to the
/// next page, which 32 rows of two wide vectors fill.
const AHEAD: usize = 32;

/// Asks for a line of memory that will be read.
#[inline(always)]
fn expect_read<T>(line: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint, which reads and writes nothing and may point anywhere.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(line.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = line;
}

/// `tile[i] += sum over k of left[i][k step] * panel[k]`.
///
/// # Safety
/// `left[i]` must be readable at `k step`, and `panel` at `k stride` and the `V` vectors from there,
/// for all `k < depth`.
#[inline(always)]
pub(crate) unsafe fn multiply<S: Simd, const M: usize, const V: usize>(
    simd: S,
    depth: usize,
    left: [*const f32; M],
    step: usize,
    panel: *const f32,
    stride: usize,
    mut tile: Tile<S, M, V>,
) -> Tile<S, M, V> {
    for k in 0..depth {
        expect_read(panel.wrapping_add((k + AHEAD) * stride));
        if V * S::F32_LANES > LINE / size_of::<f32>() {
            expect_read(panel.wrapping_add((k + AHEAD) * stride + LINE / size_of::<f32>()));
        }
        // SAFETY: the caller vouches for these addresses.
        let right: [S::f32s; V] = array::from_fn(|j| unsafe {
            panel.add(k * stride + j * S::F32_LANES).cast::<S::f32s>().read_unaligned()
        });
        for i in 0..M {
            // SAFETY: the caller vouches for this address.
            let value = simd.splat_f32s(unsafe { left[i].add(k * step).read_unaligned() });
            for j in 0..V {
                tile[i][j] = simd.mul_add_e_f32s(value, right[j], tile[i][j]);
            }
        }
    }
    tile
}

/// The same where the left matrix's rows are one number apart, and its columns begin anywhere:
/// `tile[i] += sum over k of *(start(k) + i) * panel[k]`. Pointers to each row would not leave the
/// compiler enough registers.
///
/// # Safety
/// `start(k)` must be readable for `M` numbers, and `panel` as for [`multiply`].
#[inline(always)]
pub(crate) unsafe fn multiply_across<S: Simd, const M: usize, const V: usize>(
    simd: S,
    depth: usize,
    start: impl Fn(usize) -> *const f32,
    panel: *const f32,
    stride: usize,
    mut tile: Tile<S, M, V>,
) -> Tile<S, M, V> {
    for k in 0..depth {
        // SAFETY: the caller vouches for these addresses.
        let right: [S::f32s; V] = array::from_fn(|j| unsafe {
            panel.add(k * stride + j * S::F32_LANES).cast::<S::f32s>().read_unaligned()
        });
        let left = start(k);
        for i in 0..M {
            // SAFETY: the caller vouches for this address.
            let value = simd.splat_f32s(unsafe { left.add(i).read_unaligned() });
            for j in 0..V {
                tile[i][j] = simd.mul_add_e_f32s(value, right[j], tile[i][j]);
            }
        }
    }
    tile
}

/// Rows that tiles are compiled for; fewer kinds than there are numbers keep the binary small.
const ROWS: [usize; 6] = [12, 8, 6, 4, 2, 1];

/// Cuts a range into tiles: the tallest that fit, one after the other.
#[inline(always)]
pub(crate) fn cut(range: Range<usize>, lanes: usize) -> impl Iterator<Item = (usize, usize)> {
    let mut first = range.start;
    std::iter::from_fn(move || {
        let most = rows(lanes).min(range.end - first);
        let rows = ROWS.into_iter().find(|&rows| rows <= most)?;
        first += rows;
        Some((first - rows, rows))
    })
}

/// Calls a function that is generic over a tile's rows and vectors with those given.
macro_rules! by_size {
    ($rows:expr, $vectors:expr, $function:ident :: <$simd:ty> ($($argument:expr),* $(,)?)) => {
        $crate::channels_last::tile::by_size!(
            @rows [12 8] [6 4 2 1] $rows, $vectors, $function::<$simd>($($argument),*)
        )
    };
    (@rows [$($wide:literal)*] [$($m:literal)*] $rows:expr, $vectors:expr,
     $function:ident :: <$simd:ty> $arguments:tt) => {
        match ($rows, $vectors) {
            // Only processors with many registers have tiles as tall as these.
            $(($wide, 1) if <$simd>::F32_LANES == 16 => $function::<$simd, $wide, 1> $arguments,
              ($wide, _) if <$simd>::F32_LANES == 16 => $function::<$simd, $wide, 2> $arguments,)*
            $(($m, 1) => $function::<$simd, $m, 1> $arguments,
              ($m, _) => $function::<$simd, $m, 2> $arguments,)*
            _ => unreachable!("tiles are cut to these sizes"),
        }
    };
}
pub(crate) use by_size;
