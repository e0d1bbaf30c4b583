//! Resizing in vectors: the filter of `ops/resample.rs`, from pixels to planes, mirrored or not.
//!
//! 16 rows of the output at a time: the first pass makes them from rows of the input, then they are
//! turned so that a vector holds one value of each of the 16 rows, the second pass makes columns of
//! the output from them, and these are turned back into rows.

use super::isa::Kernel;
use super::planes::Planes;
use super::vectors::{LANES, Vectors, vector, vector_mut};
use crate::ops::weights::{FIRST, SECOND, Windows, half};
use crate::{ImageRef, Rect, Size};

/// 16 numbers of each of 16 rows or columns.
type Square = [[i16; LANES]; LANES];

/// Memory that is used again from picture to picture.
#[derive(Default)]
pub(super) struct Scratch {
    rows: Windows,
    columns: Windows,
    /// 16 rows of the first pass, a vector of each row in turn.
    strip: Vec<Square>,
    /// The same by columns.
    turned: Vec<[i16; LANES]>,
    /// A picture narrower than a vector, with room to the right.
    widened: Vec<u8>,
}

/// Brings a picture to `size` and writes `part` of it, which must lie inside of `size` and hold a
/// pixel, to planes.
pub(super) struct Resample<'a> {
    pub(super) image: ImageRef<'a>,
    pub(super) size: Size,
    pub(super) part: Rect,
    pub(super) mirrored: bool,
    pub(super) scratch: &'a mut Scratch,
    pub(super) planes: &'a mut Planes,
}

impl Kernel for Resample<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vectors>(self, v: V) {
        let Self { image, size, part, mirrored, scratch, planes } = self;
        let Scratch { rows, columns, strip, turned, widened } = scratch;
        rows.set(image.size().height, size.height, part.y..part.y + part.height);
        columns.set(image.size().width, size.width, part.x..part.x + part.width);
        // Only the columns that the second pass reads.
        let reached = columns.reached(image.size().width);
        let image = of_a_vector(image, reached.clone(), widened);
        let left = reached.start as usize;

        let length = 3 * image.size().width as usize;
        let squares = length.div_ceil(LANES);
        strip.resize(strip.len().max(squares), [[0; LANES]; LANES]);
        // The last weights may be 0 and belong to no pixel.
        turned.resize(turned.len().max(length + 6 * columns.pairs()), [0; LANES]);

        planes.reset(part.size());
        for top in (0..rows.len()).step_by(LANES) {
            let count = LANES.min(rows.len() - top);
            for i in 0..count {
                down(v, image, rows.at(top + i), i, &mut strip[..squares]);
            }
            for (i, square) in strip[..squares].iter().enumerate() {
                v.transpose(square, square_mut(&mut turned[..length], i));
            }
            let rows = (top, count);
            match columns.pairs() {
                1 => along::<V, 1>(v, turned, columns, left, mirrored, rows, planes),
                2 => along::<V, 2>(v, turned, columns, left, mirrored, rows, planes),
                _ => along::<V, 0>(v, turned, columns, left, mirrored, rows, planes),
            }
        }
    }
}

/// Where the `i`th vector of a line of so many numbers begins: the last overlaps the one before.
#[inline(always)]
fn place(i: usize, length: usize) -> usize {
    (LANES * i).min(length - LANES)
}

/// The columns of the `i`th square.
#[inline(always)]
fn square_mut(turned: &mut [[i16; LANES]], i: usize) -> &mut Square {
    let at = place(i, turned.len());
    vector_mut(turned, at)
}

/// The columns of a picture that are wanted, which is copied if these are narrower than a vector.
#[inline(always)]
fn of_a_vector<'a>(
    image: ImageRef<'a>,
    wanted: std::ops::Range<u32>,
    widened: &'a mut Vec<u8>,
) -> ImageRef<'a> {
    const LEAST: usize = LANES.div_ceil(3);
    let height = image.size().height;
    let rect = Rect { x: wanted.start, y: 0, width: wanted.end - wanted.start, height };
    let image = image.crop(rect).unwrap_or(image);
    if image.size().width as usize >= LEAST {
        return image;
    }
    widened.clear();
    widened.resize(3 * LEAST * height as usize, 0);
    for (row, y) in widened.chunks_exact_mut(3 * LEAST).zip(0..) {
        row[..image.row(y).len()].copy_from_slice(image.row(y));
    }
    ImageRef::of_bytes(Size { width: LEAST as u32, height }, widened)
}

