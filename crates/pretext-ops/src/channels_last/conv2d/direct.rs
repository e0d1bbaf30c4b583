//! Convolution of any kernel and stride as products whose left rows are read where the input lies:
//! no column matrix is written.
//!
//! For each tap of the kernel, a tile of output pixels times the tap's `[C, O]` matrix is added up
//! in registers; a table says where each pixel of a tile finds its input, and padding is found in a
//! row of zeros (Dukhan, "The Indirect Convolution Algorithm", 2019).

use std::borrow::Cow;
use std::ops::Range;

use pulp::{Simd, WithSimd};
use rayon::iter::{
    IndexedParallelIterator as _, IntoParallelIterator as _, IntoParallelRefIterator as _,
    ParallelIterator as _,
};

use super::panels::{Order, Panels, pack_rows, pad, unpack};
use super::{Epilogue, Geometry};
use crate::buffer::unwritten;
use crate::channels_last::shared::Shared;
use crate::channels_last::tile::{
    self, LINE, by_size, expect_write, load, multiply, multiply_gathered, save,
};
use crate::isa::Isa;

/// Output pixels that are worked on together: a multiple of all tiles' rows.
const PIXELS: usize = 192;
/// Pixels that the weight's gradient takes at a time: what a panel of them needs stays in cache.
const DEPTH: usize = 128;
/// Pieces of work that there should be at least, so that threads can share them.
const JOBS: usize = 16;
/// Depth up to which a kernel's row is taken as one tap.
const SHALLOW: usize = 32;
/// Numbers of a weight up to which its gradient is summed in pieces of the batch.
const SMALL_WEIGHT: usize = 1 << 18;

/// Convolves a batch: `[N, H, W, C]` to `[N, H', W', O]`.
pub(super) fn forward(
    isa: Isa,
    g: &Geometry,
    x: &[f32],
    weight: &[f32],
    epilogue: Epilogue<'_>,
) -> Vec<f32> {
    // SAFETY: every output pixel and channel belongs to a job that writes it.
    let mut y = unsafe { unwritten(g.n * g.pixels() * g.o) };
    let view = View::new(g, x);
    let weight = Panels::pack(isa, view.order, weight);
    let taps = view.taps();
    let out = Shared::new(&mut y);
    let jobs = jobs(&[g.n * g.pixels()], weight.count());
    jobs.into_par_iter().for_each(|Job { pixels, panels, .. }| {
        let mut starts = view.starts(&taps, pixels.clone());
        let _copies = spread(&mut starts, weight.order);
        let to: Vec<usize> = pixels.map(|pixel| pixel * g.o).collect();
        let to = &to;
        let weight = &weight;
        isa.run(Product { weight, taps: &taps, panels, starts: &starts, to, out, epilogue });
    });
    y
}

/// The gradient of the loss in the input: `[N, H', W', O]` to `[N, H, W, C]`.
///
/// Input pixels whose places have the same remainders by the stride are met by the same taps; each
/// such class is a convolution of the output's gradient.
pub(super) fn input_gradient(isa: Isa, g: &Geometry, weight: &[f32], dy: &[f32]) -> Vec<f32> {
    // SAFETY: every input pixel and channel belongs to a job that writes it.
    let mut dx = unsafe { unwritten(g.n * g.h * g.w * g.c) };
    let weight = Panels::pack(isa, Order::backward(g), weight);
    let zeros = vec![0.0; g.o];
    let classes: Vec<Class> = (0..g.stride.min(g.h))
        .flat_map(|row| (0..g.stride.min(g.w)).map(move |column| Class::new(g, row, column)))
        .collect();
    let out = Shared::new(&mut dx);
    let sizes: Vec<usize> = classes.iter().map(|class| g.n * class.pixels()).collect();
    jobs(&sizes, weight.count()).into_par_iter().for_each(|Job { part, pixels, panels }| {
        let class = &classes[part];
        let mut starts = class.starts(g, dy, &zeros, pixels.clone());
        let _copies = spread(&mut starts, weight.order);
        let to: Vec<usize> = pixels.map(|pixel| class.place(g, pixel) * g.c).collect();
        let (weight, to, epilogue) = (&weight, &to, Epilogue::default());
        isa.run(Product { weight, taps: &class.taps, panels, starts: &starts, to, out, epilogue });
    });
    dx
}

