//! Convolution of any kernel and stride as products whose left rows are read where the input lies:
//! no column matrix is written.
//!
//! For each tap of the kernel, a tile of output pixels times the tap's `[C, O]` matrix is added up
//! in registers; a table says where each pixel of a tile finds its input, and padding is found in a
//! row of zeros (Dukhan, "The Indirect Convolution Algorithm", 2019).

use std::ops::Range;

use pulp::{Simd, WithSimd};
use rayon::iter::{
    IndexedParallelIterator as _, IntoParallelIterator as _, IntoParallelRefIterator as _,
    ParallelIterator as _,
};

use super::panels::{Order, Panels, pack_rows, unpack};
use super::places::{Pixels, Place};
#[cfg(target_arch = "x86_64")]
use super::tiled;
use super::view::{Class, View, spread, whole_groups};
use super::{Epilogue, Geometry};
#[cfg(target_arch = "x86_64")]
use crate::amx;
use crate::buffer::unwritten;
use crate::channels_last::element::{Element, Rows, join_rows};
use crate::channels_last::moments::Part;
use crate::channels_last::shared::Shared;
use crate::channels_last::tile::{self, by_size, expect_write};
use crate::isa::{Isa, Pairs};

/// Output pixels that are worked on together: a multiple of all tiles' rows.
const PIXELS: usize = 192;
/// Pixels that the weight's gradient takes at a time: what a panel of them needs stays in cache.
const DEPTH: usize = 128;
/// Pieces of work that there should be at least, so that threads can share them.
const JOBS: usize = 16;
/// Numbers of a weight up to which its gradient is summed in pieces of the batch.
const SMALL_WEIGHT: usize = 1 << 18;

/// Convolves a batch: `[N, H, W, C]` to `[N, H', W', O]`; `measured`, with the moments of what comes
/// out.
pub(super) fn forward<T: Element>(
    isa: Isa,
    g: &Geometry,
    x: &[T],
    weight: &[f32],
    epilogue: Epilogue<'_, T>,
    measured: bool,
) -> (Vec<T>, Vec<Part>) {
    // SAFETY: every output pixel and channel belongs to a job that writes it.
    let mut y = unsafe { unwritten(g.n * g.pixels() * g.o) };
    let view = View::new(g, x);
    let weight = &Panels::pack(isa, view.order, weight);
    let taps = &view.taps();
    let out = Shared::new(&mut y);
    let all = together::<T>(isa, Pixels { pictures: g.n, size: g.out, together: 1 });
    let parts = jobs(&[all.count()], weight.count()).into_par_iter().map(|job| {
        let Job { pixels, panels, .. } = job;
        let places = all.places(pixels);
        let mut starts = view.starts(taps, &places);
        let _copies = spread(&mut starts, weight.order);
        let to = |place: &Place| ((place.picture * g.out.0 + place.y) * g.out.1 + place.x) * g.o;
        let to: Vec<usize> = places.iter().map(to).collect();
        let columns = panels.start * weight.width..(panels.end * weight.width).min(g.o);
        let mut part = measured.then(|| Part::new(columns.start, columns.len(), to.len()));
        let (starts, zeros, to, measure) = (&starts, &view.zeros[..], &to, part.as_mut());
        let product = |pairs| Product {
            pairs,
            weight,
            taps,
            panels,
            starts,
            zeros,
            to,
            out,
            epilogue,
            measure,
        };
        T::run(isa, product);
        part
    });
    let parts = parts.collect::<Vec<_>>().into_iter().flatten().collect();
    (y, parts)
}

/// The gradient of the loss in the input: `[N, H', W', O]` to `[N, H, W, C]`, added to `others`.
///
/// Input pixels whose places have the same remainders by the stride are met by the same taps; each
/// such class is a convolution of the output's gradient.
pub(super) fn input_gradient<T: Element>(
    isa: Isa,
    g: &Geometry,
    weight: &[f32],
    dy: &[T],
    others: Option<&[T]>,
) -> Vec<T> {
    // SAFETY: every input pixel and channel belongs to a job that writes it.
    let mut dx = unsafe { unwritten(g.n * g.h * g.w * g.c) };
    let depth = g.o.next_multiple_of(T::GROUP);
    let dy = &*whole_groups((g.out.0, g.out.1, g.o), dy);
    let weight = &Panels::pack(isa, Order::backward(g, depth), weight);
    let zeros = &vec![T::zero(); depth][..];
    let classes: Vec<Class> = (0..g.stride.min(g.h))
        .flat_map(|row| (0..g.stride.min(g.w)).map(move |column| Class::new(g, row, column)))
        .collect();
    let out = Shared::new(&mut dx);
    let all: Vec<Pixels> = classes
        .iter()
        .map(|class| Pixels { pictures: g.n, size: class.size, together: 1 })
        .map(|pixels| together::<T>(isa, pixels))
        .collect();
    let sizes: Vec<usize> = all.iter().map(Pixels::count).collect();
    jobs(&sizes, weight.count()).into_par_iter().for_each(|Job { part, pixels, panels }| {
        let class = &classes[part];
        let places = all[part].places(pixels);
        let mut starts = class.starts(g, dy, zeros, &places);
        let _copies = spread(&mut starts, weight.order);
        let to: Vec<usize> = places.iter().map(|place| class.place(g, *place) * g.c).collect();
        let (taps, starts, to, measure) = (&class.taps, &starts, &to, None);
        let epilogue = Epilogue { residual: others, ..Epilogue::default() };
        let product = |pairs| Product {
            pairs,
            weight,
            taps,
            panels,
            starts,
            zeros,
            to,
            out,
            epilogue,
            measure,
        };
        T::run(isa, product);
    });
    dx
}