/// The first pass: one row of the output's, the `y`th of a strip.
#[inline(always)]
fn down<V: Vectors>(
    v: V,
    image: ImageRef<'_>,
    (first, weights): (usize, &[[i16; 2]]),
    y: usize,
    strip: &mut [Square],
) {
    // The usual numbers of weights are known when this is compiled.
    match weights {
        &[a] => down_by(v, image, first, [a], y, strip),
        &[a, b] => down_by(v, image, first, [a, b], y, strip),
        &[a, b, c] => down_by(v, image, first, [a, b, c], y, strip),
        many => {
            let last = image.size().height as usize - 1;
            let row = |i: usize| image.row((first + i).min(last) as u32);
            let length = row(0).len();
            for (i, square) in strip.iter_mut().enumerate() {
                let at = place(i, length);
                let mut sums = v.sums(half(FIRST));
                for (i, &pair) in many.iter().enumerate() {
                    let a = v.bytes(vector(row(2 * i), at));
                    let b = v.bytes(vector(row(2 * i + 1), at));
                    sums = v.multiply_add(sums, a, b, v.pair(pair));
                }
                v.store(v.narrow::<FIRST>(sums), &mut square[y]);
            }
        }
    }
}

/// The same with a known number of weights.
#[inline(always)]
fn down_by<V: Vectors, const PAIRS: usize>(
    v: V,
    image: ImageRef<'_>,
    first: usize,
    weights: [[i16; 2]; PAIRS],
    y: usize,
    strip: &mut [Square],
) {
    let last = image.size().height as usize - 1;
    // A weight of 0 may belong to no row.
    let row = |i: usize| image.row((first + i).min(last) as u32);
    let length = row(0).len();
    let mut rows = [[&[][..]; 2]; PAIRS];
    for (i, rows) in rows.iter_mut().enumerate() {
        *rows = [&row(2 * i)[..length], &row(2 * i + 1)[..length]];
    }
    for (i, square) in strip.iter_mut().enumerate() {
        let at = place(i, length);
        let mut sums = v.sums(half(FIRST));
        for k in 0..PAIRS {
            let (a, b) = (v.bytes(vector(rows[k][0], at)), v.bytes(vector(rows[k][1], at)));
            sums = v.multiply_add(sums, a, b, v.pair(weights[k]));
        }
        v.store(v.narrow::<FIRST>(sums), &mut square[y]);
    }
}

/// The second pass: the columns of up to 16 rows, from `top` on, as rows of planes. `left` is the
/// column of the picture that comes first in `turned`. There are `PAIRS` pairs of weights for each
/// column, or any number if that is 0.
#[inline(always)]
fn along<V: Vectors, const PAIRS: usize>(
    v: V,
    turned: &[[i16; LANES]],
    columns: &Windows,
    left: usize,
    mirrored: bool,
    (top, count): (usize, usize),
    planes: &mut Planes,
) {
    let width = columns.len();
    let wide = LANES.min(width);
    let pairs = if PAIRS == 0 { columns.pairs() } else { PAIRS };
    for start in (0..width).step_by(LANES) {
        // The last block overlaps the one before, so that nothing is written beyond a row.
        let x0 = start.min(width - wide);
        let (firsts, weights) = columns.part(if mirrored { width - wide - x0 } else { x0 }, wide);
        let mut block = [[v.words(&[0; LANES]); LANES]; 3];
        for j in 0..wide {
            let x = if mirrored { wide - 1 - j } else { j };
            let values = &turned[3 * (firsts[x] as usize - left)..][..6 * pairs];
            let weights = &weights[x * pairs..][..pairs];
            let mut sums = [v.sums(half(SECOND)); 3];
            for k in 0..pairs {
                let pair = v.pair(weights[k]);
                for channel in 0..3 {
                    let a = v.words(&values[6 * k + channel]);
                    let b = v.words(&values[6 * k + channel + 3]);
                    sums[channel] = v.multiply_add(sums[channel], a, b, pair);
                }
            }
            for channel in 0..3 {
                block[channel][j] = v.narrow::<SECOND>(sums[channel]);
            }
        }
        for (plane, block) in planes.channels.iter_mut().zip(&block) {
            let rows = v.transpose_bytes(block);
            let outs = plane[top * width..].chunks_mut(width);
            for (row, out) in rows.iter().zip(outs).take(count) {
                if wide == LANES {
                    *vector_mut(out, x0) = *row;
                } else {
                    out[..wide].copy_from_slice(&row[..wide]);
                }
            }
        }
    }
}
