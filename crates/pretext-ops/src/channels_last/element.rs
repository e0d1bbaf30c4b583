//! The numbers that pictures are made of, as convolutions read, multiply and write them.
//!
//! `f32` is multiplied one by one. `bf16` goes in pairs, whose two products are added to one sum of
//! `f32`: the processors' instruction for it takes twice the numbers, and where there is none the
//! pair is taken apart. Products of two `bf16` are exact in `f32`.

use std::array;

use half::bf16;
use pulp::Simd;

use super::tile::{Tile, multiply, multiply_across};
use crate::isa::{Isa, Pairs};
use crate::stored::Stored;

/// A number of a picture.
pub(crate) trait Element: Stored<Wide = f32> {
    /// Numbers that are multiplied in one go.
    const GROUP: usize;

    /// So many numbers, one after the other along the sum.
    type Group: Copy + Default + Send + Sync + 'static;

    /// A group from `f32`.
    fn group(value: impl Fn(usize) -> f32) -> Self::Group;

    /// Groups from rows that follow each other along the sum. There may be one row fewer than a
    /// group has numbers, and zeros in its stead.
    fn join(groups: &mut [Self::Group], rows: &[&[Self]]);

    /// Up to a vector of numbers, zeros behind them.
    fn load<S: Simd>(simd: S, values: &[Self]) -> S::f32s;

    /// The first numbers of a vector.
    fn save<S: Simd>(simd: S, values: &mut [Self], vector: S::f32s);

    /// Runs a kernel of products; it is told how to multiply pairs.
    fn run<K: pulp::WithSimd>(isa: Isa, kernel: impl FnOnce(Pairs) -> K) -> K::Output;

    /// `tile[i] += sum over k of left[i][k step] panel[k]`, counted in groups, where `left` comes
    /// with its `step`; `pairs` as [`run`] told.
    ///
    /// [`run`]: Self::run
    ///
    /// # Safety
    /// As for [`multiply`].
    unsafe fn multiply<S: Simd, const M: usize, const V: usize>(
        simd: S,
        pairs: Pairs,
        depth: usize,
        left: ([*const Self::Group; M], usize),
        panel: *const Self::Group,
        stride: usize,
        tile: Tile<S, M, V>,
    ) -> Tile<S, M, V>;

    /// `tile[i] += sum over rows of starts[row][offset + i] panel[row]`; `joined` are the rows as
    /// [`join_rows`] gives them.
    ///
    /// # Safety
    /// The starts must be readable from `offset` on for `M` numbers, and `panel` as for [`multiply`].
    unsafe fn multiply_rows<S: Simd, const M: usize, const V: usize>(
        simd: S,
        pairs: Pairs,
        rows: &Rows<'_, Self>,
        offset: usize,
        panel: *const Self::Group,
        stride: usize,
        tile: Tile<S, M, V>,
    ) -> Tile<S, M, V>;
}

/// Rows that are summed over.
pub(crate) struct Rows<'a, T: Element> {
    pub(crate) starts: &'a [*const T],
    /// Where numbers are multiplied in groups: `[rows / GROUP][depth]`.
    pub(crate) joined: &'a [T::Group],
    pub(crate) depth: usize,
}

/// Joins rows of `depth` numbers each into groups, `[rows / GROUP][depth]`; nothing for `f32`,
/// whose rows are read where they lie.
///
/// # Safety
/// `depth` numbers must lie behind each start.
pub(crate) unsafe fn join_rows<T: Element>(
    starts: &[*const T],
    depth: usize,
    joined: &mut Vec<T::Group>,
) {
    if T::GROUP == 1 {
        return;
    }
    let from = joined.len();
    joined.resize(from + starts.len().div_ceil(T::GROUP) * depth, T::Group::default());
    let groups = joined[from..].chunks_exact_mut(depth.max(1));
    for (groups, starts) in groups.zip(starts.chunks(T::GROUP)) {
        // SAFETY: the caller vouches for them.
        let row = |start: &*const T| unsafe { std::slice::from_raw_parts(*start, depth) };
        match starts {
            [a, b] => T::join(groups, &[row(a), row(b)]),
            _ => T::join(groups, &[row(&starts[0])]),
        }
    }
}

