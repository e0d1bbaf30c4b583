//! Convolution of 3x3 kernels with stride 1 by fewer multiplications (Winograd, 1980; Lavin and
//! Gray, "Fast Algorithms for Convolutional Neural Networks", 2016).
//!
//! A tile of `M` by `M` output pixels needs `A` by `A` input pixels, `A = M + 2`. Tile and kernel
//! are transformed, multiplied point by point, and transformed back: `y = At [(G g Gt) (Bt d B)] A`.
//! Summed over channels, each of the `A A` points is a matrix product. `F(4x4)` multiplies 36 times
//! where the definition does 144 times, `F(2x2)` 16 times for 36; the price is rounding.
//! The gradients are the same sums read backwards: the input's is a convolution with the kernel
//! turned, the weight's is `Gt [sum (Bt d B) (A dy At)] G`.

#![allow(clippy::needless_range_loop, reason = "the indices are those of the formulae")]

use std::cell::RefCell;
use std::ops::Range;

use pulp::{Simd, WithSimd};
use rayon::iter::{IntoParallelIterator as _, ParallelIterator as _};

use super::direct::store;
use super::{Epilogue, Geometry};
use crate::buffer::unwritten;
use crate::channels_last::element::Element as _;
use crate::channels_last::shared::Shared;
use crate::channels_last::tile::{self, by_size, multiply};
use crate::isa::Isa;

/// The matrices for `M` by `M` outputs of `A` by `A` inputs.
pub(super) struct Matrices<const M: usize, const A: usize> {
    /// `Bt`.
    input: [[f32; A]; A],
    /// `G`.
    kernel: [[f32; 3]; A],
    /// `At`.
    output: [[f32; A]; M],
}

/// A size of tile.
pub(super) trait Size<const M: usize, const A: usize>: Send + Sync {
    const MATRICES: Matrices<M, A>;
}

/// `F(2x2, 3x3)`: points 0, 1, -1 and infinity.
pub(super) struct F2;

impl Size<2, 4> for F2 {
    const MATRICES: Matrices<2, 4> = Matrices {
        input: [[1., 0., -1., 0.], [0., 1., 1., 0.], [0., -1., 1., 0.], [0., 1., 0., -1.]],
        kernel: [[1., 0., 0.], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0., 0., 1.]],
        output: [[1., 1., 1., 0.], [0., 1., -1., -1.]],
    };
}

/// `F(4x4, 3x3)`: points 0, +-p, +-q and infinity.
pub(super) struct F4;

/// The usual points are 1 and 2; these round about 2.5 times less (after Barabasz et al., "Error
/// Analysis and Improving the Accuracy of Winograd Convolution for Deep Neural Networks", 2020),
/// and their powers are exact.
const P: f32 = 0.75;
const Q: f32 = 1.5;
const PP: f32 = P * P;
const QQ: f32 = Q * Q;
/// What the products of differences between the points divide the kernel's transform by.
const DP: f32 = 2.0 * PP * (PP - QQ);
const DQ: f32 = 2.0 * QQ * (QQ - PP);

impl Size<4, 6> for F4 {
    const MATRICES: Matrices<4, 6> = Matrices {
        input: [
            [PP * QQ, 0., -PP - QQ, 0., 1., 0.],
            [0., -P * QQ, -QQ, P, 1., 0.],
            [0., P * QQ, -QQ, -P, 1., 0.],
            [0., -Q * PP, -PP, Q, 1., 0.],
            [0., Q * PP, -PP, -Q, 1., 0.],
            [0., PP * QQ, 0., -PP - QQ, 0., 1.],
        ],
        kernel: [
            [1. / (PP * QQ), 0., 0.],
            [1. / DP, P / DP, PP / DP],
            [1. / DP, -P / DP, PP / DP],
            [1. / DQ, Q / DQ, QQ / DQ],
            [1. / DQ, -Q / DQ, QQ / DQ],
            [0., 0., 1.],
        ],
        output: [
            [1., 1., 1., 1., 1., 0.],
            [0., P, -P, Q, -Q, 0.],
            [0., PP, PP, QQ, QQ, 0.],
            [0., P * PP, -P * PP, Q * QQ, -Q * QQ, 1.],
        ],
    };
}

