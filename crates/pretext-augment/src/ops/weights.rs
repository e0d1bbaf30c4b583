//! The weights of resizing and blurring, in whole numbers: every processor and every device gets
//! the same bytes.
//!
//! # Specification
//!
//! Real weights, computed in `f64` and of sum 1, become whole numbers of 16384ths of sum 16384: each
//! is the difference of two neighbouring running sums, each rounded to the nearest (halves to even). A
//! filter is carried out down the columns first and then along the rows. The sums of the first pass are rounded
//! to 128ths of a level, those of the second to levels; both round halves up. So
//! `(sum + 64) >> 7` after the first pass and `(sum + 2^20) >> 21` after the second.

use std::ops::Range;

/// Weights are whole numbers of this.
pub(crate) const ONE: i32 = 1 << 14;

/// What the sums of the first pass are shifted by: bytes times weights to 128ths of a level.
pub(crate) const FIRST: i32 = 7;
/// What the sums of the second pass are shifted by: 128ths of a level times weights to levels.
pub(crate) const SECOND: i32 = 21;

/// Half of what is shifted out, so that halves are rounded up.
pub(crate) const fn half(shift: i32) -> i32 {
    1 << (shift - 1)
}

/// What the pixels of a line are made of when it is brought to another length, antialiased.
#[derive(Default)]
pub(crate) struct Windows {
    /// Pairs of weights for each output pixel; the last ones may be 0.
    pairs: usize,
    firsts: Vec<u32>,
    weights: Vec<[i16; 2]>,
}

impl Windows {
    /// Those of the output pixels that are wanted of a line of `to` pixels made of one of `from`.
    pub(crate) fn new(from: u32, to: u32, wanted: Range<u32>) -> Self {
        let mut windows = Self::default();
        windows.set(from, to, wanted);
        windows
    }

    /// The same, in the memory of what was here before.
    #[inline(always)]
    pub(crate) fn set(&mut self, from: u32, to: u32, wanted: Range<u32>) {
        let line = Line::new(from, to);
        self.pairs = line.pairs;
        let count = wanted.len();
        self.firsts.clear();
        self.firsts.resize(count.next_multiple_of(LANES), 0);
        self.weights.clear();
        self.weights.resize(count.next_multiple_of(LANES) * self.pairs, [0; 2]);
        let weights = self.weights.as_flattened_mut().chunks_exact_mut(2 * LANES * self.pairs);
        let (firsts, _) = self.firsts.as_chunks_mut::<LANES>();
        for ((i, firsts), weights) in wanted.step_by(LANES).zip(firsts).zip(weights) {
            // The usual numbers of pairs are known when this is compiled.
            match self.pairs {
                1 => line.windows(i, 2, firsts, weights),
                2 => line.windows(i, 4, firsts, weights),
                pairs => line.windows(i, 2 * pairs, firsts, weights),
            }
        }
        self.firsts.truncate(count);
        self.weights.truncate(count * self.pairs);
    }

    /// Pairs of weights for each output pixel.
    pub(crate) fn pairs(&self) -> usize {
        self.pairs
    }

    /// How many output pixels there are.
    pub(crate) fn len(&self) -> usize {
        self.firsts.len()
    }

    /// The first input pixel of an output pixel, and the weights from there on. The last weights may
    /// be 0 and belong to no pixel.
    #[inline(always)]
    pub(crate) fn at(&self, i: usize) -> (usize, &[[i16; 2]]) {
        (self.firsts[i] as usize, &self.weights[i * self.pairs..][..self.pairs])
    }

    /// The first input pixels of `count` output pixels from `i` on, and their weights.
    #[inline(always)]
    pub(crate) fn part(&self, i: usize, count: usize) -> (&[u32], &[[i16; 2]]) {
        let weights = &self.weights[i * self.pairs..][..count * self.pairs];
        (&self.firsts[i..i + count], weights)
    }

    /// The input pixels that any output pixel is made of, in a line of so many.
    pub(crate) fn reached(&self, from: u32) -> Range<u32> {
        let first = self.firsts.first().map_or(0, |&first| first);
        let last = self.firsts.last().map_or(0, |&first| first);
        first..last.saturating_add(2 * self.pairs as u32).min(from)
    }
}

/// Output pixels whose weights are computed together.
const LANES: usize = 8;

/// A line of pixels that is brought to another length.
struct Line {
    from: f64,
    /// Input pixels for an output pixel.
    scale: f64,
    /// How far an output pixel reaches to both sides.
    reach: f64,
    pairs: usize,
}

impl Line {
    #[inline(always)]
    fn new(from: u32, to: u32) -> Self {
        let (from, scale) = (f64::from(from), f64::from(from) / f64::from(to));
        let reach = scale.max(1.0);
        Self { from, scale, reach, pairs: pairs(from, reach) }
    }