impl Element for f32 {
    const GROUP: usize = 1;
    type Group = Self;

    #[inline(always)]
    fn group(value: impl Fn(usize) -> f32) -> Self {
        value(0)
    }

    #[inline(always)]
    fn join(groups: &mut [Self], rows: &[&[Self]]) {
        groups.copy_from_slice(rows[0]);
    }

    #[inline(always)]
    fn load<S: Simd>(simd: S, values: &[Self]) -> S::f32s {
        if values.len() >= S::F32_LANES {
            // SAFETY: there is a whole vector.
            unsafe { values.as_ptr().cast::<S::f32s>().read_unaligned() }
        } else {
            simd.partial_load_f32s(values)
        }
    }

    #[inline(always)]
    fn save<S: Simd>(simd: S, values: &mut [Self], vector: S::f32s) {
        if values.len() >= S::F32_LANES {
            // SAFETY: there is room for a whole vector.
            unsafe { values.as_mut_ptr().cast::<S::f32s>().write_unaligned(vector) }
        } else {
            simd.partial_store_f32s(values, vector);
        }
    }

    #[inline(always)]
    fn run<K: pulp::WithSimd>(isa: Isa, kernel: impl FnOnce(Pairs) -> K) -> K::Output {
        isa.run(kernel(Pairs::Apart))
    }

    #[inline(always)]
    unsafe fn multiply<S: Simd, const M: usize, const V: usize>(
        simd: S,
        _: Pairs,
        depth: usize,
        (left, step): ([*const Self; M], usize),
        panel: *const Self,
        stride: usize,
        tile: Tile<S, M, V>,
    ) -> Tile<S, M, V> {
        // SAFETY: the same.
        unsafe { multiply(simd, depth, left, step, panel, stride, tile) }
    }

    #[inline(always)]
    unsafe fn multiply_rows<S: Simd, const M: usize, const V: usize>(
        simd: S,
        _: Pairs,
        rows: &Rows<'_, Self>,
        offset: usize,
        panel: *const Self,
        stride: usize,
        tile: Tile<S, M, V>,
    ) -> Tile<S, M, V> {
        let start = |row: usize| rows.starts[row].wrapping_add(offset);
        // SAFETY: the same.
        unsafe { multiply_across(simd, rows.starts.len(), start, panel, stride, tile) }
    }
}

/// Two `bf16`, the first in the lower half.
type Pair = u32;

impl Element for bf16 {
    const GROUP: usize = 2;
    type Group = Pair;

    #[inline(always)]
    fn group(value: impl Fn(usize) -> f32) -> Pair {
        let half = |i| Pair::from(Self::narrow(value(i)).to_bits());
        half(0) | half(1) << 16
    }

    #[inline(always)]
    fn join(groups: &mut [Pair], rows: &[&[Self]]) {
        match rows {
            [a, b] => {
                for ((pair, a), b) in groups.iter_mut().zip(*a).zip(*b) {
                    *pair = Pair::from(a.to_bits()) | Pair::from(b.to_bits()) << 16;
                }
            }
            _ => {
                for (pair, a) in groups.iter_mut().zip(rows[0]) {
                    *pair = Pair::from(a.to_bits());
                }
            }
        }
    }

    #[inline(always)]
    fn load<S: Simd>(simd: S, values: &[Self]) -> S::f32s {
        let mut wide = [0.0; 16];
        if values.len() >= S::F32_LANES {
            for i in 0..S::F32_LANES {
                wide[i] = values[i].widen();
            }
        } else {
            wide.iter_mut().zip(values).for_each(|(wide, value)| *wide = value.widen());
        }
        f32::load(simd, &wide)
    }

