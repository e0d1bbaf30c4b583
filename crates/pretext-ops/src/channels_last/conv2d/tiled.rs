//! Direct convolution by AMX: 32 output pixels and 32 columns at a time.
//!
//! A tile's rows are 16 pixels. It is loaded from where the input lies if their places in memory are
//! equally far apart, and from a copy otherwise, as at the edges of a picture.

use pulp::Simd;

use super::direct::{Product, store};
use super::places::Pixels;
use crate::amx::{ROW, Step, Sums, TILE, Tiles, Walk};
use crate::channels_last::element::Element;
use crate::channels_last::tile::{LINE, expect_write};

/// Pixels of small pictures lie in a row for too short a way; those of several pictures do not.
pub(super) fn together(pixels: Pixels) -> Pixels {
    let short = !pixels.size.1.is_multiple_of(TILE) && pixels.pictures >= TILE;
    Pixels { together: if short { TILE } else { 1 }, ..pixels }
}

/// The most pairs a tile can take of a depth that is to be cut into equal parts.
fn pairs(depth: usize) -> usize {
    (1..=TILE).rev().find(|&pairs| depth.is_multiple_of(pairs)).unwrap_or(1)
}

/// 16 rows of the left matrix: where the first is, and how many bytes on the next.
type Rows = (*const u8, usize);

/// Whether pointers are equally far apart, and how many bytes.
fn stride<T>(starts: &[*const T]) -> Option<usize> {
    let distance = |i: usize| (starts[i + 1] as usize).wrapping_sub(starts[i] as usize);
    let first = distance(0);
    (1..starts.len() - 1).all(|i| distance(i) == first).then_some(first)
}

/// The left matrix of some pixels, as tiles take it.
struct Left<T> {
    /// For pairs of tiles one after the other, and in them for each tap that meets the input.
    steps: Vec<Step>,
    /// Where each pair's steps end.
    ends: Vec<usize>,
    /// Rows that the steps read.
    _copies: Vec<T>,
}

impl<T: Element> Left<T> {
    fn new(job: &Product<'_, T>, pairs: usize) -> Self {
        let (pixels, depth) = (job.to.len(), job.weight.order.depth);
        let tiles = pixels.div_ceil(TILE);
        let groups = depth / T::GROUP;
        let row = depth + LINE / size_of::<T>();
        let mut copies: Vec<T> = Vec::with_capacity(job.taps.len() * tiles * TILE * row);
        let nothing: Rows = (job.zeros.as_ptr().cast(), 0);
        let mut rows = |tap: usize, tile: usize| {
            let pixels = tile * TILE..pixels.min((tile + 1) * TILE);
            if pixels.is_empty() {
                return nothing;
            }
            let starts = &job.starts[tap * job.to.len()..][pixels];
            if starts.iter().all(|&start| start == job.zeros.as_ptr()) {
                return nothing;
            }
            if starts.len() == TILE
                && let Some(stride) = stride(starts)
            {
                return (starts[0].cast(), stride);
            }
            let at = copies.len();
            for start in starts {
                // SAFETY: `depth` numbers lie behind each start.
                copies.extend_from_slice(unsafe { std::slice::from_raw_parts(*start, depth) });
                copies.resize(copies.len() + row - depth, T::zero());
            }
            copies.resize(at + TILE * row, T::zero());
            (copies[at..].as_ptr().cast(), row * size_of::<T>())
        };
        let mut steps = Vec::with_capacity(job.taps.len() * tiles.div_ceil(2));
        let mut ends = Vec::with_capacity(tiles.div_ceil(2));
        for tile in (0..tiles).step_by(2) {
            for (row, tap) in job.taps.iter().enumerate() {
                let (a, b) = (rows(row, tile), rows(row, tile + 1));
                if groups > 0 && (a != nothing || b != nothing) {
                    let right = job.weight.groups[tap * groups * job.weight.width..].as_ptr();
                    let (left, stride) = ([a.0, b.0], [a.1, b.1]);
                    let right = right.cast();
                    steps.push(Step { left, stride, right, depth: groups / pairs });
                }
            }
            ends.push(steps.len());
        }
        Self { steps, ends, _copies: copies }
    }
}

/// The product, 32 x 32 sums at a time.
#[inline(always)]
pub(super) fn product<S: Simd, T: Element>(mut job: Product<'_, T>, simd: S) {
    let weight = job.weight;
    let pairs = pairs(weight.order.depth / T::GROUP);
    let left = Left::new(&job, pairs);
    let tiles = Tiles::configure(pairs);
    let mut sums = Sums([[0.0; 2 * TILE]; 2 * TILE]);
    for panel in job.panels.clone() {
        let first = panel * weight.width;
        let columns = weight.width.min(weight.order.columns - first);
        let walk = Walk {
            offset: [0, panel * weight.size() * size_of::<T::Group>()],
            advance: [pairs * size_of::<T::Group>(), pairs * ROW],
        };
        let mut begin = 0;
        for (i, (&end, to)) in left.ends.iter().zip(job.to.chunks(2 * TILE)).enumerate() {
            for to in to {
                // SAFETY: no other job has this pixel and this panel.
                expect_write(unsafe { job.out.part(to + first, columns) });
            }
            // SAFETY: the starts have `depth` numbers behind them, and so have rows of their copies
            // and the row of zeros; a panel has as many rows of 32 for each tap.
            unsafe { tiles.multiply(&left.steps[begin..end], &walk, &mut sums) };
            finish(&mut job, simd, (first, columns), i == 0, to, &sums);
            begin = end;
        }
    }
}

/// Measures and writes sums of some columns and pixels.
#[inline(always)]
fn finish<S: Simd, T: Element>(
    job: &mut Product<'_, T>,
    simd: S,
    (first, columns): (usize, usize),
    fresh: bool,
    to: &[usize],
    sums: &Sums,
) {
    let rows = &sums.0[..to.len()];
    if let Some(part) = &mut job.measure {
        for j in (0..columns).step_by(TILE) {
            let column = first - job.panels.start * job.weight.width + j;
            let rows = rows.iter().map(|row| f32::load(simd, &row[j..j + TILE]));
            part.add(simd, column, fresh, rows);
        }
    }
    for (row, to) in rows.iter().zip(to) {
        // SAFETY: no other job has this pixel and this panel.
        let out = unsafe { job.out.part(to + first, columns) };
        let row = [f32::load(simd, &row[..TILE]), f32::load(simd, &row[TILE..])];
        store(simd, row, (first, to + first), out, job.epilogue);
    }
}
