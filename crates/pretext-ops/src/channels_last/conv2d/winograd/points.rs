//! Tiles, and what their transforms leave in memory.

use std::cell::RefCell;

use super::super::Geometry;
use super::{BLOCK, FEW};

/// How the output is cut into tiles of `M` by `M` pixels.
pub(super) struct Tiles {
    pub(super) pictures: usize,
    pub(super) rows: usize,
    pub(super) columns: usize,
}

impl Tiles {
    pub(super) fn new<const M: usize>(g: &Geometry) -> Self {
        Self { pictures: g.n, rows: g.out.0.div_ceil(M), columns: g.out.1.div_ceil(M) }
    }

    pub(super) fn count(&self) -> usize {
        self.pictures * self.rows * self.columns
    }

    /// Picture, row and column of a tile.
    pub(super) fn place(&self, tile: usize) -> (usize, usize, usize) {
        let (rest, column) = (tile / self.columns, tile % self.columns);
        (rest / self.rows, rest % self.rows, column)
    }

    /// Tiles that one thread should take at a time, and whether there are then too few blocks.
    pub(super) fn blocks<const A: usize>(&self, g: &Geometry) -> (usize, bool) {
        let block = (BLOCK / (A * A * (g.c + g.o)) / 12 * 12).clamp(12, 192);
        let few = self.count().div_ceil(block) < FEW;
        (block, few)
    }
}

/// Transformed tiles: `[points][panels of channels][tiles][width]`.
pub(super) struct Points {
    pub(super) values: Vec<f32>,
    pub(super) points: usize,
    pub(super) channels: usize,
    pub(super) tiles: usize,
    pub(super) width: usize,
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
    pub(super) fn new(points: usize, channels: usize, width: usize) -> Self {
        let values = BUFFERS.with_borrow_mut(|buffers| {
            let largest = (0..buffers.len()).max_by_key(|&i| buffers[i].len())?;
            Some(buffers.swap_remove(largest))
        });
        let values = values.unwrap_or_default();
        Self { values, points, channels, tiles: 0, width }
    }

    pub(super) fn panels(&self) -> usize {
        self.channels.div_ceil(self.width)
    }

    pub(super) fn resize(&mut self, tiles: usize) {
        self.tiles = tiles;
        let length = self.points * self.panels() * tiles * self.width;
        if self.values.len() < length {
            self.values.clear();
            self.values.resize(length, 0.0);
        }
    }

    /// From a point to the next.
    pub(super) fn step(&self) -> usize {
        self.panels() * self.tiles * self.width
    }

    /// Where a tile's row of a panel begins.
    pub(super) fn at(&self, point: usize, panel: usize, tile: usize) -> usize {
        ((point * self.panels() + panel) * self.tiles + tile) * self.width
    }
}

/// A transformed weight: `[points][panels of columns][depth][width]`.
pub(super) struct KernelPoints {
    pub(super) values: Vec<f32>,
    pub(super) depth: usize,
    pub(super) columns: usize,
    pub(super) width: usize,
}

impl KernelPoints {
    pub(super) fn at(&self, point: usize, panel: usize) -> usize {
        (point * self.columns.div_ceil(self.width) + panel) * self.depth * self.width
    }
}
