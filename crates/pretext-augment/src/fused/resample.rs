//! Resizing in vectors: the filter of `ops/resample.rs`, from pixels to planes, mirrored or not.
//!
//! 16 rows of the output at a time: the first pass makes them from rows of the input, then they are
//! turned so that a vector holds one value of each of the 16 rows, the second pass makes columns of
//! the output from them, and these are turned back into rows.

use super::isa::Kernel;
use super::planes::{Planes, SLACK};
use super::vectors::{LANES, Vectors, vector, vector_mut};
use crate::ops::weights::{FIRST, SECOND, Windows, half};
use crate::{ImageRef, Rect, Size};

/// Memory that is used again from picture to picture.
#[derive(Default)]
pub(super) struct Scratch {
    rows: Windows,
    columns: Windows,
    /// 16 rows of the first pass.
    strip: Vec<i16>,
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

        let stride = (3 * image.size().width as usize).next_multiple_of(LANES);
        if strip.len() < LANES * stride {
            strip.resize(LANES * stride, 0);
        }
        // The last weights may be 0 and belong to no pixel.
        turned.resize(turned.len().max(stride + 6 * columns.pairs()), [0; LANES]);

        planes.reset(part.size());
        for top in (0..rows.len()).step_by(LANES) {
            let count = LANES.min(rows.len() - top);
            for (i, line) in strip.chunks_exact_mut(stride).take(count).enumerate() {
                down(v, image, rows.at(top + i), line);
            }
            let (blocks, _) = turned[..stride].as_chunks_mut::<LANES>();
            for (i, block) in blocks.iter_mut().enumerate() {
                v.transpose(&strip[LANES * i..], stride, block);
            }
            along(v, turned, columns, left, mirrored, (top, count), planes);
        }
    }
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

/// The first pass: one row of the output's.
#[inline(always)]
fn down<V: Vectors>(
    v: V,
    image: ImageRef<'_>,
    (first, weights): (usize, &[[i16; 2]]),
    line: &mut [i16],
) {
    match weights {
        &[a] => down_by(v, image, first, [a], line),
        &[a, b] => down_by(v, image, first, [a, b], line),
        &[a, b, c] => down_by(v, image, first, [a, b, c], line),
        &[a, b, c, d] => down_by(v, image, first, [a, b, c, d], line),
        many => {
            let last = image.size().height as usize - 1;
            let row = |i: usize| image.row((first + i).min(last) as u32);
            let len = row(0).len();
            for i in 0..len.div_ceil(LANES) {
                // The last vector overlaps the one before.
                let at = (LANES * i).min(len - LANES);
                let mut sums = v.sums(half(FIRST));
                for (i, &pair) in many.iter().enumerate() {
                    let a = v.bytes(vector(row(2 * i), at));
                    let b = v.bytes(vector(row(2 * i + 1), at));
                    sums = v.multiply_add(sums, a, b, v.pair(pair));
                }
                v.store(v.narrow::<FIRST>(sums), vector_mut(line, at));
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
    line: &mut [i16],
) {
    let last = image.size().height as usize - 1;
    // A weight of 0 may belong to no row.
    let row = |i: usize| image.row((first + i).min(last) as u32);
    let len = row(0).len();
    let mut rows = [[&[][..]; 2]; PAIRS];
    for (i, rows) in rows.iter_mut().enumerate() {
        *rows = [&row(2 * i)[..len], &row(2 * i + 1)[..len]];
    }
    let line = &mut line[..len];
    for i in 0..len.div_ceil(LANES) {
        // The last vector overlaps the one before.
        let at = (LANES * i).min(len - LANES);
        let mut sums = v.sums(half(FIRST));
        for k in 0..PAIRS {
            let (a, b) = (v.bytes(vector(rows[k][0], at)), v.bytes(vector(rows[k][1], at)));
            sums = v.multiply_add(sums, a, b, v.pair(weights[k]));
        }
        v.store(v.narrow::<FIRST>(sums), vector_mut(line, at));
    }
}

/// The second pass: the columns of up to 16 rows, from `top` on, as rows of planes. `left` is the
/// column of the picture that comes first in `turned`.
#[inline(always)]
fn along<V: Vectors>(
    v: V,
    turned: &[[i16; LANES]],
    columns: &Windows,
    left: usize,
    mirrored: bool,
    (top, count): (usize, usize),
    planes: &mut Planes,
) {
    let width = columns.len();
    let mut start = 0;
    while start < width {
        // The last block overlaps the one before, so that nothing is written beyond a row.
        let x0 = if width >= LANES { start.min(width - LANES) } else { 0 };
        let mut block = [[v.words(&[0; LANES]); LANES]; 3];
        for j in 0..LANES.min(width) {
            let x = if mirrored { width - 1 - x0 - j } else { x0 + j };
            let (first, weights) = columns.at(x);
            let values = &turned[3 * (first - left)..][..6 * weights.len()];
            let mut sums = [v.sums(half(SECOND)); 3];
            let (values, _) = values.as_chunks::<6>();
            for (values, &pair) in values.iter().zip(weights) {
                let weights = v.pair(pair);
                for channel in 0..3 {
                    let (a, b) = (v.words(&values[channel]), v.words(&values[channel + 3]));
                    sums[channel] = v.multiply_add(sums[channel], a, b, weights);
                }
            }
            for channel in 0..3 {
                block[channel][j] = v.narrow::<SECOND>(sums[channel]);
            }
        }
        for (plane, block) in planes.channels.iter_mut().zip(&block) {
            let rows = v.transpose_bytes(block);
            for (row, y) in rows.iter().zip(top..top + count) {
                let out = &mut plane[y * width + x0..][..LANES];
                if width >= LANES {
                    out.copy_from_slice(row);
                } else {
                    out[..width].copy_from_slice(&row[..width]);
                }
            }
        }
        start += LANES;
    }
}

const _: () = assert!(SLACK >= LANES, "a narrow plane's last row is written as a vector");