    #[inline(always)]
    fn save<S: Simd>(simd: S, values: &mut [Self], vector: S::f32s) {
        let mut wide = [0.0; 16];
        f32::save(simd, &mut wide, vector);
        if values.len() >= S::F32_LANES {
            for i in 0..S::F32_LANES {
                values[i] = Self::narrow(wide[i]);
            }
        } else {
            values.iter_mut().zip(wide).for_each(|(value, wide)| *value = Self::narrow(wide));
        }
    }

    #[inline(always)]
    fn run<K: pulp::WithSimd>(isa: Isa, kernel: impl FnOnce(Pairs) -> K) -> K::Output {
        isa.run_pairs(kernel)
    }

    #[inline(always)]
    unsafe fn multiply<S: Simd, const M: usize, const V: usize>(
        simd: S,
        pairs: Pairs,
        depth: usize,
        (left, step): ([*const Pair; M], usize),
        panel: *const Pair,
        stride: usize,
        mut tile: Tile<S, M, V>,
    ) -> Tile<S, M, V> {
        for k in 0..depth {
            // SAFETY: the caller vouches for these addresses.
            let right: [S::u32s; V] = array::from_fn(|j| unsafe {
                panel.add(k * stride + j * S::F32_LANES).cast::<S::u32s>().read_unaligned()
            });
            for i in 0..M {
                // SAFETY: the caller vouches for this address.
                let value = simd.splat_u32s(unsafe { left[i].add(k * step).read_unaligned() });
                for j in 0..V {
                    tile[i][j] = if pairs == Pairs::Apart {
                        add_products_apart(simd, tile[i][j], value, right[j])
                    } else {
                        add_products(tile[i][j], value, right[j])
                    };
                }
            }
        }
        tile
    }

    #[inline(always)]
    unsafe fn multiply_rows<S: Simd, const M: usize, const V: usize>(
        simd: S,
        pairs: Pairs,
        rows: &Rows<'_, Self>,
        offset: usize,
        panel: *const Pair,
        stride: usize,
        tile: Tile<S, M, V>,
    ) -> Tile<S, M, V> {
        let left = array::from_fn(|i| rows.joined[offset + i..].as_ptr());
        let (count, depth) = (rows.joined.len() / rows.depth, rows.depth);
        // SAFETY: the caller vouches for the panel, and the joined rows are `depth` apart.
        unsafe { Self::multiply(simd, pairs, count, (left, depth), panel, stride, tile) }
    }
}

/// `sums + a.0 b.0 + a.1 b.1` for each lane, by taking the pairs apart.
#[inline(always)]
fn add_products_apart<S: Simd>(simd: S, sums: S::f32s, a: S::u32s, b: S::u32s) -> S::f32s {
    let upper = |pairs| simd.and_u32s(pairs, simd.splat_u32s(0xffff_0000));
    let lower = |pairs| simd.wrapping_dyn_shl_u32s(pairs, simd.splat_u32s(16));
    // SAFETY: both are the same bits, of lanes of 32 bits.
    let float = |bits: S::u32s| unsafe { std::mem::transmute_copy::<S::u32s, S::f32s>(&bits) };
    let sums = simd.mul_add_e_f32s(float(lower(a)), float(lower(b)), sums);
    simd.mul_add_e_f32s(float(upper(a)), float(upper(b)), sums)
}

/// The same by the instruction for it, which also takes numbers below the normal ones as zeros.
#[inline(always)]
fn add_products<F: Copy, U: Copy>(sums: F, a: U, b: U) -> F {
    #[cfg(target_arch = "x86_64")]
    if size_of::<F>() == size_of::<std::arch::x86_64::__m512>() {
        use std::arch::x86_64::{__m512, __m512bh, _mm512_dpbf16_ps};
        // SAFETY: kernels are told of pairs where the processor has AVX512-BF16, and there vectors
        // are of 512 bits, which these types name.
        return unsafe {
            let pair = |pair: U| std::mem::transmute_copy::<U, __m512bh>(&pair);
            let sums = std::mem::transmute_copy::<F, __m512>(&sums);
            std::mem::transmute_copy(&_mm512_dpbf16_ps(sums, pair(a), pair(b)))
        };
    }
    let _ = (a, b);
    sums
}