/// Numbers of transformed tiles that one thread works on at a time: they stay in its cache.
const BLOCK: usize = 400_000;
/// Blocks up to which threads share each block's work, instead of the blocks.
const FEW: usize = 8;
/// Tiles of a shared block.
const SHARED: usize = 512;
/// Pieces of the batch that the weight's gradient is summed in.
const PIECES: usize = 8;
/// Numbers of a transformed weight up to which its gradient is summed in pieces.
const SMALL_WEIGHT: usize = 1 << 20;

/// Convolves a batch: `[N, H, W, C]` to `[N, H', W', O]`.
pub(super) fn forward<P: Size<M, A>, const M: usize, const A: usize>(
    isa: Isa,
    g: &Geometry,
    x: &[f32],
    weight: &[f32],
    epilogue: Epilogue<'_, f32>,
) -> Vec<f32> {
    // SAFETY: every output pixel and channel belongs to a job that writes it.
    let mut y = unsafe { unwritten(g.n * g.pixels() * g.o) };
    let of = |o, c, tap| (o * g.c + c) * 9 + tap;
    let points = kernel_points::<P, M, A>(isa, weight, (g.o, g.c), of);
    convolve::<P, M, A>(isa, g, x, &points, &mut y, epilogue);
    y
}

/// The gradient of the loss in the input: the convolution of the output's gradient with the kernel
/// turned by 180 degrees, added to `others`.
pub(super) fn input_gradient<P: Size<M, A>, const M: usize, const A: usize>(
    isa: Isa,
    g: &Geometry,
    weight: &[f32],
    dy: &[f32],
    others: Option<&[f32]>,
) -> Vec<f32> {
    // SAFETY: every input pixel and channel belongs to a job that writes it.
    let mut dx = unsafe { unwritten(g.n * g.h * g.w * g.c) };
    let of = |c, o, tap| (o * g.c + c) * 9 + 8 - tap;
    let points = kernel_points::<P, M, A>(isa, weight, (g.c, g.o), of);
    let turned = Geometry {
        c: g.o,
        o: g.c,
        h: g.out.0,
        w: g.out.1,
        out: (g.h, g.w),
        padding: 2 - g.padding,
        ..*g
    };
    let epilogue = Epilogue { residual: others, ..Epilogue::default() };
    convolve::<P, M, A>(isa, &turned, dy, &points, &mut dx, epilogue);
    dx
}

/// The gradient of the loss in the weight: `[O, C, 3, 3]`.
pub(super) fn weight_gradient<P: Size<M, A>, const M: usize, const A: usize>(
    isa: Isa,
    g: &Geometry,
    x: &[f32],
    dy: &[f32],
) -> Vec<f32> {
    let width = tile::width(isa.lanes());
    let tiles = Tiles::new::<M>(g);
    let size = A * A * g.o.div_ceil(width) * g.c * width;
    let (block, few) = tiles.blocks::<A>(g);
    let (pieces, block) =
        if few || size > SMALL_WEIGHT { (1, SHARED) } else { (PIECES, block.next_multiple_of(64)) };
    let share = tiles.count().div_ceil(pieces);
    let mut sums: Vec<Vec<f32>> = (0..pieces).map(|_| vec![0.0; size]).collect();
    each(pieces > 1, sums.iter_mut().enumerate().collect(), |(piece, sums)| {
        let sums = Shared::new(sums);
        let end = ((piece + 1) * share).min(tiles.count());
        let mut input = Points::new(A * A, g.c, width);
        let mut output = Points::new(A * A, g.o, width);
        for first in (piece * share..end).step_by(block) {
            let range = first..(first + block).min(end);
            input.resize(range.len());
            output.resize(range.len());
            tiles_to_points::<P, M, A>(isa, g, &tiles, x, range.clone(), &mut input, pieces == 1);
            output_to_points::<P, M, A>(isa, g, &tiles, dy, range, &mut output, pieces == 1);
            let jobs = (0..A * A).collect();
            each(pieces == 1, jobs, |point| {
                isa.run(OuterProduct { point, input: &input, output: &output, sums });
            });
        }
    });
    let mut gradient = vec![0.0; g.o * g.c * 9];
    let shared = Shared::new(&mut gradient);
    (0..g.o.div_ceil(width)).into_par_iter().for_each(|panel| {
        isa.run(KernelGradient::<P, M, A> {
            panel,
            sums: &sums,
            channels: (g.o, g.c),
            gradient: shared,
            size: std::marker::PhantomData,
        });
    });
    gradient
}

