//! Convolution by matrix products, in tiles that stay in cache.
//!
//! A large picture is cut into tiles of some output rows; small pictures are joined, for a matrix
//! with few columns keeps the processor's vectors half empty. The cuts depend on the sizes alone,
//! never on the number of threads. Joined pictures make few products, whose rows are shared out.

use std::ops::Range;

use rayon::iter::{IndexedParallelIterator as _, IntoParallelIterator as _, ParallelIterator as _};
use rayon::slice::ParallelSliceMut as _;

use super::Geometry;
use super::columns::{Tile, col2im, im2col};
use crate::matrix::{Matrix, product, product_in_bands};
use crate::values::Float;

/// Columns that a tile should have.
const COLUMNS: usize = 512;
/// Channels of the input that one piece of the weight gradient covers.
const CHANNELS: usize = 16;
/// Pieces the batch is cut into where there are too few channels to share out.
const PIECES: usize = 8;

impl Geometry {
    /// Pictures that are convolved together.
    fn group(&self) -> usize {
        (COLUMNS / self.pixels().max(1)).clamp(1, self.n.max(1))
    }

    /// The tiles of a group of pictures.
    fn tiles(&self, pictures: usize) -> impl Iterator<Item = Tile> + use<> {
        let rows = self.out.0;
        let step = if self.group() > 1 { rows } else { (COLUMNS / self.out.1).clamp(1, rows) };
        (0..rows)
            .step_by(step)
            .map(move |start| Tile { pictures, rows: start..(start + step).min(rows) })
    }
}

/// Convolves a batch: `[N, C, H, W]` to `[N, O, H', W']`.
pub(super) fn forward<T: Float>(g: &Geometry, x: &[T], weight: &[T]) -> Vec<T> {
    let (pixels, plane) = (g.pixels(), g.h * g.w);
    let mut y = vec![T::zero(); g.n * g.o * pixels];
    if y.is_empty() || g.window() == 0 {
        return y;
    }
    let weight = Matrix::rows(weight, g.o, g.window(), g.window());
    let group = g.group();
    y.par_chunks_mut(group * g.o * pixels).enumerate().for_each(|(index, y)| {
        let pictures = y.len() / (g.o * pixels);
        let x = &x[index * group * g.c * plane..][..pictures * g.c * plane];
        let mut scratch = Scratch::default();
        for tile in g.tiles(pictures) {
            let count = tile.columns(g);
            let at = tile.rows.start * g.out.1;
            if pictures == 1 {
                let columns = scratch.columns(g, x, &tile, at);
                product(&mut y[at..], pixels, weight, columns, false);
            } else {
                let columns = im2col_whole(g, x, &tile, &mut scratch.columns);
                scratch.product.resize(g.o * count, T::zero());
                product_in_bands(&mut scratch.product, weight, columns);
                swap_outer(&scratch.product, y, g.o, pictures, pixels);
            }
        }
    });
    y
}

/// The gradient of the loss in the input: `[N, O, H', W']` to `[N, C, H, W]`.
pub(super) fn input_gradient<T: Float>(g: &Geometry, weight: &[T], dy: &[T]) -> Vec<T> {
    let (pixels, plane, window) = (g.pixels(), g.h * g.w, g.window());
    let mut dx = vec![T::zero(); g.n * g.c * plane];
    if dx.is_empty() || dy.is_empty() {
        return dx;
    }
    let weight = Matrix::rows(weight, g.o, window, window).transposed();
    let group = g.group();
    dx.par_chunks_mut(group * g.c * plane).enumerate().for_each(|(index, dx)| {
        let pictures = dx.len() / (g.c * plane);
        let dy = &dy[index * group * g.o * pixels..][..pictures * g.o * pixels];
        let mut scratch = Scratch::default();
        for tile in g.tiles(pictures) {
            let at = tile.rows.start * g.out.1;
            if pictures == 1 && g.is_pointwise() {
                let dy = Matrix::rows(&dy[at..], g.o, tile.columns(g), pixels);
                product(&mut dx[at..], plane, weight, dy, false);
                continue;
            }
            let count = tile.columns(g);
            scratch.columns.resize(window * count, T::zero());
            let dy = output_columns(g, dy, &tile, &mut scratch.product);
            if pictures == 1 {
                product(&mut scratch.columns, count, weight, dy, false);
            } else {
                product_in_bands(&mut scratch.columns, weight, dy);
            }
            col2im(g, &scratch.columns, 0..g.c, &tile, dx);
        }
    });
    dx
}

