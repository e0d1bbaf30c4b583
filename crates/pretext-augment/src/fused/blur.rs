//! Gaussian blur in vectors: the filter of `ops/blur.rs`, of one plane.

use super::isa::Kernel;
use super::planes::SLACK;
use super::vectors::{LANES, Vectors, vector, vector_mut};
use crate::ops::reflected;
use crate::ops::weights::{FIRST, SECOND, half};
use crate::{Rect, Size};

/// Two vectors are computed at a time.
const WIDE: usize = 2 * LANES;
const _: () = assert!(SLACK > WIDE, "the last vectors reach beyond a row");

/// Memory that is used again from plane to plane.
#[derive(Default)]
pub(super) struct Scratch {
    /// Where the rows begin that a row is made of.
    rows: Vec<usize>,
    /// A row of the first pass, with what the kernel reaches at both sides.
    line: Vec<i16>,
}

/// Blurs what a rectangle covers, which must lie inside and hold a pixel.
pub(super) struct BlurPlane<'a> {
    /// A plane of `size`, longer by [`SLACK`].
    pub(super) plane: &'a [u8],
    pub(super) size: Size,
    pub(super) rect: Rect,
    /// An odd number of weights, symmetric.
    pub(super) taps: &'a [i16],
    pub(super) scratch: &'a mut Scratch,
    /// Where the rectangle's rows are written, one after the other; longer by [`SLACK`].
    pub(super) out: &'a mut [u8],
}

impl Kernel for BlurPlane<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vectors>(self, v: V) {
        let Self { plane, size, rect, taps, scratch, out } = self;
        let Scratch { rows, line } = scratch;
        let [width, start, length] = [size.width, rect.x, rect.width].map(|v| v as usize);
        let reach = taps.len() / 2;
        // The line begins `reach` places to the left of the rectangle, perhaps beyond the border.
        let (left, right) = (start.saturating_sub(reach), (start + length + reach).min(width));
        let place = |x: usize| x + reach - start;
        let needed = length + 2 * reach;
        if line.len() < needed + SLACK {
            line.resize(needed + SLACK, 0);
        }
        let first = i64::from(rect.y) - reach as i64;
        let rows_of = first..first + i64::from(rect.height) + 2 * reach as i64;
        rows.clear();
        rows.extend(rows_of.map(|y| reflected(y, size.height) * width + left));
        for (i, rows) in rows.windows(taps.len()).enumerate() {
            let inside = &mut line[place(left)..][..(right - left).next_multiple_of(WIDE)];
            down(v, plane, rows, taps, inside);
            // Beyond the borders.
            for at in (0..place(left)).chain(place(right)..needed) {
                let x = reflected((at + start) as i64 - reach as i64, size.width);
                line[at] = line[place(x)];
            }
            along(v, line, taps, length, &mut out[i * length..]);
        }
    }
}

/// The first pass: one row, from others that begin at `rows`.
#[inline(always)]
fn down<V: Vectors>(v: V, plane: &[u8], rows: &[usize], taps: &[i16], line: &mut [i16]) {
    let reach = taps.len() / 2;
    for (start, out) in (0..).step_by(WIDE).zip(line.chunks_exact_mut(WIDE)) {
        let mut sums = [v.sums(half(FIRST)); 2];
        let centre = &plane[rows[reach] + start..][..WIDE];
        let mut before = [v.bytes(vector(centre, 0)), v.bytes(vector(centre, LANES))];
        // Rows that are as far above as below have one weight.
        for k in 1..=reach {
            let above = &plane[rows[reach - k] + start..][..WIDE];
            let below = &plane[rows[reach + k] + start..][..WIDE];
            let pair = v.pair([taps[reach + k - 1], taps[reach + k]]);
            for i in 0..2 {
                let (above, below) = (vector(above, LANES * i), vector(below, LANES * i));
                let both = v.add(v.bytes(above), v.bytes(below));
                if k % 2 == 1 {
                    sums[i] = v.multiply_add(sums[i], before[i], both, pair);
                }
                before[i] = both;
            }
        }
        let last = v.pair([taps[2 * reach], 0]);
        for i in 0..2 {
            if reach.is_multiple_of(2) {
                sums[i] = v.multiply_add(sums[i], before[i], before[i], last);
            }
            v.store(v.narrow::<FIRST>(sums[i]), vector_mut(out, LANES * i));
        }
    }
}

/// The second pass: `length` pixels, and some beyond.
#[inline(always)]
fn along<V: Vectors>(v: V, line: &[i16], taps: &[i16], length: usize, out: &mut [u8]) {
    let (pairs, last) = taps.as_chunks::<2>();
    let out = &mut out[..length.next_multiple_of(WIDE)];
    for (start, out) in (0..).step_by(WIDE).zip(out.chunks_exact_mut(WIDE)) {
        let mut sums = [v.sums(half(SECOND)); 2];
        let reached = &line[start..][..WIDE + taps.len()];
        for (&pair, values) in pairs.iter().zip(reached.windows(WIDE + 1).step_by(2)) {
            let pair = v.pair(pair);
            for i in 0..2 {
                let a = v.words(vector(values, LANES * i));
                let b = v.words(vector(values, LANES * i + 1));
                sums[i] = v.multiply_add(sums[i], a, b, pair);
            }
        }
        for &tap in last {
            let values = &reached[taps.len() - 1..][..WIDE];
            for i in 0..2 {
                let a = v.words(vector(values, LANES * i));
                sums[i] = v.multiply_add(sums[i], a, a, v.pair([tap, 0]));
            }
        }
        for i in 0..2 {
            v.store_bytes(v.narrow::<SECOND>(sums[i]), vector_mut(out, LANES * i));
        }
    }
}