/// Calls `f` for each item, on all threads or on this one.
fn each<T: Send>(shared: bool, items: Vec<T>, f: impl Fn(T) + Send + Sync) {
    if shared {
        items.into_par_iter().for_each(f);
    } else {
        items.into_iter().for_each(f);
    }
}

/// How the output is cut into tiles of `M` by `M` pixels.
struct Tiles {
    pictures: usize,
    rows: usize,
    columns: usize,
}

impl Tiles {
    fn new<const M: usize>(g: &Geometry) -> Self {
        Self { pictures: g.n, rows: g.out.0.div_ceil(M), columns: g.out.1.div_ceil(M) }
    }

    fn count(&self) -> usize {
        self.pictures * self.rows * self.columns
    }

    /// Picture, row and column of a tile.
    fn place(&self, tile: usize) -> (usize, usize, usize) {
        let (rest, column) = (tile / self.columns, tile % self.columns);
        (rest / self.rows, rest % self.rows, column)
    }

    /// Tiles that one thread should take at a time, and whether there are then too few blocks.
    fn blocks<const A: usize>(&self, g: &Geometry) -> (usize, bool) {
        let block = (BLOCK / (A * A * (g.c + g.o)) / 12 * 12).clamp(12, 192);
        let few = self.count().div_ceil(block) < FEW;
        (block, few)
    }
}

/// Transformed tiles: `[points][panels of channels][tiles][width]`.
struct Points {
    values: Vec<f32>,
    points: usize,
    channels: usize,
    tiles: usize,
    width: usize,
}

thread_local! {
    /// Buffers of transformed tiles, kept from call to call: fresh memory costs more than the
    /// transforms.
    static BUFFERS: RefCell<Vec<Vec<f32>>> = const { RefCell::new(Vec::new()) };
}

impl Drop for Points {
    fn drop(&mut self) {
        let values = std::mem::take(&mut self.values);
        BUFFERS.with_borrow_mut(|buffers| buffers.push(values));
    }
}

impl Points {
    fn new(points: usize, channels: usize, width: usize) -> Self {
        let values = BUFFERS.with_borrow_mut(Vec::pop).unwrap_or_default();
        Self { values, points, channels, tiles: 0, width }
    }

    fn panels(&self) -> usize {
        self.channels.div_ceil(self.width)
    }

    fn resize(&mut self, tiles: usize) {
        self.tiles = tiles;
        self.values.resize(self.points * self.panels() * tiles * self.width, 0.0);
    }

    /// From a point to the next.
    fn step(&self) -> usize {
        self.panels() * self.tiles * self.width
    }

    /// Where a tile's row of a panel begins.
    fn at(&self, point: usize, panel: usize, tile: usize) -> usize {
        ((point * self.panels() + panel) * self.tiles + tile) * self.width
    }
}

/// A transformed weight: `[points][panels of columns][depth][width]`.
struct KernelPoints {
    values: Vec<f32>,
    depth: usize,
    columns: usize,
    width: usize,
}

impl KernelPoints {
    fn at(&self, point: usize, panel: usize) -> usize {
        (point * self.columns.div_ceil(self.width) + panel) * self.depth * self.width
    }
}