/// The gradient of the loss in the weight: `[O, C, K, L]`.
///
/// Where the weight is small, pieces of the batch are summed apart and then together; where it is
/// large, its input channels are shared out.
pub(super) fn weight_gradient<T: Element>(isa: Isa, g: &Geometry, x: &[T], dy: &[T]) -> Vec<f32> {
    let view = View::new(g, x);
    let (order, width) = (view.order, tile::width(isa.lanes()));
    let size = order.columns.div_ceil(width) * order.panel(width);
    let total = g.n * g.pixels();
    let pieces = if size <= SMALL_WEIGHT { total.div_ceil(DEPTH).clamp(1, JOBS) } else { 1 };
    let rows = if pieces > 1 {
        order.depth
    } else {
        order.depth.div_ceil(JOBS).next_multiple_of(tile::rows(isa.lanes()))
    };
    let taps = view.taps();
    // SAFETY: the first block of each piece, of which there is at least one, writes the sums of the
    // taps that meet the input; nobody reads the others.
    let mut sums: Vec<Vec<f32>> = (0..pieces).map(|_| unsafe { unwritten(size) }).collect();
    let work: Vec<(Shared<'_, f32>, Range<usize>, Range<usize>)> = sums
        .iter_mut()
        .enumerate()
        .flat_map(|(piece, sums)| {
            let sums = Shared::new(sums);
            let pixels = piece * total / pieces..(piece + 1) * total / pieces;
            (0..order.depth)
                .step_by(rows.max(1))
                .map(move |first| (sums, pixels.clone(), first..(first + rows).min(order.depth)))
        })
        .collect();
    let pack = |pixels: Range<usize>, block: &mut Block<T>| {
        let all = Pixels { pictures: g.n, size: g.out, together: 1 };
        block.starts = view.starts(&taps, &all.places(pixels.clone()));
        block.joined.clear();
        for starts in block.starts.chunks(pixels.len()) {
            // SAFETY: the view's rows are as long as its order is deep.
            unsafe { join_rows(starts, order.depth, &mut block.joined) };
        }
        pack_rows(&dy[pixels.start * g.o..pixels.end * g.o], g.o, width, &mut block.panels);
    };
    // Jobs that share out channels all need the same blocks.
    let packed: Vec<Block<T>> = if pieces == 1 {
        let firsts = (0..total).into_par_iter().step_by(DEPTH);
        let block = |first: usize| {
            let mut block = Block::default();
            pack(first..(first + DEPTH).min(total), &mut block);
            block
        };
        firsts.map(block).collect()
    } else {
        Vec::new()
    };
    work.par_iter().for_each(|(sums, pixels, channels)| {
        let mut own = Block::default();
        for first in pixels.clone().step_by(DEPTH) {
            let count = DEPTH.min(pixels.end - first);
            let block = packed.get(first / DEPTH).unwrap_or_else(|| {
                pack(first..first + count, &mut own);
                &own
            });
            let (taps, channels, sums) = (&taps, channels.clone(), *sums);
            let fresh = first == pixels.start;
            let product =
                |pairs| OuterProduct { pairs, order, taps, block, count, channels, sums, fresh };
            T::run(isa, product);
        }
    });
    unpack(&order, &taps, width, &sums, g.o * g.c * g.kernel.0 * g.kernel.1)
}

/// Some pixels, as the weight's gradient multiplies them.
struct Block<T: Element> {
    /// `[taps][pixels]`: where the input of each begins.
    starts: Vec<*const T>,
    /// `[taps][pixels / GROUP][depth]`, or nothing.
    joined: Vec<T::Group>,
    /// The output's gradient.
    panels: Vec<T::Group>,
}

// SAFETY: the pointers are into the input, which threads only read.
unsafe impl<T: Element> Send for Block<T> {}
// SAFETY: as above.
unsafe impl<T: Element> Sync for Block<T> {}

impl<T: Element> Default for Block<T> {
    fn default() -> Self {
        Self { starts: Vec::new(), joined: Vec::new(), panels: Vec::new() }
    }
}

/// The order of the pixels in which they are fastest to work on.
fn together<T: Element>(isa: Isa, pixels: Pixels) -> Pixels {
    #[cfg(target_arch = "x86_64")]
    if isa == Isa::AmxBf16 && T::GROUP > 1 {
        return tiled::together(pixels);
    }
    let _ = isa;
    pixels
}

/// Some pixels of a part, and some panels of the weight.
struct Job {
    part: usize,
    pixels: Range<usize>,
    panels: Range<usize>,
}

/// Shares out parts of so many pixels, and the panels too where there are few pixels.
fn jobs(parts: &[usize], panels: usize) -> Vec<Job> {
    let blocks: usize = parts.iter().map(|pixels| pixels.div_ceil(PIXELS)).sum();
    let groups = JOBS.div_ceil(blocks.max(1)).clamp(1, panels.max(1));
    let mut jobs = Vec::with_capacity(blocks * groups);
    for (part, &pixels) in parts.iter().enumerate() {
        for first in (0..pixels).step_by(PIXELS) {
            for group in 0..groups {
                jobs.push(Job {
                    part,
                    pixels: first..(first + PIXELS).min(pixels),
                    panels: group * panels / groups..(group + 1) * panels / groups,
                });
            }
        }
    }
    jobs
}

/// `out[to[i]..] = sum over taps of starts[tap][i] * weight[tap]`, for some panels of columns.
pub(super) struct Product<'a, T: Element> {
    pairs: Pairs,
    pub(super) weight: &'a Panels<T>,
    pub(super) taps: &'a [usize],
    pub(super) panels: Range<usize>,
    pub(super) starts: &'a [*const T],
    /// The row that padding is found in.
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "only AMX skips it"))]
    pub(super) zeros: &'a [T],
    pub(super) to: &'a [usize],
    pub(super) out: Shared<'a, T>,
    pub(super) epilogue: Epilogue<'a, T>,
    /// Takes the sums' moments; its columns are those of the panels.
    pub(super) measure: Option<&'a mut Part>,
}