/// The gradient of the loss in the weight: `[O, C, K, L]`.
///
/// Where the weight is small, pieces of the batch are summed apart and then together; where it is
/// large, its input channels are shared out.
pub(super) fn weight_gradient(isa: Isa, g: &Geometry, x: &[f32], dy: &[f32]) -> Vec<f32> {
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
    let mut sums: Vec<Vec<f32>> = (0..pieces).map(|_| vec![0.0; size]).collect();
    let work: Vec<(Shared<'_>, Range<usize>, Range<usize>)> = sums
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
    let pack = |pixels: &Range<usize>, panels: &mut Vec<f32>| {
        pack_rows(&dy[pixels.start * g.o..pixels.end * g.o], g.o, width, panels);
    };
    // Jobs that share out channels all need the same panels.
    let packed: Vec<Vec<f32>> = if pieces == 1 {
        let blocks = (0..total).into_par_iter().step_by(DEPTH);
        let block = |first: usize| {
            let mut panels = Vec::new();
            pack(&(first..(first + DEPTH).min(total)), &mut panels);
            panels
        };
        blocks.map(block).collect()
    } else {
        Vec::new()
    };
    work.par_iter().for_each(|(sums, pixels, channels)| {
        let mut own = Vec::new();
        for first in pixels.clone().step_by(DEPTH) {
            let pixels = first..(first + DEPTH).min(pixels.end);
            let starts = view.starts(&taps, pixels.clone());
            let panels = packed.get(first / DEPTH).unwrap_or_else(|| {
                pack(&pixels, &mut own);
                &own
            });
            isa.run(OuterProduct {
                order,
                taps: &taps,
                starts: &starts,
                count: pixels.len(),
                channels: channels.clone(),
                panels,
                sums: *sums,
            });
        }
    });
    unpack(&order, width, &sums, g.o * g.c * g.kernel.0 * g.kernel.1)
}

/// The input as the taps see it.
struct View<'a> {
    g: Geometry,
    x: Cow<'a, [f32]>,
    order: Order,
    zeros: Vec<f32>,
}

impl<'a> View<'a> {
    /// A shallow input is padded, so that a row of the kernel is one tap of some depth.
    fn new(g: &Geometry, x: &'a [f32]) -> Self {
        if g.kernel.1 > 1 && g.kernel.1 * g.c <= SHALLOW {
            let (h, w) = (g.h + 2 * g.padding, g.w + 2 * g.padding);
            let x = Cow::Owned(pad(g, x));
            let order = Order::by_rows(g);
            let g = Geometry { h, w, padding: 0, kernel: (g.kernel.0, 1), ..*g };
            return Self { g, x, order, zeros: Vec::new() };
        }
        Self { g: *g, x: Cow::Borrowed(x), order: Order::forward(g), zeros: vec![0.0; g.c] }
    }

    /// The taps that meet the input anywhere.
    fn taps(&self) -> Vec<usize> {
        let g = &self.g;
        let meets = |tap: usize, extent: usize, out: usize| {
            (0..out).any(|i| (g.padding..extent + g.padding).contains(&(i * g.stride + tap)))
        };
        let (kh, kw) = g.kernel;
        let taps = (0..kh * kw)
            .filter(|tap| meets(tap / kw, g.h, g.out.0) && meets(tap % kw, g.w, g.out.1));
        taps.collect()
    }

    /// `[taps][pixels]`: where the input of each output pixel begins.
    fn starts(&self, taps: &[usize], pixels: Range<usize>) -> Vec<*const f32> {
        let g = &self.g;
        let mut starts = Vec::with_capacity(taps.len() * pixels.len());
        for tap in taps {
            let (u, v) = (tap / g.kernel.1, tap % g.kernel.1);
            for (picture, y, x) in Places::new(pixels.clone(), g.out) {
                let y = (y * g.stride + u).wrapping_sub(g.padding);
                let x = (x * g.stride + v).wrapping_sub(g.padding);
                starts.push(if y < g.h && x < g.w {
                    self.x[((picture * g.h + y) * g.w + x) * g.c..].as_ptr()
                } else {
                    self.zeros.as_ptr()
                });
            }
        }
        starts
    }
}

/// Input pixels that the same taps meet.
struct Class {
    row: usize,
    column: usize,
    /// Its rows and columns.
    size: (usize, usize),
    taps: Vec<usize>,
}