fn kernel_points<P: Size<M, A>, const M: usize, const A: usize>(
    isa: Isa,
    weight: &[f32],
    (columns, depth): (usize, usize),
    of: impl Fn(usize, usize, usize) -> usize + Sync,
) -> KernelPoints {
    let width = tile::width(isa.lanes());
    let panels = columns.div_ceil(width);
    // SAFETY: each panel is written in full.
    let values = unsafe { unwritten(A * A * panels * depth * width) };
    let mut points = KernelPoints { values, depth, columns, width };
    let values = &mut std::mem::take(&mut points.values);
    let shared = Shared::new(values);
    (0..panels).into_par_iter().for_each(|panel| {
        isa.run(KernelTransform::<P, _, M, A> {
            panel,
            weight,
            points: &points,
            of: &of,
            values: shared,
            size: std::marker::PhantomData,
        });
    });
    points.values = std::mem::take(values);
    points
}

fn convolve<P: Size<M, A>, const M: usize, const A: usize>(
    isa: Isa,
    g: &Geometry,
    x: &[f32],
    kernel: &KernelPoints,
    y: &mut [f32],
    epilogue: Epilogue<'_, f32>,
) {
    let tiles = Tiles::new::<M>(g);
    let (block, few) = tiles.blocks::<A>(g);
    let block = if few { SHARED } else { block };
    let y = Shared::new(y);
    let firsts = (0..tiles.count()).step_by(block).collect();
    each(!few, firsts, |first| {
        let range = first..(first + block).min(tiles.count());
        let mut input = Points::new(A * A, g.c, kernel.width);
        let mut output = Points::new(A * A, g.o, kernel.width);
        input.resize(range.len());
        output.resize(range.len());
        tiles_to_points::<P, M, A>(isa, g, &tiles, x, range.clone(), &mut input, few);
        let sums = &mut std::mem::take(&mut output.values);
        let shared = Shared::new(sums);
        let jobs = (0..A * A).collect();
        each(few, jobs, |point| {
            isa.run(Product { point, kernel, input: &input, output: &output, sums: shared });
        });
        output.values = std::mem::take(sums);
        let jobs = cut(0..range.len(), few);
        each(few, jobs, |part| {
            isa.run(OutputTransform::<P, M, A> {
                g,
                tiles: &tiles,
                first: range.start,
                part,
                points: &output,
                y,
                epilogue,
                size: std::marker::PhantomData,
            });
        });
    });
}

/// Parts of a range for threads to share, or the whole.
fn cut(range: Range<usize>, shared: bool) -> Vec<Range<usize>> {
    let parts = range.len().min(if shared { 16 } else { 1 });
    (0..parts)
        .map(|i| {
            let at = |i| range.start + i * range.len() / parts;
            at(i)..at(i + 1)
        })
        .collect()
}

fn tiles_to_points<P: Size<M, A>, const M: usize, const A: usize>(
    isa: Isa,
    g: &Geometry,
    tiles: &Tiles,
    x: &[f32],
    range: Range<usize>,
    points: &mut Points,
    shared: bool,
) {
    let values = &mut std::mem::take(&mut points.values);
    let out = Shared::new(values);
    each(shared, cut(0..range.len(), shared), |part| {
        isa.run(InputTransform::<P, M, A> {
            g,
            tiles,
            x,
            first: range.start,
            part,
            points,
            out,
            size: std::marker::PhantomData,
        });
    });
    points.values = std::mem::take(values);
}

fn output_to_points<P: Size<M, A>, const M: usize, const A: usize>(
    isa: Isa,
    g: &Geometry,
    tiles: &Tiles,
    dy: &[f32],
    range: Range<usize>,
    points: &mut Points,
    shared: bool,
) {
    let values = &mut std::mem::take(&mut points.values);
    let out = Shared::new(values);
    each(shared, cut(0..range.len(), shared), |part| {
        isa.run(OutputGradientTransform::<P, M, A> {
            g,
            tiles,
            dy,
            first: range.start,
            part,
            points,
            out,
            size: std::marker::PhantomData,
        });
    });
    points.values = std::mem::take(values);
}

