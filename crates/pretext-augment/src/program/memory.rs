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
        }
    }

    /// For a canvas of this size.
    pub(super) fn canvas(size: Size) -> Self {
        Self { canvas: (3 * plane(size)).next_multiple_of(PART), ..Self::default() }
    }

    /// For the canvas as pixels. Some bytes beyond the last pixel are read.
    pub(super) fn spill(size: Size) -> Self {
        Self { spill: (3 * size.area() + 8).next_multiple_of(PART), ..Self::default() }
    }

    /// For a copy of one plane.
    pub(super) fn spare(size: Size) -> Self {
        let scratch = plane(size).next_multiple_of(PART);
        Self { scratch, roomy: scratch, ..Self::default() }
    }

    /// For resizing a rectangle of so many pixels to `size`, of which a part is wanted.
    pub(super) fn resample(crop: Size, size: Size, part: Rect) -> Self {
        let pairs = |from, to| pairs_of(from, to) as u64;
        let (width, height) = (u64::from(part.width), u64::from(part.height));
        let windows = 4 * (width + height)
            + 4 * (pairs(crop.height, size.height) * height
                + pairs(crop.width, size.width) * width);
        Self::lines(windows, 3 * u64::from(crop.width), height)
    }

    /// For blurring a rectangle, from a copy of a plane.
    pub(super) fn blur(size: Size, rect: Rect) -> Self {
        Self::lines(plane(size), u64::from(size.width), u64::from(rect.height))
    }

    /// For lines of so many numbers of two bytes, behind something else.
    fn lines(before: u64, length: u64, rows: u64) -> Self {
        let before = before.next_multiple_of(PART);
        let line = 2 * length.next_multiple_of(u64::from(PITCH));
        let of = |rows: u64| (before + rows * line).next_multiple_of(PART);
        Self { scratch: of(1), roomy: of(rows), ..Self::default() }
    }
}

fn plane(size: Size) -> u64 {
    u64::from(size.width).next_multiple_of(u64::from(PITCH)) * u64::from(size.height)
}
