//! Transforms of pictures to points, and of points back to pictures.

#![allow(clippy::needless_range_loop, reason = "the indices are those of the formulae")]

use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::super::direct::store;
use super::super::{Epilogue, Geometry};
use super::matrices::{Known, Size, sandwich};
use super::points::{Points, Tiles};
use crate::channels_last::element::Element as _;
use crate::channels_last::moments::Part;
use crate::channels_last::shared::Shared;
use crate::channels_last::tile;

/// Input tiles to points: `Bt d B`.
pub(super) struct InputTransform<'a, P, const M: usize, const A: usize> {
    pub(super) g: &'a Geometry,
    pub(super) tiles: &'a Tiles,
    pub(super) x: &'a [f32],
    /// The block's first tile, and the tiles of the block to transform.
    pub(super) first: usize,
    pub(super) part: Range<usize>,
    pub(super) points: &'a Points,
    pub(super) out: Shared<'a, f32>,
    pub(super) size: Known<P>,
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
                let load = |i: usize, j: usize| match starts[i][j] {
                    Some(start) => f32::load(simd, &self.x[start + channel..][..count]),
                    None => zero,
                };
                let store = place::<S, A>(simd, self.points, self.out, tile, channel);
                sandwich::<S, P::Input, A, A>(simd, load, store);
            }
        }
    }
}

/// Writes a tile's vector of channels of a point, given by its row and column.
#[inline(always)]
fn place<'a, S: Simd, const A: usize>(
    simd: S,
    points: &Points,
    out: Shared<'a, f32>,
    tile: usize,
    channel: usize,
) -> impl FnMut(usize, usize, S::f32s) + 'a {
    let width = tile::width(S::F32_LANES);
    let (first, step) = (points.at(0, channel / width, tile) + channel % width, points.step());
    move |i, j, value| {
        let at = first + (i * A + j) * step;
        // SAFETY: no other job has this tile.
        f32::save(simd, unsafe { out.part(at, S::F32_LANES) }, value);
    }
}

/// The output's gradient to points: `A dy At`.
pub(super) struct OutputGradientTransform<'a, P, const M: usize, const A: usize> {
    pub(super) g: &'a Geometry,
    pub(super) tiles: &'a Tiles,
    pub(super) dy: &'a [f32],
    pub(super) first: usize,
    pub(super) part: Range<usize>,
    pub(super) points: &'a Points,
    pub(super) out: Shared<'a, f32>,
    pub(super) size: Known<P>,
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
            let size = (M.min(g.out.0 - row * M), M.min(g.out.1 - column * M));
            for channel in (0..g.o).step_by(S::F32_LANES) {
                let count = S::F32_LANES.min(g.o - channel);
                let load = |i: usize, j: usize| {
                    if i >= size.0 || j >= size.1 {
                        return zero;
                    }
                    let y = (picture * g.out.0 + row * M + i) * g.out.1;
                    let at = (y + column * M + j) * g.o + channel;
                    f32::load(simd, &self.dy[at..][..count])
                };
                let store = place::<S, A>(simd, self.points, self.out, tile, channel);
                sandwich::<S, P::OutputGradient, A, M>(simd, load, store);
            }
        }
    }
}

/// Points to output tiles: `At m A`, with bias and activation.
pub(super) struct OutputTransform<'a, P, const M: usize, const A: usize> {
    pub(super) g: &'a Geometry,
    pub(super) tiles: &'a Tiles,
    pub(super) first: usize,
    pub(super) part: Range<usize>,
    pub(super) points: &'a Points,
    pub(super) y: Shared<'a, f32>,
    pub(super) epilogue: Epilogue<'a, f32>,
    /// Takes the moments of what is written.
    pub(super) measure: Option<&'a mut Part>,
    pub(super) size: Known<P>,
}

impl<P: Size<M, A>, const M: usize, const A: usize> WithSimd for OutputTransform<'_, P, M, A> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let g = self.g;
        let width = tile::width(S::F32_LANES);
        for tile in self.part.clone() {
            let (picture, row, column) = self.tiles.place(self.first + tile);
            let size = (M.min(g.out.0 - row * M), M.min(g.out.1 - column * M));
            if let Some(moments) = &mut self.measure {
                moments.expect(size.0 * size.1);
            }
            for channel in (0..g.o).step_by(S::F32_LANES) {
                let count = S::F32_LANES.min(g.o - channel);
                let from = self.points.at(0, channel / width, tile) + channel % width;
                let load = |i: usize, j: usize| {
                    let at = from + (i * A + j) * self.points.step();
                    f32::load(simd, &self.points.values[at..][..S::F32_LANES])
                };
                let mut out = [[simd.splat_f32s(0.0); M]; M];
                sandwich::<S, P::Output, M, A>(simd, load, |i, j, value| out[i][j] = value);
                if let Some(moments) = &mut self.measure {
                    let fresh = tile == self.part.start;
                    let rows = out[..size.0].iter().flat_map(|row| &row[..size.1]).copied();
                    moments.add(simd, channel, fresh, rows);
                }
                for (i, out) in out.iter().enumerate().take(size.0) {
                    for (j, out) in out.iter().enumerate().take(size.1) {
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