/// `matrix x matrix^T` for a square of vectors; the matrix is known when this is compiled, so that
/// zeros and ones cost nothing.
#[inline(always)]
fn sandwich<S: Simd, const R: usize, const C: usize>(
    simd: S,
    coefficient: impl Fn(usize, usize) -> f32,
    x: [[S::f32s; C]; C],
) -> [[S::f32s; R]; R] {
    let zero = simd.splat_f32s(0.0);
    let mut half = [[zero; C]; R];
    for j in 0..C {
        for i in 0..R {
            half[i][j] = combine(simd, |k| coefficient(i, k), |k| x[k][j], C);
        }
    }
    let mut out = [[zero; R]; R];
    for i in 0..R {
        for j in 0..R {
            out[i][j] = combine(simd, |k| coefficient(j, k), |k| half[i][k], C);
        }
    }
    out
}

#[inline(always)]
fn combine<S: Simd>(
    simd: S,
    coefficient: impl Fn(usize) -> f32,
    x: impl Fn(usize) -> S::f32s,
    count: usize,
) -> S::f32s {
    let mut sum = None;
    for k in 0..count {
        let c = coefficient(k);
        if c == 0.0 {
            continue;
        }
        sum = Some(match sum {
            None if c == 1.0 => x(k),
            None => simd.mul_f32s(simd.splat_f32s(c), x(k)),
            Some(sum) if c == 1.0 => simd.add_f32s(sum, x(k)),
            Some(sum) if c == -1.0 => simd.sub_f32s(sum, x(k)),
            Some(sum) => simd.mul_add_e_f32s(simd.splat_f32s(c), x(k), sum),
        });
    }
    sum.unwrap_or(simd.splat_f32s(0.0))
}

type Known<P> = std::marker::PhantomData<P>;

/// Kernels to points: `G g Gt`, for a panel of columns.
struct KernelTransform<'a, P, F, const M: usize, const A: usize> {
    panel: usize,
    weight: &'a [f32],
    points: &'a KernelPoints,
    /// The place in the weight of a column, a depth and a tap.
    of: &'a F,
    values: Shared<'a, f32>,
    size: Known<P>,
}

impl<P: Size<M, A>, F: Fn(usize, usize, usize) -> usize, const M: usize, const A: usize> WithSimd
    for KernelTransform<'_, P, F, M, A>
{
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let width = self.points.width;
        let first = self.panel * width;
        let columns = width.min(self.points.columns - first);
        let step = (self.of)(1, 0, 0) - (self.of)(0, 0, 0);
        for k in 0..self.points.depth {
            for lane in (0..width).step_by(S::F32_LANES) {
                // Columns beyond the last are zeros.
                let count = S::F32_LANES.min(columns.saturating_sub(lane));
                let mut kernel = [[simd.splat_f32s(0.0); 3]; 3];
                for (tap, value) in kernel.as_flattened_mut().iter_mut().enumerate() {
                    let at = (self.of)(first + lane, k, tap);
                    let mut lanes = [0.0; 16];
                    for (j, lane) in lanes[..count].iter_mut().enumerate() {
                        *lane = self.weight[at + j * step];
                    }
                    *value = f32::load(simd, &lanes);
                }
                let points = sandwich::<S, A, 3>(simd, |i, j| P::MATRICES.kernel[i][j], kernel);
                for (point, value) in points.as_flattened().iter().enumerate() {
                    let at = self.points.at(point, self.panel) + k * width + lane;
                    // SAFETY: no other job has this panel.
                    f32::save(simd, unsafe { self.values.part(at, S::F32_LANES) }, *value);
                }
            }
        }
    }
}

/// Points to the gradient of kernels: `Gt s G`, for a panel of outputs.
struct KernelGradient<'a, P, const M: usize, const A: usize> {
    panel: usize,
    /// `[pieces][points][panels of O][C][width]`.
    sums: &'a [Vec<f32>],
    /// `O` and `C`.
    channels: (usize, usize),
    gradient: Shared<'a, f32>,
    size: Known<P>,
}

