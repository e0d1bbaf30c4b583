//! The products at each point, which are most of the work.

use pulp::{Simd, WithSimd};

use super::points::{KernelPoints, Points};
use crate::channels_last::element::Element as _;
use crate::channels_last::shared::Shared;
use crate::channels_last::tile::{self, by_size, multiply, multiply_across};

/// One point's product: tiles times kernels.
pub(super) struct Product<'a> {
    pub(super) point: usize,
    pub(super) kernel: &'a KernelPoints,
    pub(super) input: &'a Points,
    pub(super) output: &'a Points,
    pub(super) sums: Shared<'a, f32>,
}

impl WithSimd for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        for panel in 0..self.output.panels() {
            let columns = self.output.channels - panel * self.output.width;
            let vectors = columns.div_ceil(S::F32_LANES);
            for (first, rows) in tile::cut(0..self.input.tiles, S::F32_LANES) {
                by_size!(rows, vectors, product_tile::<S>(&self, simd, panel, first));
            }
        }
    }
}

#[inline(always)]
fn product_tile<S: Simd, const M: usize, const V: usize>(
    job: &Product<'_>,
    simd: S,
    panel: usize,
    first: usize,
) {
    let width = tile::width(S::F32_LANES);
    let input = job.input;
    let kernel = &job.kernel.values[job.kernel.at(job.point, panel)..][..job.kernel.depth * width];
    let mut sums = tile::zeros::<S, M, V>(simd);
    for (inner, kernel) in kernel.chunks(width * width).enumerate() {
        let rows = &input.values[input.at(job.point, inner, first)..][..M * width];
        let left = std::array::from_fn(|i| rows[i * width..].as_ptr());
        // SAFETY: the rows are `width` long, which `depth` is at most, and the kernel has `depth`
        // rows of `width`, at least V vectors.
        sums =
            unsafe { multiply(simd, kernel.len() / width, left, 1, kernel.as_ptr(), width, sums) };
    }
    let at = job.output.at(job.point, panel, first);
    // SAFETY: no other job has this point.
    let out = unsafe { job.sums.part(at, M * width) };
    for (out, sums) in out.chunks_exact_mut(width).zip(sums) {
        for (out, sums) in out.chunks_exact_mut(S::F32_LANES).zip(sums) {
            f32::save(simd, out, sums);
        }
    }
}

/// One point's share of the weight's gradient: `sums[panel][c] += sum over tiles of input[c] output`.
pub(super) struct OuterProduct<'a> {
    pub(super) point: usize,
    pub(super) input: &'a Points,
    pub(super) output: &'a Points,
    pub(super) sums: Shared<'a, f32>,
    /// Whether nothing has been written to the sums yet.
    pub(super) fresh: bool,
}

impl WithSimd for OuterProduct<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let width = tile::width(S::F32_LANES);
        for inner in 0..self.input.panels() {
            let first = inner * width;
            let channels = first..(first + width).min(self.input.channels);
            for (first, rows) in tile::cut(channels, S::F32_LANES) {
                for panel in 0..self.output.panels() {
                    let columns = self.output.channels - panel * width;
                    let vectors = columns.div_ceil(S::F32_LANES);
                    by_size!(rows, vectors, outer_tile::<S>(&self, simd, panel, first));
                }
            }
        }
    }
}

#[inline(always)]
fn outer_tile<S: Simd, const M: usize, const V: usize>(
    job: &OuterProduct<'_>,
    simd: S,
    panel: usize,
    first: usize,
) {
    let width = tile::width(S::F32_LANES);
    let (input, output) = (job.input, job.output);
    let tiles = input.tiles;
    let left = &input.values[input.at(job.point, first / width, 0)..][..tiles * width];
    let left = left[first % width..].as_ptr();
    let start = |tile| left.wrapping_add(tile * width);
    let right = &output.values[output.at(job.point, panel, 0)..][..tiles * width];
    let sums = tile::zeros::<S, M, V>(simd);
    // SAFETY: both have a row of `width` numbers for each tile, and `first % width + M` is at most
    // `width`.
    let sums = unsafe { multiply_across(simd, tiles, start, right.as_ptr(), width, sums) };
    let at = ((job.point * output.panels() + panel) * input.channels + first) * width;
    // SAFETY: no other job has this point of this piece.
    let out = unsafe { job.sums.part(at, M * width) };
    for (out, sums) in out.chunks_exact_mut(width).zip(sums) {
        for (out, sums) in out.chunks_exact_mut(S::F32_LANES).zip(sums) {
            let sums = if job.fresh { sums } else { simd.add_f32s(f32::load(simd, out), sums) };
            f32::save(simd, out, sums);
        }
    }
}
