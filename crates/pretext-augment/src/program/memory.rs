//! How much memory a block of threads needs for a view.

use crate::ops::weights::pairs_of;
use crate::{Rect, Size};

/// Bytes that a block needs besides the picture and the output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    /// Three planes.
    pub(crate) canvas: u64,
    /// The least with which every step works, some rows at a time.
    pub(crate) scratch: u64,
    /// With this much, a step works on all of its rows at once.
    pub(crate) roomy: u64,
    /// The canvas as pixels, if it is resized.
    pub(crate) spill: u64,
    /// The program.
    pub(crate) program: u64,
}

/// Rows of the canvas begin at multiples of this.
const PITCH: u32 = 4;
/// Parts of the scratch memory begin at multiples of this.
const PART: u64 = 16;

impl Memory {
    /// Enough for both.
    pub(crate) fn most(self, other: Self) -> Self {
        Self {
            canvas: self.canvas.max(other.canvas),
            scratch: self.scratch.max(other.scratch),
            roomy: self.roomy.max(other.roomy),
            spill: self.spill.max(other.spill),
            program: self.program.max(other.program),
        }
    }

    /// For a canvas of this size.
    pub(super) fn canvas(size: Size) -> Self {
        Self { canvas: (3 * plane(size)).next_multiple_of(PART), ..Self::default() }
    }

    /// For the canvas as pixels. Some bytes beyond the last pixel are read.
    pub(super) fn spill(size: Size) -> Self {
        Self { spill: (3 * size.area() + 16).next_multiple_of(PART), ..Self::default() }
    }

    /// For a program of so many words.
    pub(super) fn program(words: usize) -> Self {
        Self { program: 4 * words as u64, ..Self::default() }
    }

    /// For a copy of one plane.
    pub(super) fn spare(size: Size) -> Self {
        let scratch = plane(size).next_multiple_of(PART);
        Self { scratch, roomy: scratch, ..Self::default() }
    }

    /// For resizing a rectangle of so many pixels to `size`, of which a part is wanted. The `last` step
    /// writes the view: it has no canvas but for the rows in work.
    pub(super) fn resample(crop: Size, size: Size, part: Rect, last: bool) -> Self {
        let pairs = |from, to| pairs_of(from, to) as u64;
        let (width, height) = (u64::from(part.width), u64::from(part.height));
        let weights = 4
            * ((pairs(crop.height, size.height) + 1) * height
                + (pairs(crop.width, size.width) + 1) * width);
        let line = 32 * (u64::from(crop.width).div_ceil(4) + 1);
        let pixels = 3 * width.next_multiple_of(u64::from(PITCH));
        if last {
            return Self::lines(weights, line + pixels, height);
        }
        Self::lines(weights, line, height).most(Self::canvas(part.size()))
    }

    /// For blurring a rectangle by so many taps, from a copy of a plane.
    pub(super) fn blur(size: Size, rect: Rect, taps: u32) -> Self {
        Self::lines(plane(size), blur_line(rect, taps), u64::from(rect.height))
    }

    /// For several at once, each of a rectangle and by so many taps.
    pub(super) fn blurs(size: Size, blurs: impl Iterator<Item = (Rect, u32)>) -> Self {
        let lines = blurs.map(|(rect, taps)| blur_line(rect, taps) * u64::from(rect.height));
        let roomy = plane(size).next_multiple_of(PART) + lines.sum::<u64>();
        Self { roomy: roomy.next_multiple_of(PART), ..Self::default() }
    }

    /// For lines of so many bytes, behind something else.
    fn lines(before: u64, line: u64, rows: u64) -> Self {
        let before = before.next_multiple_of(PART);
        let of = |rows: u64| (before + rows * line).next_multiple_of(PART);
        Self { scratch: of(1), roomy: of(rows), ..Self::default() }
    }
}

/// How far a blur's passes reach: multiples of four rows and columns, with weights of 0 where its taps do
/// not.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reach {
    /// Rows that the first pass reads for four lines: two to a pair of weights.
    pub(super) rows: usize,
    /// Weights of 0 before the first tap.
    pub(super) before: usize,
    /// Weights in all.
    pub(super) length: usize,
}

impl Reach {
    pub(super) fn of(taps: u32) -> Self {
        const FOUR: usize = PITCH as usize;
        let reach = taps as usize / 2;
        let wide = reach.next_multiple_of(FOUR);
        Self {
            rows: (taps as usize + 3).next_multiple_of(FOUR),
            before: wide - reach,
            length: (wide + reach + 1).next_multiple_of(FOUR),
        }
    }
}

/// Bytes of a line between the passes of a blur.
fn blur_line(rect: Rect, taps: u32) -> u64 {
    let start = rect.x / PITCH * PITCH;
    let columns = (rect.x + rect.width - start).next_multiple_of(PITCH);
    2 * (u64::from(columns) + Reach::of(taps).length as u64)
}

fn plane(size: Size) -> u64 {
    u64::from(size.width).next_multiple_of(u64::from(PITCH)) * u64::from(size.height)
}
