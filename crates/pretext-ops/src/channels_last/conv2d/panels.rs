//! A convolution's weight as the right matrix of products: in panels, as [`super::super::tile`]
//! reads it.

use pulp::{Simd, WithSimd};
use rayon::iter::{IndexedParallelIterator as _, ParallelIterator as _};
use rayon::slice::{ParallelSlice as _, ParallelSliceMut as _};

use super::Geometry;
use super::gather::{COUNT, gather};
use crate::buffer::unwritten;
use crate::channels_last::element::Element;
use crate::channels_last::tile;
use crate::isa::Isa;

/// Where a weight `[O, C, K, L]` has the number for a column, a tap and a place in the depth.
#[derive(Clone, Copy)]
pub(super) struct Order {
    /// Products that are summed for one output pixel, each with input pixels of its own.
    pub(super) taps: usize,
    /// Numbers that lie side by side in the input.
    pub(super) depth: usize,
    pub(super) columns: usize,
    /// Distances in the weight. A depth of several pixels has two: from channel to channel and,
    /// every `channels`, from pixel to pixel.
    column: usize,
    tap: usize,
    channel: usize,
    channels: usize,
    pixel: usize,
    /// Channels that the weight has; those beyond are zeros, which round up the depth.
    real: usize,
}

impl Order {
    /// One tap for each pixel of the kernel; columns are outputs. `channels` are those of the input
    /// as it lies, at least the weight's.
    pub(super) fn forward(g: &Geometry, channels: usize) -> Self {
        let area = g.kernel.0 * g.kernel.1;
        Self {
            taps: area,
            depth: channels,
            columns: g.o,
            column: g.c * area,
            tap: 1,
            channel: area,
            channels,
            pixel: 0,
            real: g.c,
        }
    }

    /// One tap for each row of the kernel: its pixels lie side by side in the input.
    pub(super) fn by_rows(g: &Geometry, channels: usize) -> Self {
        let (kh, kw) = g.kernel;
        Self { taps: kh, depth: kw * channels, tap: kw, pixel: 1, ..Self::forward(g, channels) }
    }

    /// One tap for each pixel of the kernel; columns are inputs: for the input's gradient.
    pub(super) fn backward(g: &Geometry, channels: usize) -> Self {
        let area = g.kernel.0 * g.kernel.1;
        Self {
            depth: channels,
            columns: g.c,
            column: area,
            channel: g.c * area,
            channels,
            real: g.o,
            ..Self::forward(g, channels)
        }
    }

    /// The place of a column's number, if the weight has it.
    fn at(&self, column: usize, tap: usize, k: usize) -> Option<usize> {
        let (pixel, channel) = (k / self.channels, k % self.channels);
        let at = column * self.column + tap * self.tap;
        (channel < self.real).then_some(at + channel * self.channel + pixel * self.pixel)
    }

    /// Numbers of one panel of sums.
    pub(super) fn panel(&self, width: usize) -> usize {
        self.taps * self.depth * width
    }
}

/// `[panels][taps][depth / GROUP][width]` groups; columns beyond the last are zeros.
pub(super) struct Panels<T: Element> {
    pub(super) groups: Vec<T::Group>,
    pub(super) order: Order,
    pub(super) width: usize,
}

/// Rows of a panel that are packed or unpacked together, for all taps: whichever way the weight lies,
/// its lines are then still in the cache.
const ROWS: usize = 8;

impl<T: Element> Panels<T> {
    pub(super) fn pack(isa: Isa, order: Order, weight: &[f32]) -> Self {
        let width = tile::width(isa.lanes());
        let mut panels = Self { groups: Vec::new(), order, width };
        // SAFETY: each row is written in full.
        panels.groups = unsafe { unwritten(panels.count() * panels.size()) };
        let size = panels.size().max(1);
        panels.groups.par_chunks_mut(size).enumerate().for_each(|(panel, groups)| {
            isa.run(Pack::<T> { order: &order, weight, first: panel * width, width, groups });
        });
        panels
    }

    /// Groups of one panel.
    pub(super) fn size(&self) -> usize {
        self.order.panel(self.width) / T::GROUP
    }

    pub(super) fn count(&self) -> usize {
        self.order.columns.div_ceil(self.width)
    }
}

/// Packs one panel.
struct Pack<'a, T: Element> {
    order: &'a Order,
    weight: &'a [f32],
    /// The panel's first column.
    first: usize,
    width: usize,
    groups: &'a mut [T::Group],
}

