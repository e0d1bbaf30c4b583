//! `im2col` and its transpose `col2im`, for some channels and output rows of some pictures.

use std::ops::Range;

use super::Geometry;
use crate::values::Float;

/// A part of the column matrix: `rows` of the output of `pictures` consecutive pictures.
///
/// Its columns run over pictures, output rows and output columns, in this order.
#[derive(Clone)]
pub(super) struct Tile {
    pub(super) pictures: usize,
    pub(super) rows: Range<usize>,
}

impl Tile {
    /// Columns of one picture.
    pub(super) fn columns_each(&self, geometry: &Geometry) -> usize {
        self.rows.len() * geometry.out.1
    }

    /// Columns of all pictures.
    pub(super) fn columns(&self, geometry: &Geometry) -> usize {
        self.pictures * self.columns_each(geometry)
    }
}

/// Where a row of the column matrix meets a row of the input: output columns `inside` read the
/// input from `start` on, `stride` apart; the others read padding.
fn meeting(geometry: &Geometry, v: usize) -> (Range<usize>, usize) {
    let (stride, padding) = (geometry.stride, geometry.padding);
    let first = padding.saturating_sub(v).div_ceil(stride);
    let past = (geometry.w + padding).saturating_sub(v).div_ceil(stride).min(geometry.out.1);
    let first = first.min(past);
    (first..past, (first * stride + v).saturating_sub(padding))
}

/// Calls `f(row, at, inside, start)` for each stretch of the column matrix that one output row
/// fills: columns `at` of row `row`. Of these, `inside` reads the input from `start` on; the rest,
/// or all if there is no `start`, reads padding.
fn stretches(
    geometry: &Geometry,
    channels: Range<usize>,
    tile: &Tile,
    mut f: impl FnMut(usize, Range<usize>, Range<usize>, Option<usize>),
) {
    let Geometry { c, h, w, kernel: (kh, kw), stride, padding, out: (_, wo), .. } = *geometry;
    for (block, channel) in channels.enumerate() {
        for u in 0..kh {
            for v in 0..kw {
                let row = (block * kh + u) * kw + v;
                let (inside, start) = meeting(geometry, v);
                for picture in 0..tile.pictures {
                    for (i, y) in tile.rows.clone().enumerate() {
                        let at = picture * tile.columns_each(geometry) + i * wo;
                        let source = (y * stride + u)
                            .checked_sub(padding)
                            .filter(|&y| y < h && !inside.is_empty())
                            .map(|y| ((picture * c + channel) * h + y) * w + start);
                        f(row, at..at + wo, inside.clone(), source);
                    }
                }
            }
        }
    }
}

/// Writes `[channels * K * L, columns]`; `x` begins with the tile's first picture.
pub(super) fn im2col<T: Float>(
    geometry: &Geometry,
    x: &[T],
    channels: Range<usize>,
    tile: &Tile,
    columns: &mut [T],
) {
    let width = tile.columns(geometry);
    stretches(geometry, channels, tile, |row, at, inside, start| {
        let out = &mut columns[row * width..][at];
        let Some(start) = start else { return out.fill(T::zero()) };
        out[..inside.start].fill(T::zero());
        out[inside.end..].fill(T::zero());
        let out = &mut out[inside];
        if geometry.stride == 1 {
            out.copy_from_slice(&x[start..start + out.len()]);
        } else {
            for (out, x) in out.iter_mut().zip(x[start..].iter().step_by(geometry.stride)) {
                *out = *x;
            }
        }
    });
}

/// Adds `[channels * K * L, columns]` to where `im2col` would have read it; `dx` begins with the
/// tile's first picture.
pub(super) fn col2im<T: Float>(
    geometry: &Geometry,
    columns: &[T],
    channels: Range<usize>,
    tile: &Tile,
    dx: &mut [T],
) {
    let width = tile.columns(geometry);
    stretches(geometry, channels, tile, |row, at, inside, start| {
        let Some(start) = start else { return };
        let columns = &columns[row * width..][at][inside];
        if geometry.stride == 1 {
            for (dx, column) in dx[start..start + columns.len()].iter_mut().zip(columns) {
                *dx += *column;
            }
        } else {
            for (dx, column) in dx[start..].iter_mut().step_by(geometry.stride).zip(columns) {
                *dx += *column;
            }
        }
    });
}