impl<T: Element> WithSimd for Product<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        #[cfg(target_arch = "x86_64")]
        if self.pairs == Pairs::Tiles && S::F32_LANES == amx::TILE {
            tiled::product(self, simd);
            return;
        }
        for panel in self.panels.clone() {
            let first = panel * self.weight.width;
            let columns = self.weight.width.min(self.weight.order.columns - first);
            let vectors = columns.div_ceil(S::F32_LANES);
            for (at, rows) in tile::cut(0..self.to.len(), S::F32_LANES) {
                by_size!(rows, vectors, product_tile::<S>(&mut self, simd, panel, columns, at));
            }
        }
    }
}

#[inline(always)]
fn product_tile<S: Simd, const M: usize, const V: usize>(
    job: &mut Product<'_, impl Element>,
    simd: S,
    panel: usize,
    columns: usize,
    at: usize,
) {
    job.tile::<S, M, V>(simd, panel, columns, at);
}

impl<T: Element> Product<'_, T> {
    #[inline(always)]
    fn tile<S: Simd, const M: usize, const V: usize>(
        &mut self,
        simd: S,
        panel: usize,
        columns: usize,
        at: usize,
    ) {
        let Panels { groups, order, width } = self.weight;
        let (depth, pixels) = (order.depth / T::GROUP, self.to.len());
        let groups = &groups[panel * self.weight.size()..][..self.weight.size()];
        let first = panel * width;
        for &to in &self.to[at..][..M] {
            // SAFETY: no other job has this pixel and this panel.
            expect_write(unsafe { self.out.part(to + first, columns) });
        }
        let mut sums = tile::zeros::<S, M, V>(simd);
        for (row, &tap) in self.taps.iter().enumerate() {
            let starts = &self.starts[row * pixels + at..][..M];
            let panel = groups[tap * depth * width..][..depth * width].as_ptr();
            let left = std::array::from_fn(|i| starts[i].cast());
            // SAFETY: each start has `depth` groups behind it, of the input or of the row of zeros,
            // and the panel has `depth` rows of `width` groups, at least V vectors.
            sums = unsafe { T::multiply(simd, self.pairs, depth, (left, 1), panel, *width, sums) };
        }
        if let Some(part) = &mut self.measure {
            for j in 0..V {
                let column = first - self.panels.start * width + j * S::F32_LANES;
                part.add(simd, column, at == 0, sums.iter().map(|row| row[j]));
            }
        }
        for (row, &to) in sums.iter().zip(&self.to[at..][..M]) {
            // SAFETY: no other job has this pixel and this panel.
            let out = unsafe { self.out.part(to + first, columns) };
            store(simd, *row, (first, to + first), out, self.epilogue);
        }
    }
}

