//! Gaussian blur in vectors: the filter of `ops/blur.rs`, of one plane.

use super::isa::Kernel;
use super::planes::SLACK;
use super::vectors::{LANES, Vectors};
use crate::ops::reflected;
use crate::ops::weights::{FIRST, SECOND, half};
use crate::{Rect, Size};

/// Blurs what a rectangle covers, which must lie inside and hold a pixel.
pub(super) struct BlurPlane<'a> {
    /// A plane of `size`, longer by [`SLACK`].
    pub(super) plane: &'a [u8],
    pub(super) size: Size,
    pub(super) rect: Rect,
    /// An odd number of weights, symmetric.
    pub(super) taps: &'a [i16],
    /// Memory.
    pub(super) line: &'a mut Vec<i16>,
    /// Where the rectangle's rows are written, one after the other; longer by [`SLACK`].
    pub(super) out: &'a mut [u8],
}

impl Kernel for BlurPlane<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vectors>(self, v: V) {
        let Self { plane, size, rect, taps, line, out } = self;
        let [width, start, length] = [size.width, rect.x, rect.width].map(|v| v as usize);
        let reach = taps.len() / 2;
        // The line begins `reach` places to the left of the rectangle, perhaps beyond the border.
        let (left, right) = (start.saturating_sub(reach), (start + length + reach).min(width));
        let place = |x: usize| x + reach - start;
        let needed = length + 2 * reach;
        if line.len() < needed + SLACK {
            line.resize(needed + SLACK, 0);
        }
        for i in 0..rect.height as usize {
            let y = i64::from(rect.y) + i as i64;
            let row = |k: i64| reflected(y + k, size.height) * width;
            let inside = &mut line[place(left)..][..(right - left).next_multiple_of(LANES)];
            down(v, plane, left, row, taps, inside);
            // Beyond the borders.
            for at in (0..place(left)).chain(place(right)..needed) {
                let x = reflected((at + start) as i64 - reach as i64, size.width);
                line[at] = line[place(x)];
            }
            along(v, line, taps, length, &mut out[i * length..]);
        }
    }
}

/// The first pass: one row from `left` on; `row(k)` is where the row begins that is `k` below.
#[inline(always)]
fn down<V: Vectors>(
    v: V,
    plane: &[u8],
    left: usize,
    row: impl Fn(i64) -> usize,
    taps: &[i16],
    line: &mut [i16],
) {
    let reach = taps.len() / 2;
    let vector = |k: i64, at: usize| match plane[row(k) + left + at..].first_chunk() {
        Some(vector) => v.bytes(vector),
        None => v.bytes(&[0; LANES]),
    };
    let (vectors, _) = line.as_chunks_mut::<LANES>();
    for (i, out) in vectors.iter_mut().enumerate() {
        let at = LANES * i;
        // Rows that are as far above as below have one weight.
        let both = |k: usize| v.add(vector(-(k as i64), at), vector(k as i64, at));
        let mut sums = v.sums(half(FIRST));
        let mut before = (vector(0, at), taps[reach]);
        let mut k = 1;
        while k < reach {
            let pair = v.pair([before.1, taps[reach + k]]);
            sums = v.multiply_add(sums, before.0, both(k), pair);
            before = (both(k + 1), taps[reach + k + 1]);
            k += 2;
        }
        if k == reach {
            let pair = v.pair([before.1, taps[reach + k]]);
            sums = v.multiply_add(sums, before.0, both(k), pair);
        } else {
            sums = v.multiply_add(sums, before.0, before.0, v.pair([before.1, 0]));
        }
        v.store(v.narrow::<FIRST>(sums), out);
    }
}

/// The second pass: `length` pixels, and some beyond.
#[inline(always)]
fn along<V: Vectors>(v: V, line: &[i16], taps: &[i16], length: usize, out: &mut [u8]) {
    let (vectors, _) = out[..length.next_multiple_of(LANES)].as_chunks_mut::<LANES>();
    let (pairs, last) = taps.as_chunks::<2>();
    let vector = |at: usize| match line[at..].first_chunk() {
        Some(vector) => v.words(vector),
        None => v.words(&[0; LANES]),
    };
    for (i, out) in vectors.iter_mut().enumerate() {
        let mut sums = v.sums(half(SECOND));
        let mut at = LANES * i;
        for &pair in pairs {
            sums = v.multiply_add(sums, vector(at), vector(at + 1), v.pair(pair));
            at += 2;
        }
        for &tap in last {
            sums = v.multiply_add(sums, vector(at), vector(at), v.pair([tap, 0]));
        }
        v.store_bytes(v.narrow::<SECOND>(sums), out);
    }
}
