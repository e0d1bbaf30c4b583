//! Pictures and streams that several tests share.

use pretext_augment::{Image, Size};
use rand::{SeedableRng, rngs::StdRng};

/// A size.
pub(crate) fn size(width: u32, height: u32) -> Size {
    Size { width, height }
}

/// A picture of a size in which neighbours differ and every value comes up.
pub(crate) fn noise(size: Size) -> Image {
    let bytes = (0..3 * size.area() as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8);
    Image::new(size, bytes.collect()).unwrap()
}

/// A stream of its own for each seed.
pub(crate) fn stream(seed: u64) -> StdRng {
    StdRng::seed_from_u64(seed)
}

/// Widths and heights: one pixel, lines, ordinary, as wide as a panorama.
pub(crate) const SHAPES: [(u32, u32); 12] = [
    (1, 1),
    (2, 1),
    (1, 2),
    (2, 2),
    (1, 57),
    (57, 1),
    (3, 5),
    (64, 48),
    (20_000, 1),
    (1, 20_000),
    (20_000, 3),
    (20_000, 40),
];