impl<T: Element> WithSimd for Pack<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { order, weight, first, width, groups } = self;
        let columns = width.min(order.columns - first);
        let depth = order.depth / T::GROUP;
        for block in (0..depth).step_by(ROWS) {
            for tap in 0..order.taps {
                for k in block..depth.min(block + ROWS) {
                    // Where each number of the first column is, if the weight has it.
                    let mut places = [None; 2];
                    for (i, place) in places[..T::GROUP].iter_mut().enumerate() {
                        *place = order.at(first, tap, k * T::GROUP + i);
                    }
                    let row = &mut groups[(tap * depth + k) * width..][..width];
                    for (lane, row) in (0..).step_by(COUNT).zip(row.chunks_mut(COUNT)) {
                        let count = COUNT.min(columns.saturating_sub(lane));
                        let mut numbers = [[0.0; COUNT]; 2];
                        for (numbers, place) in numbers.iter_mut().zip(places) {
                            if let (Some(at), 1..) = (place, count) {
                                let from = &weight[at + lane * order.column..];
                                gather::<S>(from, order.column, &mut numbers[..count]);
                            }
                        }
                        for (j, to) in row.iter_mut().enumerate() {
                            *to = T::group(|i| numbers[i][j]);
                        }
                    }
                }
            }
        }
    }
}

/// Sums pieces `[pieces][panels][taps][depth][width]` of a weight's gradient and lays it out as the
/// weight, `[O, C, K, L]`. Taps that the input never meets have no sums and a gradient of zeros.
pub(super) fn unpack(
    order: &Order,
    taps: &[usize],
    width: usize,
    pieces: &[Vec<f32>],
    size: usize,
) -> Vec<f32> {
    let mut gradient = if taps.len() == order.taps {
        // SAFETY: each column has all of its numbers in some tap and channel.
        unsafe { unwritten(size) }
    } else {
        vec![0.0; size]
    };
    let column = order.column;
    let panels = gradient.par_chunks_mut((width * column).max(1)).enumerate();
    panels.for_each_init(Vec::new, |sums, (panel, gradient)| {
        let columns = gradient.len() / column;
        for k in (0..order.depth).step_by(ROWS) {
            let rows = ROWS.min(order.depth - k);
            for &tap in taps {
                let at = panel * order.panel(width) + (tap * order.depth + k) * width;
                sums.clear();
                sums.extend_from_slice(&pieces[0][at..at + rows * width]);
                for piece in &pieces[1..] {
                    let piece = &piece[at..at + rows * width];
                    sums.iter_mut().zip(piece).for_each(|(sum, piece)| *sum += piece);
                }
                let mut places = [None; ROWS];
                for (row, place) in places.iter_mut().enumerate().take(rows) {
                    *place = order.at(0, tap, k + row);
                }
                for j in 0..columns {
                    for (place, sum) in places.iter().zip(sums[j..].iter().step_by(width)) {
                        if let Some(to) = place {
                            gradient[to + j * column] = *sum;
                        }
                    }
                }
            }
        }
    });
    gradient
}

/// Rows `[rows, columns]` as panels `[panels][rows / GROUP][width]`, zeros beyond the last column.
pub(super) fn pack_rows<T: Element>(
    rows: &[T],
    columns: usize,
    width: usize,
    panels: &mut Vec<T::Group>,
) {
    let count = (rows.len() / columns).div_ceil(T::GROUP);
    panels.resize(columns.div_ceil(width) * count * width, T::Group::default());
    for (panel, to) in panels.chunks_exact_mut(count * width).enumerate() {
        let first = panel * width;
        let size = width.min(columns - first);
        for (to, from) in to.chunks_exact_mut(width).zip(rows.chunks(columns * T::GROUP)) {
            let row = |i: usize| &from[i * columns + first..][..size];
            match from.len() / columns {
                2 => T::join(&mut to[..size], &[row(0), row(1)]),
                _ => T::join(&mut to[..size], &[row(0)]),
            }
            to[size..].fill(T::Group::default());
        }
    }
}

/// Pictures `[N, H, W, C]` with `padding` pixels of zeros on all sides, and channels of zeros behind
/// theirs up to `wide`.
pub(super) fn pad<T: Element>(
    (h, w, c): (usize, usize, usize),
    padding: usize,
    wide: usize,
    x: &[T],
) -> Vec<T> {
    let row = (w + 2 * padding) * wide;
    let picture = (h + 2 * padding) * row;
    let from = h * w * c;
    let mut padded = vec![T::zero(); x.len() / from.max(1) * picture];
    if x.is_empty() {
        return padded;
    }
    padded.par_chunks_mut(picture).zip(x.par_chunks(from)).for_each(|(to, from)| {
        let rows = to[padding * row..].chunks_exact_mut(row).zip(from.chunks_exact(w * c));
        for (to, from) in rows {
            let to = &mut to[padding * wide..][..w * wide];
            if wide == c {
                to.copy_from_slice(from);
                continue;
            }
            for (to, from) in to.chunks_exact_mut(wide).zip(from.chunks_exact(c)) {
                to[..c].copy_from_slice(from);
            }
        }
    });
    padded
}
