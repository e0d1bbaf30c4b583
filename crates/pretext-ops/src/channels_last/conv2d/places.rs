//! The pixels of a batch, in the order in which they are worked on.

use std::ops::Range;

/// A pixel.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) picture: usize,
    pub(super) y: usize,
    pub(super) x: usize,
}

/// All pixels of some pictures: picture by picture and row by row, or `together` pictures at a time,
/// of which one pixel of each comes before the next; the last pictures, if they are fewer, one by
/// one.
#[derive(Clone, Copy)]
pub(super) struct Pixels {
    pub(super) pictures: usize,
    /// Rows and columns.
    pub(super) size: (usize, usize),
    pub(super) together: usize,
}

impl Pixels {
    pub(super) fn count(&self) -> usize {
        self.pictures * self.size.0 * self.size.1
    }

    /// Where some of them lie.
    pub(super) fn places(&self, pixels: Range<usize>) -> Vec<Place> {
        let (height, width) = self.size;
        let area = (height * width).max(1);
        let whole = self.pictures / self.together * self.together;
        let mut together = if pixels.start < whole * area { self.together } else { 1 };
        let (group, rest) = (pixels.start / (area * together), pixels.start % (area * together));
        let (pixel, mut lane) = (rest / together, rest % together);
        let (y, x) = (pixel / width.max(1), pixel % width.max(1));
        let mut next = Place { picture: group * together, y, x };
        let place = |_| {
            let place = Place { picture: next.picture + lane, ..next };
            lane += 1;
            if lane == together {
                (lane, next.x) = (0, next.x + 1);
                if next.x == width {
                    (next.x, next.y) = (0, next.y + 1);
                    if next.y == height {
                        (next.y, next.picture) = (0, next.picture + together);
                        together = if next.picture < whole { together } else { 1 };
                    }
                }
            }
            place
        };
        pixels.map(place).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pixel_comes_once_wherever_one_begins() {
        for together in [1, 2, 3] {
            let pixels = Pixels { pictures: 5, size: (2, 3), together };
            let at = |place: &Place| (place.picture * 2 + place.y) * 3 + place.x;
            let all: Vec<usize> = pixels.places(0..30).iter().map(at).collect();
            let mut sorted = all.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..pixels.count()).collect::<Vec<_>>());
            for first in 0..30 {
                let some: Vec<usize> = pixels.places(first..30).iter().map(at).collect();
                assert_eq!(some, all[first..]);
            }
        }
        let pixels = Pixels { pictures: 3, size: (1, 2), together: 2 };
        let pictures: Vec<usize> = pixels.places(0..6).iter().map(|place| place.picture).collect();
        assert_eq!(pictures, [0, 1, 0, 1, 2, 2]);
    }
}
