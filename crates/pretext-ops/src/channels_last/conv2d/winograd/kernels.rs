//! Transforms of kernels, and of their gradients back.

use pulp::{Simd, WithSimd};

use super::matrices::{Known, Size, sandwich};
use super::points::KernelPoints;
use crate::channels_last::element::Element as _;
use crate::channels_last::shared::Shared;
use crate::channels_last::tile;

/// Kernels to points: `G g Gt`, for a panel of columns.
pub(super) struct KernelTransform<'a, P, F, const M: usize, const A: usize> {
    pub(super) panel: usize,
    pub(super) weight: &'a [f32],
    pub(super) points: &'a KernelPoints,
    /// The place in the weight of a column, a depth and a tap.
    pub(super) of: &'a F,
    pub(super) values: Shared<'a, f32>,
    pub(super) size: Known<P>,
}

impl<P: Size<M, A>, F: Fn(usize, usize, usize) -> usize, const M: usize, const A: usize> WithSimd
    for KernelTransform<'_, P, F, M, A>
{
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let width = self.points.width;
        let first = self.panel * width;
        let columns = width.min(self.points.columns - first);
        let by_columns = (self.of)(1, 0, 0) > (self.of)(0, 1, 0);
        // Gathered for several depths at a time: a vector of numbers that were just written one by
        // one has to wait for them.
        let mut gathered = [[[0.0; 16]; 9]; DEPTHS];
        for lane in (0..width).step_by(S::F32_LANES) {
            // Columns beyond the last are zeros.
            let count = S::F32_LANES.min(columns.saturating_sub(lane));
            if count < S::F32_LANES {
                gathered = [[[0.0; 16]; 9]; DEPTHS];
            }
            for k in (0..self.points.depth).step_by(DEPTHS) {
                let depths = DEPTHS.min(self.points.depth - k);
                // In the order in which they lie in memory.
                let (outer, inner) = if by_columns { (count, depths) } else { (depths, count) };
                for a in 0..outer {
                    for b in 0..inner {
                        let (j, depth) = if by_columns { (a, b) } else { (b, a) };
                        for (tap, lanes) in gathered[depth].iter_mut().enumerate() {
                            lanes[j] = self.weight[(self.of)(first + lane + j, k + depth, tap)];
                        }
                    }
                }
                for (depth, taps) in gathered[..depths].iter().enumerate() {
                    let load = |i: usize, j: usize| f32::load(simd, &taps[i * 3 + j]);
                    let store = |i: usize, j: usize, value| {
                        let at = self.points.at(i * A + j, self.panel) + (k + depth) * width + lane;
                        // SAFETY: no other job has this panel.
                        f32::save(simd, unsafe { self.values.part(at, S::F32_LANES) }, value);
                    };
                    sandwich::<S, P::Kernel, A, 3>(simd, load, store);
                }
            }
        }
    }
}

/// Depths that are gathered before they are transformed.
const DEPTHS: usize = 8;

/// Points to the gradient of kernels: `Gt s G`, for a panel of outputs.
pub(super) struct KernelGradient<'a, P, const M: usize, const A: usize> {
    pub(super) panel: usize,
    /// `[pieces][points][panels of O][C][width]`.
    pub(super) sums: &'a [Vec<f32>],
    /// `O` and `C`.
    pub(super) channels: (usize, usize),
    pub(super) gradient: Shared<'a, f32>,
    pub(super) size: Known<P>,
}

impl<P: Size<M, A>, const M: usize, const A: usize> WithSimd for KernelGradient<'_, P, M, A> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (outputs, inputs) = self.channels;
        let width = tile::width(S::F32_LANES);
        let (panels, first) = (outputs.div_ceil(width), self.panel * width);
        let columns = width.min(outputs - first);
        // SAFETY: no other job has these outputs.
        let gradient = unsafe { self.gradient.part(first * inputs * 9, columns * inputs * 9) };
        for c in 0..inputs {
            for lane in (0..columns).step_by(S::F32_LANES) {
                let load = |i: usize, j: usize| {
                    let point = i * A + j;
                    let at = ((point * panels + self.panel) * inputs + c) * width + lane;
                    let mut sum = f32::load(simd, &self.sums[0][at..][..S::F32_LANES]);
                    for piece in &self.sums[1..] {
                        sum = simd.add_f32s(sum, f32::load(simd, &piece[at..][..S::F32_LANES]));
                    }
                    sum
                };
                let mut taps = [[0.0; 16]; 9];
                let store = |i: usize, j: usize, value| {
                    f32::save(simd, &mut taps[i * 3 + j], value);
                };
                sandwich::<S, P::KernelGradient, 3, A>(simd, load, store);
                for j in 0..S::F32_LANES.min(columns - lane) {
                    for (tap, lanes) in taps.iter().enumerate() {
                        gradient[((lane + j) * inputs + c) * 9 + tap] = lanes[j];
                    }
                }
            }
        }
    }
}
