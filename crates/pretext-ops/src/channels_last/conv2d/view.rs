//! Where the taps of a kernel find their pixels.

use std::borrow::Cow;
use std::ops::Range;

use super::Geometry;
use super::panels::{Order, pad};
use crate::channels_last::element::Element;
use crate::channels_last::tile::LINE;

/// Depth up to which a kernel's row is taken as one tap.
const SHALLOW: usize = 32;

/// Pictures whose channels are whole groups: they themselves, or with channels of zeros.
pub(super) fn whole_groups<T: Element>(size: (usize, usize, usize), x: &[T]) -> Cow<'_, [T]> {
    let channels = size.2.next_multiple_of(T::GROUP);
    if channels == size.2 { Cow::Borrowed(x) } else { Cow::Owned(pad(size, 0, channels, x)) }
}

/// The input as the taps see it.
pub(super) struct View<'a, T: Element> {
    pub(super) g: Geometry,
    pub(super) x: Cow<'a, [T]>,
    pub(super) order: Order,
    pub(super) zeros: Vec<T>,
}

impl<'a, T: Element> View<'a, T> {
    /// A shallow input is padded, so that a row of the kernel is one tap of some depth.
    pub(super) fn new(g: &Geometry, x: &'a [T]) -> Self {
        let channels = g.c.next_multiple_of(T::GROUP);
        if g.kernel.1 > 1 && g.kernel.1 * g.c <= SHALLOW {
            let (h, w) = (g.h + 2 * g.padding, g.w + 2 * g.padding);
            let x = Cow::Owned(pad((g.h, g.w, g.c), g.padding, channels, x));
            let order = Order::by_rows(g, channels);
            let g = Geometry { h, w, c: channels, padding: 0, kernel: (g.kernel.0, 1), ..*g };
            return Self { g, x, order, zeros: Vec::new() };
        }
        let order = Order::forward(g, channels);
        let x = whole_groups((g.h, g.w, g.c), x);
        Self { g: Geometry { c: channels, ..*g }, x, order, zeros: vec![T::zero(); channels] }
    }

    /// The taps that meet the input anywhere.
    pub(super) fn taps(&self) -> Vec<usize> {
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
    pub(super) fn starts(&self, taps: &[usize], pixels: Range<usize>) -> Vec<*const T> {
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
pub(super) struct Class {
    pub(super) row: usize,
    pub(super) column: usize,
    /// Its rows and columns.
    pub(super) size: (usize, usize),
    pub(super) taps: Vec<usize>,
}

impl Class {
    pub(super) fn new(g: &Geometry, row: usize, column: usize) -> Self {
        let (kh, kw) = g.kernel;
        let meets = |place: usize, tap: usize| (place + g.padding) % g.stride == tap % g.stride;
        let taps =
            (0..kh * kw).filter(|tap| meets(row, tap / kw) && meets(column, tap % kw)).collect();
        let size = ((g.h - row).div_ceil(g.stride), (g.w - column).div_ceil(g.stride));
        Self { row, column, size, taps }
    }

    pub(super) fn pixels(&self) -> usize {
        self.size.0 * self.size.1
    }

    fn input(&self, g: &Geometry, (_, y, x): (usize, usize, usize)) -> (usize, usize) {
        (self.row + y * g.stride, self.column + x * g.stride)
    }

    /// The place of one of the class's pixels among all.
    pub(super) fn place(&self, g: &Geometry, pixel: usize) -> usize {
        let (picture, rest) = (pixel / self.pixels(), pixel % self.pixels());
        let (y, x) = self.input(g, (picture, rest / self.size.1, rest % self.size.1));
        (picture * g.h + y) * g.w + x
    }

    /// `[taps][pixels]`: where the output's gradient of each input pixel begins.
    pub(super) fn starts<T: Element>(
        &self,
        g: &Geometry,
        dy: &[T],
        zeros: &[T],
        pixels: Range<usize>,
    ) -> Vec<*const T> {
        let mut starts = Vec::with_capacity(self.taps.len() * pixels.len());
        for tap in &self.taps {
            let (u, v) = (tap / g.kernel.1, tap % g.kernel.1);
            for place in Places::new(pixels.clone(), self.size) {
                let (y, x) = self.input(g, place);
                // Both are multiples of the stride, or so far below zero that they are out of range.
                let y = (y + g.padding).wrapping_sub(u) / g.stride;
                let x = (x + g.padding).wrapping_sub(v) / g.stride;
                starts.push(if y < g.out.0 && x < g.out.1 {
                    dy[((place.0 * g.out.0 + y) * g.out.1 + x) * zeros.len()..].as_ptr()
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
    pub(super) at: (usize, usize, usize),
    pub(super) size: (usize, usize),
    pub(super) left: usize,
}

impl Places {
    pub(super) fn new(pixels: Range<usize>, size: (usize, usize)) -> Self {
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

/// Bytes in a page: rows that are pages apart share the same few places in the first cache.
const PAGE: usize = 4096;

/// Copies the rows of a pointwise product to where they do not drive each other out of the cache,
/// if they lie whole pages apart, and points there.
pub(super) fn spread<T: Element>(starts: &mut [*const T], order: Order) -> Vec<T> {
    let mut copies = Vec::new();
    if order.taps == 1 && (order.depth * size_of::<T>()).is_multiple_of(PAGE) {
        let step = order.depth + LINE / size_of::<T>();
        copies.reserve_exact(starts.len() * step);
        for start in starts {
            let at = copies.len();
            // SAFETY: `depth` numbers lie behind each start.
            copies.extend_from_slice(unsafe { std::slice::from_raw_parts(*start, order.depth) });
            copies.resize(at + step, T::zero());
            *start = copies[at..].as_ptr();
        }
    }
    copies
}