    /// The first input pixels of the output pixels from `i` on, and `taps` weights of each.
    #[allow(clippy::needless_range_loop, reason = "the compiler keeps such arrays in vectors")]
    #[inline(always)]
    fn windows(&self, i: u32, taps: usize, firsts: &mut [u32; LANES], weights: &mut [i16]) {
        let inverse = 1.0 / self.reach;
        let [mut first, mut past, mut nearest, mut sum, mut unit] = [[0.0; LANES]; 5];
        for j in 0..LANES {
            let centre = (f64::from(i + j as u32) + 0.5) * self.scale;
            first[j] = rounded_down((centre - self.reach + 0.5).max(0.0));
            past[j] = rounded_down((centre + self.reach + 0.5).min(self.from));
            nearest[j] = first[j] + 0.5 - centre;
            firsts[j] = nearest_whole(first[j]) as u32;
        }
        // As many steps for each pixel, so that the processor can foresee them.
        let weight = |j: usize, k: f64| {
            let weight = 1.0 - ((nearest[j] + k) * inverse).abs();
            if weight > 0.0 && first[j] + k < past[j] { weight } else { 0.0 }
        };
        for k in 0..taps {
            for j in 0..LANES {
                sum[j] += weight(j, k as f64);
            }
        }
        for j in 0..LANES {
            unit[j] = f64::from(ONE) / sum[j];
        }
        let (mut sum, mut before) = ([0.0; LANES], [0; LANES]);
        for k in 0..taps {
            let mut up_to = [0; LANES];
            for j in 0..LANES {
                sum[j] += weight(j, k as f64);
                up_to[j] = nearest_whole(sum[j] * unit[j]);
            }
            for j in 0..LANES {
                weights[j * taps + k] = (up_to[j] - before[j]) as i16;
            }
            before = up_to;
        }
    }
}

/// Pairs of weights for an output pixel that reaches so far in a line of `from` pixels: no more pixels
/// have a centre under a triangle of twice the reach.
#[inline(always)]
fn pairs(from: f64, reach: f64) -> usize {
    ((2.0 * reach).ceil().min(from) as usize).div_ceil(2)
}

/// Pairs of weights for each output pixel of a line of `to` pixels made of one of `from`.
#[cfg(any(test, feature = "cuda"))]
pub(crate) fn pairs_of(from: u32, to: u32) -> usize {
    let from = f64::from(from);
    pairs(from, (from / f64::from(to)).max(1.0))
}

/// From here on floats are whole numbers.
const WHOLE: f64 = 6_755_399_441_055_744.0;

/// Rounded to the nearest whole number, halves to even; for numbers of less than 31 bits.
#[inline(always)]
fn nearest_whole(value: f64) -> i32 {
    // These are the whole number's lower bits.
    (value + WHOLE).to_bits() as i32
}

/// Rounded down; for numbers of less than 32 bits. `f64::floor` is a call on some processors.
#[inline(always)]
fn rounded_down(value: f64) -> f64 {
    let near = (value + WHOLE) - WHOLE;
    if near > value { near - 1.0 } else { near }
}

/// The weights of a Gaussian with `kernel` taps, an odd number of them and symmetric, without those
/// that are 0 at both ends. An even number of taps counts as the next odd one, and no kernel has more
/// than 16,383.
pub(crate) fn gaussian(kernel: u32, sigma: f32, weights: &mut Vec<i16>) {
    weights.clear();
    if sigma > 0.0 {
        // Farther taps weigh nothing, not even in `f64`.
        let reach = (kernel / 2).min((40.0 * sigma).ceil() as u32).min(8191);
        let weight = |i: u32| (-0.5 * (f64::from(i) / f64::from(sigma)).powi(2)).exp();
        let side: f64 = (1..=reach).rev().map(weight).sum();
        let unit = f64::from(ONE) / (1.0 + 2.0 * side);
        let (mut sum, mut before) = (0.0, 0);
        for i in (1..=reach).rev() {
            sum += weight(i);
            let up_to = nearest_whole(sum * unit);
            if up_to > 0 {
                weights.push((up_to - before) as i16);
            }
            before = up_to;
        }
    }
    let side: i32 = weights.iter().map(|&weight| i32::from(weight)).sum();
    weights.push((ONE - 2 * side) as i16);
    for i in (0..weights.len() - 1).rev() {
        weights.push(weights[i]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_sum_to_one_and_lie_inside() {
        for (from, to) in [(1, 1), (1, 9), (9, 1), (213, 128), (128, 213), (20_000, 3), (7, 7)] {
            let windows = Windows::new(from, to, 0..to);
            for i in 0..windows.len() {
                let (first, weights) = windows.at(i);
                let weights = weights.as_flattened();
                let inside = from as usize - first;
                assert_eq!(weights.iter().map(|&w| i32::from(w)).sum::<i32>(), ONE);
                assert!(weights.iter().skip(inside).all(|&w| w == 0), "{from} to {to}, {i}");
                assert!(weights.iter().all(|&w| w >= 0));
            }
        }
    }

    #[test]
    fn windows_are_the_triangles() {
        // By hand: shrunk to a half, weights 1, 3, 3, 1 eighths inside, 3, 3, 1 sevenths at the ends.
        let windows = Windows::new(8, 4, 0..4);
        let eighth = (ONE / 8) as i16;
        assert_eq!(windows.at(1), (1, &[[eighth, 3 * eighth], [3 * eighth, eighth]][..]));
        let (first, weights) = windows.at(0);
        assert_eq!((first, weights), (0, &[[7022, 7021], [2341, 0]][..]));
    }

    #[test]
    fn gaussians_are_symmetric_and_sum_to_one() {
        let mut weights = vec![];
        for (kernel, sigma) in
            [(23, 2.0), (3, 0.8), (1, 5.0), (9, 0.1), (4, 1.0), (99, f32::INFINITY), (7, 0.0)]
        {
            gaussian(kernel, sigma, &mut weights);
            assert_eq!(weights.iter().map(|&w| i32::from(w)).sum::<i32>(), ONE);
            assert!(weights.iter().eq(weights.iter().rev()) && weights.len() % 2 == 1);
            assert!(weights.len() as u32 <= kernel | 1, "{kernel} taps, {sigma}: {weights:?}");
        }
        gaussian(9, 0.1, &mut weights);
        assert_eq!(weights, [ONE as i16]);
        gaussian(3, 1.0, &mut weights);
        // exp(-1/2) / (1 + 2 exp(-1/2)) of 16384.
        assert_eq!(weights, [4490, 7404, 4490]);
    }
}
