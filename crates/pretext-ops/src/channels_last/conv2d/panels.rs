//! A convolution's weight as the right matrix of products: in panels, as [`super::super::tile`]
//! reads it.

use rayon::iter::{IndexedParallelIterator as _, ParallelIterator as _};
use rayon::slice::{ParallelSlice as _, ParallelSliceMut as _};

use super::Geometry;
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
}

impl Order {
    /// One tap for each pixel of the kernel; columns are outputs.
    pub(super) fn forward(g: &Geometry) -> Self {
        let area = g.kernel.0 * g.kernel.1;
        Self {
            taps: area,
            depth: g.c,
            columns: g.o,
            column: g.c * area,
            tap: 1,
            channel: area,
            channels: g.c,
            pixel: 0,
        }
    }

    /// One tap for each row of the kernel: its pixels lie side by side in the input.
    pub(super) fn by_rows(g: &Geometry) -> Self {
        let (kh, kw) = g.kernel;
        Self { taps: kh, depth: kw * g.c, tap: kw, pixel: 1, ..Self::forward(g) }
    }

    /// One tap for each pixel of the kernel; columns are inputs: for the input's gradient.
    pub(super) fn backward(g: &Geometry) -> Self {
        let area = g.kernel.0 * g.kernel.1;
        Self {
            depth: g.o,
            columns: g.c,
            column: area,
            channel: g.c * area,
            channels: g.o,
            ..Self::forward(g)
        }
    }

    fn at(&self, column: usize, tap: usize, k: usize) -> usize {
        let (pixel, channel) = (k / self.channels, k % self.channels);
        column * self.column + tap * self.tap + channel * self.channel + pixel * self.pixel
    }

    /// Numbers of one panel.
    pub(super) fn panel(&self, width: usize) -> usize {
        self.taps * self.depth * width
    }
}

/// `[panels][taps][depth][width]`; columns beyond the last are zeros.
pub(super) struct Panels {
    pub(super) values: Vec<f32>,
    pub(super) order: Order,
    pub(super) width: usize,
}

impl Panels {
    pub(super) fn pack(isa: Isa, order: Order, weight: &[f32]) -> Self {
        let width = tile::width(isa.lanes());
        let panels = order.columns.div_ceil(width);
        let mut values = vec![0.0; panels * order.panel(width)];
        if !values.is_empty() {
            values.par_chunks_mut(order.panel(width)).enumerate().for_each(|(panel, values)| {
                let first = panel * width;
                let count = width.min(order.columns - first);
                let mut rows = values.chunks_exact_mut(width);
                for tap in 0..order.taps {
                    for k in 0..order.depth {
                        let Some(row) = rows.next() else { return };
                        let at = order.at(first, tap, k);
                        for (j, value) in row[..count].iter_mut().enumerate() {
                            *value = weight[at + j * order.column];
                        }
                    }
                }
            });
        }
        Self { values, order, width }
    }

    pub(super) fn count(&self) -> usize {
        self.order.columns.div_ceil(self.width)
    }
}

/// Sums pieces `[pieces][panels][taps][depth][width]` of a weight's gradient and lays it out as the
/// weight, `[O, C, K, L]`.
pub(super) fn unpack(order: &Order, width: usize, pieces: &[Vec<f32>], size: usize) -> Vec<f32> {
    let mut gradient = vec![0.0; size];
    if gradient.is_empty() {
        return gradient;
    }
    let column = order.column;
    gradient.par_chunks_mut(width * column).enumerate().for_each(|(panel, gradient)| {
        let at = panel * order.panel(width);
        for tap in 0..order.taps {
            for k in 0..order.depth {
                let row = at + (tap * order.depth + k) * width;
                let to = order.at(0, tap, k);
                for j in 0..gradient.len() / column {
                    gradient[to + j * column] = pieces.iter().map(|piece| piece[row + j]).sum();
                }
            }
        }
    });
    gradient
}

/// Rows `[rows, columns]` as panels `[panels][rows][width]`, zeros beyond the last column.
pub(super) fn pack_rows(rows: &[f32], columns: usize, width: usize, panels: &mut Vec<f32>) {
    let count = rows.len() / columns;
    panels.resize(columns.div_ceil(width) * count * width, 0.0);
    for (panel, to) in panels.chunks_exact_mut(count * width).enumerate() {
        let first = panel * width;
        let size = width.min(columns - first);
        for (to, from) in to.chunks_exact_mut(width).zip(rows.chunks_exact(columns)) {
            to[..size].copy_from_slice(&from[first..first + size]);
            to[size..].fill(0.0);
        }
    }
}

/// Pictures `[N, H, W, C]` with `padding` pixels of zeros on all sides.
pub(super) fn pad(g: &Geometry, x: &[f32]) -> Vec<f32> {
    let (row, p) = ((g.w + 2 * g.padding) * g.c, g.padding);
    let picture = (g.h + 2 * p) * row;
    let mut padded = vec![0.0; g.n * picture];
    if x.is_empty() {
        return padded;
    }
    padded.par_chunks_mut(picture).zip(x.par_chunks(g.h * g.w * g.c)).for_each(|(to, from)| {
        for (to, from) in to[p * row..].chunks_exact_mut(row).zip(from.chunks_exact(g.w * g.c)) {
            to[p * g.c..][..from.len()].copy_from_slice(from);
        }
    });
    padded
}
