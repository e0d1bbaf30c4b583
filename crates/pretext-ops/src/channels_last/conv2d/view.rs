//! Where the taps of a kernel find their pixels.

use std::borrow::Cow;

use super::Geometry;
use super::panels::{Order, pad};
use super::places::Place;
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
            return Self { g, x, order, zeros: vec![T::zero(); order.depth] };
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
    pub(super) fn starts(&self, taps: &[usize], places: &[Place]) -> Vec<*const T> {
        let g = &self.g;
        let moves = taps.iter().map(|tap| {
            let from_padding = |tap: usize| tap as isize - g.padding as isize;
            (from_padding(tap / g.kernel.1), from_padding(tap % g.kernel.1))
        });
        starts(&self.x, (g.h, g.w, g.c), &self.zeros, (places, g.stride), moves)
    }
}

/// `[moves][places]`: where the pixel begins that lies so far down and right of each place, times
/// the stride, in pictures `[N, H, W, C]`; the zeros, if that is outside.
fn starts<T: Element>(
    pictures: &[T],
    (h, w, c): (usize, usize, usize),
    zeros: &[T],
    (places, stride): (&[Place], usize),
    moves: impl ExactSizeIterator<Item = (isize, isize)>,
) -> Vec<*const T> {
    let mut starts = Vec::with_capacity(moves.len() * places.len());
    for (down, right) in moves {
        starts.extend(places.iter().map(|place| {
            // What is above or left of a picture wraps around and is outside as well.
            let y = (place.y * stride).wrapping_add_signed(down);
            let x = (place.x * stride).wrapping_add_signed(right);
            if y < h && x < w {
                pictures[((place.picture * h + y) * w + x) * c..].as_ptr()
            } else {
                zeros.as_ptr()
            }
        }));
    }
    starts
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

    /// Where one of the class's pixels lies among all.
    pub(super) fn place(&self, g: &Geometry, Place { picture, y, x }: Place) -> usize {
        (picture * g.h + self.row + y * g.stride) * g.w + self.column + x * g.stride
    }

    /// `[taps][pixels]`: where the output's gradient of each input pixel begins.
    pub(super) fn starts<T: Element>(
        &self,
        g: &Geometry,
        dy: &[T],
        zeros: &[T],
        places: &[Place],
    ) -> Vec<*const T> {
        // These are multiples of the stride.
        let distance = |first: usize, tap: usize| {
            ((first + g.padding) as isize - tap as isize) / g.stride as isize
        };
        let moves = self.taps.iter().map(|tap| {
            (distance(self.row, tap / g.kernel.1), distance(self.column, tap % g.kernel.1))
        });
        starts(dy, (g.out.0, g.out.1, zeros.len()), zeros, (places, 1), moves)
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