/// The gradient of the loss in the weight: `[O, C, K, L]`.
///
/// The weight's input channels are shared out, so that each thread sums over the whole batch alone
/// and nothing is left to add. Where there are too few channels, the batch is cut instead.
pub(super) fn weight_gradient<T: Float>(g: &Geometry, x: &[T], dy: &[T]) -> Vec<T> {
    let kernel = g.kernel.0 * g.kernel.1;
    let mut dw = vec![T::zero(); g.o * g.window()];
    if dw.is_empty() || dy.is_empty() {
        return dw;
    }
    let groups = g.n.div_ceil(g.group());
    let pieces = if g.c >= 2 * CHANNELS { 1 } else { PIECES.min(groups) };
    let jobs: Vec<(Range<usize>, Range<usize>)> = (0..g.c)
        .step_by(CHANNELS)
        .flat_map(|c| (0..pieces).map(move |piece| (c, piece)))
        .map(|(c, piece)| {
            let of = |piece| piece * groups / pieces;
            (c..(c + CHANNELS).min(g.c), of(piece)..of(piece + 1))
        })
        .collect();
    let parts: Vec<(usize, Vec<T>)> = jobs
        .into_par_iter()
        .map(|(channels, groups)| {
            (channels.start, partial_weight_gradient(g, x, dy, channels, groups))
        })
        .collect();
    for (channel, part) in parts {
        let width = part.len() / g.o;
        for (dw, part) in dw.chunks_exact_mut(g.window()).zip(part.chunks_exact(width)) {
            for (dw, part) in dw[channel * kernel..].iter_mut().zip(part) {
                *dw += *part;
            }
        }
    }
    dw
}

/// The weight gradient of some input channels, from some groups of pictures.
fn partial_weight_gradient<T: Float>(
    g: &Geometry,
    x: &[T],
    dy: &[T],
    channels: Range<usize>,
    groups: Range<usize>,
) -> Vec<T> {
    let (pixels, plane, group) = (g.pixels(), g.h * g.w, g.group());
    let width = channels.len() * g.kernel.0 * g.kernel.1;
    let mut dw = vec![T::zero(); g.o * width];
    let mut scratch = Scratch::default();
    for index in groups {
        let first = index * group;
        let pictures = group.min(g.n - first);
        let x = &x[first * g.c * plane..][..pictures * g.c * plane];
        let dy = &dy[first * g.o * pixels..][..pictures * g.o * pixels];
        for tile in g.tiles(pictures) {
            let count = tile.columns(g);
            scratch.columns.resize(width * count, T::zero());
            im2col(g, x, channels.clone(), &tile, &mut scratch.columns);
            let columns = Matrix::rows(&scratch.columns, width, count, count).transposed();
            let dy = output_columns(g, dy, &tile, &mut scratch.product);
            product(&mut dw, width, dy, columns, true);
        }
    }
    dw
}

/// Buffers that one thread reuses from tile to tile.
#[derive(Default)]
struct Scratch<T> {
    columns: Vec<T>,
    product: Vec<T>,
}

impl<T: Float> Scratch<T> {
    /// The column matrix of one picture's tile; the input itself for a pointwise convolution.
    fn columns<'a>(
        &'a mut self,
        g: &Geometry,
        x: &'a [T],
        tile: &Tile,
        at: usize,
    ) -> Matrix<'a, T> {
        if g.is_pointwise() {
            Matrix::rows(&x[at..], g.c, tile.columns(g), g.h * g.w)
        } else {
            im2col_whole(g, x, tile, &mut self.columns)
        }
    }
}

fn im2col_whole<'a, T: Float>(
    g: &Geometry,
    x: &[T],
    tile: &Tile,
    columns: &'a mut Vec<T>,
) -> Matrix<'a, T> {
    let count = tile.columns(g);
    columns.resize(g.window() * count, T::zero());
    im2col(g, x, 0..g.c, tile, columns);
    Matrix::rows(columns, g.window(), count, count)
}

/// The output's gradient as `[O, columns]`: in place for one picture, gathered for several.
fn output_columns<'a, T: Float>(
    g: &Geometry,
    dy: &'a [T],
    tile: &Tile,
    scratch: &'a mut Vec<T>,
) -> Matrix<'a, T> {
    let (pixels, count) = (g.pixels(), tile.columns(g));
    if tile.pictures == 1 {
        return Matrix::rows(&dy[tile.rows.start * g.out.1..], g.o, count, pixels);
    }
    scratch.resize(g.o * count, T::zero());
    swap_outer(dy, scratch, tile.pictures, g.o, pixels);
    Matrix::rows(scratch, g.o, count, count)
}

/// Copies `[a, b, inner]` to `[b, a, inner]`.
fn swap_outer<T: Copy>(from: &[T], to: &mut [T], a: usize, b: usize, inner: usize) {
    for (i, from) in from.chunks_exact(b * inner).enumerate() {
        for (j, from) in from.chunks_exact(inner).enumerate() {
            to[(j * a + i) * inner..][..inner].copy_from_slice(from);
        }
    }
}
