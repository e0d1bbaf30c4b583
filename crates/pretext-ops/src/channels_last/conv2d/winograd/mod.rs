//! Convolution of 3x3 kernels with stride 1 by fewer multiplications (Winograd, 1980; Lavin and
//! Gray, "Fast Algorithms for Convolutional Neural Networks", 2016).
//!
//! A tile of `M` by `M` output pixels needs `A` by `A` input pixels, `A = M + 2`. Tile and kernel
//! are transformed, multiplied point by point, and transformed back: `y = At [(G g Gt) (Bt d B)] A`.
//! Summed over channels, each of the `A A` points is a matrix product. `F(4x4)` multiplies 36 times
//! where the definition does 144 times, `F(2x2)` 16 times for 36; the price is rounding.
//! The gradients are the same sums read backwards: the input's is a convolution with the kernel
//! turned, the weight's is `Gt [sum (Bt d B) (A dy At)] G`.

mod kernels;
mod matrices;
mod pictures;
mod points;
mod products;

use std::ops::Range;

use rayon::iter::{IntoParallelIterator as _, ParallelIterator as _};

use self::kernels::{KernelGradient, KernelTransform};
use self::matrices::Size;
pub(super) use self::matrices::{F2, F4};
use self::pictures::{InputTransform, OutputGradientTransform, OutputTransform};
use self::points::{KernelPoints, Points, Tiles};
use self::products::{OuterProduct, Product};
use super::{Epilogue, Geometry};
use crate::buffer::unwritten;
use crate::channels_last::moments::Part;
use crate::channels_last::shared::Shared;
use crate::channels_last::tile;
use crate::isa::Isa;

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

/// Convolves a batch: `[N, H, W, C]` to `[N, H', W', O]`; `measured`, with the moments of what comes
/// out.
pub(super) fn forward<P: Size<M, A>, const M: usize, const A: usize>(
    isa: Isa,
    g: &Geometry,
    x: &[f32],
    weight: &[f32],
    epilogue: Epilogue<'_, f32>,
    measured: bool,
) -> (Vec<f32>, Vec<Part>) {
    // SAFETY: every output pixel and channel belongs to a job that writes it.
    let mut y = unsafe { unwritten(g.n * g.pixels() * g.o) };
    let of = |o, c, tap| (o * g.c + c) * 9 + tap;
    let points = kernel_points::<P, M, A>(isa, weight, (g.o, g.c), of);
    let parts = convolve::<P, M, A>(isa, g, x, &points, &mut y, (epilogue, measured));
    (y, parts)
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
    convolve::<P, M, A>(isa, &turned, dy, &points, &mut dx, (epilogue, false));
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
    let pieces = tiles.count().div_ceil(share);
    // SAFETY: the first of a piece's blocks, of which there is at least one, writes all sums.
    let mut sums: Vec<Vec<f32>> = (0..pieces).map(|_| unsafe { unwritten(size) }).collect();
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
            let fresh = first == piece * share;
            each(pieces == 1, jobs, |point| {
                isa.run(OuterProduct { point, input: &input, output: &output, sums, fresh });
            });
        }
    });
    // SAFETY: each panel of outputs is written in full.
    let mut gradient = unsafe { unwritten(g.o * g.c * 9) };
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

/// Calls `f` for each item, on all threads or on this one; what it returns, in order.
fn each<T: Send, R: Send>(shared: bool, items: Vec<T>, f: impl Fn(T) -> R + Send + Sync) -> Vec<R> {
    if shared { items.into_par_iter().map(f).collect() } else { items.into_iter().map(f).collect() }
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
    (epilogue, measured): (Epilogue<'_, f32>, bool),
) -> Vec<Part> {
    let tiles = Tiles::new::<M>(g);
    let (block, few) = tiles.blocks::<A>(g);
    let block = if few { SHARED } else { block };
    let y = Shared::new(y);
    let firsts = (0..tiles.count()).step_by(block).collect();
    let parts = each(!few, firsts, |first| {
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
            let mut moments = measured.then(|| Part::new(0, g.o, 0));
            isa.run(OutputTransform::<P, M, A> {
                g,
                tiles: &tiles,
                first: range.start,
                part,
                points: &output,
                y,
                epilogue,
                measure: moments.as_mut(),
                size: std::marker::PhantomData,
            });
            moments
        })
    });
    parts.into_iter().flatten().flatten().collect()
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