impl<P: Size<M, A>, const M: usize, const A: usize> WithSimd for KernelGradient<'_, P, M, A> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (outputs, inputs) = self.channels;
        let width = tile::width(S::F32_LANES);
        let (panels, first) = (outputs.div_ceil(width), self.panel * width);
        let columns = width.min(outputs - first);
        // SAFETY: no other job has these outputs.
        let gradient = unsafe { self.gradient.part(first * inputs * 9, columns * inputs * 9) };
        for c in 0..inputs {
            for lane in (0..columns).step_by(S::F32_LANES) {
                let mut points = [[simd.splat_f32s(0.0); A]; A];
                for (point, value) in points.as_flattened_mut().iter_mut().enumerate() {
                    let at = ((point * panels + self.panel) * inputs + c) * width + lane;
                    for piece in self.sums {
                        *value =
                            simd.add_f32s(*value, f32::load(simd, &piece[at..][..S::F32_LANES]));
                    }
                }
                let kernel = sandwich::<S, 3, A>(simd, |i, j| P::MATRICES.kernel[j][i], points);
                for (tap, value) in kernel.as_flattened().iter().enumerate() {
                    let mut lanes = [0.0; 16];
                    f32::save(simd, &mut lanes, *value);
                    for (j, value) in lanes[..S::F32_LANES.min(columns - lane)].iter().enumerate() {
                        gradient[((lane + j) * inputs + c) * 9 + tap] = *value;
                    }
                }
            }
        }
    }
}

/// Input tiles to points: `Bt d B`.
struct InputTransform<'a, P, const M: usize, const A: usize> {
    g: &'a Geometry,
    tiles: &'a Tiles,
    x: &'a [f32],
    /// The block's first tile, and the tiles of the block to transform.
    first: usize,
    part: Range<usize>,
    points: &'a Points,
    out: Shared<'a, f32>,
    size: Known<P>,
}

impl<P: Size<M, A>, const M: usize, const A: usize> WithSimd for InputTransform<'_, P, M, A> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let g = self.g;
        let zero = simd.splat_f32s(0.0);
        for tile in self.part.clone() {
            let (picture, row, column) = self.tiles.place(self.first + tile);
            // Where each pixel of the tile begins, or nothing for padding.
            let mut starts = [[None; A]; A];
            for i in 0..A {
                let y = (row * M + i).wrapping_sub(g.padding);
                for j in 0..A {
                    let x = (column * M + j).wrapping_sub(g.padding);
                    if y < g.h && x < g.w {
                        starts[i][j] = Some(((picture * g.h + y) * g.w + x) * g.c);
                    }
                }
            }
            for channel in (0..g.c).step_by(S::F32_LANES) {
                let count = S::F32_LANES.min(g.c - channel);
                let mut d = [[zero; A]; A];
                for i in 0..A {
                    for j in 0..A {
                        if let Some(start) = starts[i][j] {
                            d[i][j] = f32::load(simd, &self.x[start + channel..][..count]);
                        }
                    }
                }
                let points = sandwich::<S, A, A>(simd, |i, j| P::MATRICES.input[i][j], d);
                scatter(simd, self.points, self.out, tile, channel, points.as_flattened());
            }
        }
    }
}

/// Writes one tile's vector of channels of all points.
#[inline(always)]
fn scatter<S: Simd>(
    simd: S,
    points: &Points,
    out: Shared<'_, f32>,
    tile: usize,
    channel: usize,
    values: &[S::f32s],
) {
    let width = tile::width(S::F32_LANES);
    let (mut at, step) = (points.at(0, channel / width, tile) + channel % width, points.step());
    for value in values {
        // SAFETY: no other job has this tile.
        f32::save(simd, unsafe { out.part(at, S::F32_LANES) }, *value);
        at += step;
    }
}

/// The output's gradient to points: `A dy At`.
struct OutputGradientTransform<'a, P, const M: usize, const A: usize> {
    g: &'a Geometry,
    tiles: &'a Tiles,
    dy: &'a [f32],
    first: usize,
    part: Range<usize>,
    points: &'a Points,
    out: Shared<'a, f32>,
    size: Known<P>,
}