impl Class {
    fn new(g: &Geometry, row: usize, column: usize) -> Self {
        let (kh, kw) = g.kernel;
        let meets = |place: usize, tap: usize| (place + g.padding) % g.stride == tap % g.stride;
        let taps =
            (0..kh * kw).filter(|tap| meets(row, tap / kw) && meets(column, tap % kw)).collect();
        let size = ((g.h - row).div_ceil(g.stride), (g.w - column).div_ceil(g.stride));
        Self { row, column, size, taps }
    }

    fn pixels(&self) -> usize {
        self.size.0 * self.size.1
    }

    fn input(&self, g: &Geometry, (_, y, x): (usize, usize, usize)) -> (usize, usize) {
        (self.row + y * g.stride, self.column + x * g.stride)
    }

    /// The place of one of the class's pixels among all.
    fn place(&self, g: &Geometry, pixel: usize) -> usize {
        let (picture, rest) = (pixel / self.pixels(), pixel % self.pixels());
        let (y, x) = self.input(g, (picture, rest / self.size.1, rest % self.size.1));
        (picture * g.h + y) * g.w + x
    }

    /// `[taps][pixels]`: where the output's gradient of each input pixel begins.
    fn starts(
        &self,
        g: &Geometry,
        dy: &[f32],
        zeros: &[f32],
        pixels: Range<usize>,
    ) -> Vec<*const f32> {
        let mut starts = Vec::with_capacity(self.taps.len() * pixels.len());
        for tap in &self.taps {
            let (u, v) = (tap / g.kernel.1, tap % g.kernel.1);
            for place in Places::new(pixels.clone(), self.size) {
                let (y, x) = self.input(g, place);
                // Both are multiples of the stride, or so far below zero that they are out of range.
                let y = (y + g.padding).wrapping_sub(u) / g.stride;
                let x = (x + g.padding).wrapping_sub(v) / g.stride;
                starts.push(if y < g.out.0 && x < g.out.1 {
                    dy[((place.0 * g.out.0 + y) * g.out.1 + x) * g.o..].as_ptr()
                } else {
                    zeros.as_ptr()
                });
            }
        }
        starts
    }
}

/// Pictures, rows and columns of consecutive pixels.
struct Places {
    at: (usize, usize, usize),
    size: (usize, usize),
    left: usize,
}

impl Places {
    fn new(pixels: Range<usize>, size: (usize, usize)) -> Self {
        let (first, area) = (pixels.start, (size.0 * size.1).max(1));
        let at = (first / area, first % area / size.1.max(1), first % size.1.max(1));
        Self { at, size, left: pixels.len() }
    }
}

impl Iterator for Places {
    type Item = (usize, usize, usize);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let at = self.at;
        self.at.2 += 1;
        if self.at.2 == self.size.1 {
            self.at = (at.0, at.1 + 1, 0);
            if self.at.1 == self.size.0 {
                self.at = (at.0 + 1, 0, 0);
            }
        }
        Some(at)
    }
}

/// Numbers in a page of 4 KiB: rows that are pages apart share the same few places in the first
/// cache.
const PAGE: usize = 1024;

/// Copies the rows of a pointwise product to where they do not drive each other out of the cache,
/// if they lie whole pages apart, and points there.
fn spread(starts: &mut [*const f32], order: Order) -> Vec<f32> {
    let mut copies = Vec::new();
    if order.taps == 1 && order.depth.is_multiple_of(PAGE) {
        copies.reserve_exact(starts.len() * (order.depth + LINE));
        for start in starts {
            let at = copies.len();
            // SAFETY: `depth` numbers lie behind each start.
            copies.extend_from_slice(unsafe { std::slice::from_raw_parts(*start, order.depth) });
            copies.resize(at + order.depth + LINE, 0.0);
            *start = copies[at..].as_ptr();
        }
    }
    copies
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
struct Product<'a> {
    weight: &'a Panels,
    taps: &'a [usize],
    panels: Range<usize>,
    starts: &'a [*const f32],
    to: &'a [usize],
    out: Shared<'a>,
    epilogue: Epilogue<'a>,
}