/// Writes some columns of a row, from a column on: `out` is where they lie in the result, at `at`.
#[inline(always)]
pub(super) fn store<S: Simd, T: Element, const V: usize>(
    simd: S,
    row: [S::f32s; V],
    (column, at): (usize, usize),
    out: &mut [T],
    epilogue: Epilogue<'_, T>,
) {
    for (j, mut sums) in row.into_iter().enumerate() {
        let skip = (j * S::F32_LANES).min(out.len());
        let out = &mut out[skip..];
        let count = out.len().min(S::F32_LANES);
        if let Some(scale) = epilogue.scale {
            sums = simd.mul_f32s(sums, f32::load(simd, &scale[column + skip..][..count]));
        }
        if let Some(bias) = epilogue.bias {
            sums = simd.add_f32s(sums, f32::load(simd, &bias[column + skip..][..count]));
        }
        if let Some(residual) = epilogue.residual {
            sums = simd.add_f32s(sums, T::load(simd, &residual[at + skip..][..count]));
        }
        if epilogue.relu {
            // Written so that a NaN comes through.
            let negative = simd.less_than_f32s(sums, simd.splat_f32s(0.0));
            sums = simd.select_f32s(negative, simd.splat_f32s(0.0), sums);
        }
        T::save(simd, &mut out[..count], sums);
    }
}

/// `sums[panel][tap][channel] += sum over pixels of input[tap][pixel][channel] panels[panel][pixel]`.
struct OuterProduct<'a, T: Element> {
    pairs: Pairs,
    order: Order,
    taps: &'a [usize],
    block: &'a Block<T>,
    /// Pixels.
    count: usize,
    channels: Range<usize>,
    sums: Shared<'a, f32>,
    /// Whether nothing has been written to the sums yet.
    fresh: bool,
}

impl<T: Element> WithSimd for OuterProduct<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let width = tile::width(S::F32_LANES);
        let panels = self.order.columns.div_ceil(width);
        for (first, rows) in tile::cut(self.channels.clone(), S::F32_LANES) {
            for row in 0..self.taps.len() {
                for panel in 0..panels {
                    let columns = self.order.columns - panel * width;
                    let vectors = columns.div_ceil(S::F32_LANES);
                    by_size!(
                        rows,
                        vectors,
                        outer_tile::<S>(&self, simd, (panel, row, first), width)
                    );
                }
            }
        }
    }
}

#[inline(always)]
fn outer_tile<S: Simd, const M: usize, const V: usize>(
    job: &OuterProduct<'_, impl Element>,
    simd: S,
    at: (usize, usize, usize),
    width: usize,
) {
    job.tile::<S, M, V>(simd, at, width);
}

impl<T: Element> OuterProduct<'_, T> {
    #[inline(always)]
    fn tile<S: Simd, const M: usize, const V: usize>(
        &self,
        simd: S,
        (panel, row, first): (usize, usize, usize),
        width: usize,
    ) {
        let (block, depth) = (self.block, self.order.depth);
        let groups = self.count.div_ceil(T::GROUP);
        let joined = block.joined.get(row * groups * depth..(row + 1) * groups * depth);
        let starts = &block.starts[row * self.count..][..self.count];
        let rows = Rows { starts, joined: joined.unwrap_or_default(), depth };
        let right = block.panels[panel * groups * width..][..groups * width].as_ptr();
        let sums = tile::zeros::<S, M, V>(simd);
        // SAFETY: each start has the channels up to `first + M` behind it, and `right` has a row of
        // `width` groups, at least V vectors, for each group of starts.
        let sums = unsafe { T::multiply_rows(simd, self.pairs, &rows, first, right, width, sums) };
        let at = self.order.panel(width) * panel + (self.taps[row] * depth + first) * width;
        // SAFETY: no other job has these channels of this piece.
        let out = unsafe { self.sums.part(at, M * width) };
        for (out, sums) in out.chunks_exact_mut(width).zip(sums) {
            for (j, out) in out.chunks_exact_mut(S::F32_LANES).enumerate() {
                match (sums.get(j), self.fresh) {
                    (Some(sums), true) => f32::save(simd, out, *sums),
                    (Some(sums), false) => {
                        let sums = simd.add_f32s(f32::load(simd, out), *sums);
                        f32::save(simd, out, sums);
                    }
                    (None, true) => out.fill(0.0),
                    (None, false) => {}
                }
            }
        }
    }
}