impl<P: Size<M, A>, const M: usize, const A: usize> WithSimd
    for OutputGradientTransform<'_, P, M, A>
{
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let g = self.g;
        let zero = simd.splat_f32s(0.0);
        for tile in self.part.clone() {
            let (picture, row, column) = self.tiles.place(self.first + tile);
            for channel in (0..g.o).step_by(S::F32_LANES) {
                let count = S::F32_LANES.min(g.o - channel);
                let mut d = [[zero; M]; M];
                for i in 0..M.min(g.out.0 - row * M) {
                    for j in 0..M.min(g.out.1 - column * M) {
                        let y = (picture * g.out.0 + row * M + i) * g.out.1;
                        let at = (y + column * M + j) * g.o + channel;
                        d[i][j] = f32::load(simd, &self.dy[at..][..count]);
                    }
                }
                let points = sandwich::<S, A, M>(simd, |i, j| P::MATRICES.output[j][i], d);
                scatter(simd, self.points, self.out, tile, channel, points.as_flattened());
            }
        }
    }
}

/// Points to output tiles: `At m A`, with bias and activation.
struct OutputTransform<'a, P, const M: usize, const A: usize> {
    g: &'a Geometry,
    tiles: &'a Tiles,
    first: usize,
    part: Range<usize>,
    points: &'a Points,
    y: Shared<'a, f32>,
    epilogue: Epilogue<'a, f32>,
    size: Known<P>,
}

impl<P: Size<M, A>, const M: usize, const A: usize> WithSimd for OutputTransform<'_, P, M, A> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let g = self.g;
        let width = tile::width(S::F32_LANES);
        for tile in self.part.clone() {
            let (picture, row, column) = self.tiles.place(self.first + tile);
            for channel in (0..g.o).step_by(S::F32_LANES) {
                let count = S::F32_LANES.min(g.o - channel);
                let mut points = [[simd.splat_f32s(0.0); A]; A];
                let mut at = self.points.at(0, channel / width, tile) + channel % width;
                for value in points.as_flattened_mut() {
                    *value = f32::load(simd, &self.points.values[at..][..S::F32_LANES]);
                    at += self.points.step();
                }
                let out = sandwich::<S, M, A>(simd, |i, j| P::MATRICES.output[i][j], points);
                for (i, out) in out.iter().enumerate().take(g.out.0 - row * M) {
                    for (j, out) in out.iter().enumerate().take(g.out.1 - column * M) {
                        let y = (picture * g.out.0 + row * M + i) * g.out.1;
                        let at = (y + column * M + j) * g.o + channel;
                        // SAFETY: no other job has this tile.
                        let y = unsafe { self.y.part(at, count) };
                        store(simd, [*out], (channel, at), y, self.epilogue);
                    }
                }
            }
        }
    }
}

/// One point's product: tiles times kernels.
struct Product<'a> {
    point: usize,
    kernel: &'a KernelPoints,
    input: &'a Points,
    output: &'a Points,
    sums: Shared<'a, f32>,
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
struct OuterProduct<'a> {
    point: usize,
    input: &'a Points,
    output: &'a Points,
    sums: Shared<'a, f32>,
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
    let left = std::array::from_fn(|i| left[first % width + i..].as_ptr());
    let right = &output.values[output.at(job.point, panel, 0)..][..tiles * width];
    let sums = tile::zeros::<S, M, V>(simd);
    // SAFETY: both have a row of `width` numbers for each tile, and `first % width + M` is at most
    // `width`.
    let sums = unsafe { multiply(simd, tiles, left, width, right.as_ptr(), width, sums) };
    let at = ((job.point * output.panels() + panel) * input.channels + first) * width;
    // SAFETY: no other job has this point of this piece.
    let out = unsafe { job.sums.part(at, M * width) };
    for (out, sums) in out.chunks_exact_mut(width).zip(sums) {
        for (out, sums) in out.chunks_exact_mut(S::F32_LANES).zip(sums) {
            let sums = simd.add_f32s(f32::load(simd, out), sums);
            f32::save(simd, out, sums);
        }
    }
}