impl WithSimd for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        for panel in self.panels.clone() {
            let first = panel * self.weight.width;
            let columns = self.weight.width.min(self.weight.order.columns - first);
            let vectors = columns.div_ceil(S::F32_LANES);
            for (at, rows) in tile::cut(0..self.to.len(), S::F32_LANES) {
                by_size!(rows, vectors, product_tile::<S>(&self, simd, panel, columns, at));
            }
        }
    }
}

#[inline(always)]
fn product_tile<S: Simd, const M: usize, const V: usize>(
    job: &Product<'_>,
    simd: S,
    panel: usize,
    columns: usize,
    at: usize,
) {
    let Panels { values, order, width } = job.weight;
    let (depth, pixels) = (order.depth, job.to.len());
    let values = &values[panel * order.panel(*width)..][..order.panel(*width)];
    let first = panel * width;
    for &to in &job.to[at..][..M] {
        // SAFETY: no other job has this pixel and this panel.
        expect_write(unsafe { job.out.part(to + first, columns) });
    }
    let mut sums = tile::zeros::<S, M, V>(simd);
    for (row, &tap) in job.taps.iter().enumerate() {
        let starts = &job.starts[row * pixels + at..][..M];
        let panel = &values[tap * depth * width..][..depth * width];
        let left = std::array::from_fn(|i| starts[i]);
        // SAFETY: each start has `depth` numbers behind it, of the input or of the row of zeros,
        // and the panel has `depth` rows of `width` numbers, at least V vectors.
        sums = unsafe { multiply(simd, depth, left, 1, panel.as_ptr(), *width, sums) };
    }
    for (row, &to) in sums.iter().zip(&job.to[at..][..M]) {
        // SAFETY: no other job has this pixel and this panel.
        let out = unsafe { job.out.part(to + first, columns) };
        store(simd, *row, (first, to + first), out, job.epilogue);
    }
}

/// Writes some columns of a row, from a column on: `out` is where they lie in the result, at `at`.
#[inline(always)]
pub(super) fn store<S: Simd, const V: usize>(
    simd: S,
    row: [S::f32s; V],
    (column, at): (usize, usize),
    out: &mut [f32],
    epilogue: Epilogue<'_>,
) {
    for (j, mut sums) in row.into_iter().enumerate() {
        let skip = (j * S::F32_LANES).min(out.len());
        let out = &mut out[skip..];
        let count = out.len().min(S::F32_LANES);
        if let Some(bias) = epilogue.bias {
            sums = simd.add_f32s(sums, load(simd, &bias[column + skip..][..count]));
        }
        if let Some(residual) = epilogue.residual {
            sums = simd.add_f32s(sums, load(simd, &residual[at + skip..][..count]));
        }
        if epilogue.relu {
            // Written so that a NaN comes through.
            let negative = simd.less_than_f32s(sums, simd.splat_f32s(0.0));
            sums = simd.select_f32s(negative, simd.splat_f32s(0.0), sums);
        }
        save(simd, &mut out[..count], sums);
    }
}

/// `sums[panel][tap][channel] += sum over pixels of starts[tap][pixel][channel] * panels[panel][pixel]`.
struct OuterProduct<'a> {
    order: Order,
    taps: &'a [usize],
    starts: &'a [*const f32],
    /// Pixels.
    count: usize,
    channels: Range<usize>,
    panels: &'a [f32],
    sums: Shared<'a>,
}

impl WithSimd for OuterProduct<'_> {
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
    job: &OuterProduct<'_>,
    simd: S,
    (panel, row, first): (usize, usize, usize),
    width: usize,
) {
    let starts = &job.starts[row * job.count..][..job.count];
    let right = &job.panels[panel * job.count * width..][..job.count * width];
    let sums = tile::zeros::<S, M, V>(simd);
    // SAFETY: each start has the channels up to `first + M` behind it, and `right` has a row of
    // `width` numbers, at least V vectors, for each start.
    let sums = unsafe { multiply_gathered(simd, starts, first, right.as_ptr(), width, sums) };
    let at = job.order.panel(width) * panel + (job.taps[row] * job.order.depth + first) * width;
    // SAFETY: no other job has these channels of this piece.
    let out = unsafe { job.sums.part(at, M * width) };
    for (out, sums) in out.chunks_exact_mut(width).zip(sums) {
        for (out, sums) in out.chunks_exact_mut(S::F32_LANES).zip(sums) {
            let sums = simd.add_f32s(load(simd, out), sums);
            save(simd, out, sums);
        }
    }
}
