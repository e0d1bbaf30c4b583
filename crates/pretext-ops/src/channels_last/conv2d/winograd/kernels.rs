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
        let step = (self.of)(1, 0, 0) - (self.of)(0, 0, 0);
        for k in 0..self.points.depth {
            for lane in (0..width).step_by(S::F32_LANES) {
                // Columns beyond the last are zeros.
                let count = S::F32_LANES.min(columns.saturating_sub(lane));
                let mut kernel = [[simd.splat_f32s(0.0); 3]; 3];
                for (tap, value) in kernel.as_flattened_mut().iter_mut().enumerate() {
                    let at = (self.of)(first + lane, k, tap);
                    let mut lanes = [0.0; 16];
                    for (j, lane) in lanes[..count].iter_mut().enumerate() {
                        *lane = self.weight[at + j * step];
                    }
                    *value = f32::load(simd, &lanes);
                }
                let points = sandwich::<S, A, 3>(simd, |i, j| P::MATRICES.kernel[i][j], kernel);
                for (point, value) in points.as_flattened().iter().enumerate() {
                    let at = self.points.at(point, self.panel) + k * width + lane;
                    // SAFETY: no other job has this panel.
                    f32::save(simd, unsafe { self.values.part(at, S::F32_LANES) }, *value);
                }
            }
        }
    }
}

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
                let mut points = [[simd.splat_f32s(0.0); A]; A];
                for (point, value) in points.as_flattened_mut().iter_mut().enumerate() {
                    let at = ((point * panels + self.panel) * inputs + c) * width + lane;
                    for piece in self.sums {
                        *value =
                            simd.add_f32s(*value, f32::load(simd, &piece[at..][..S::F32_LANES]));
                    }
                }
                let kernel = sandwich::<S, 3, A>(simd, |i, j| P::MATRICES.kernel[j][i], points);
                for (tap, value) in kernel.as_flattened().iter().enumerate() {
                    let mut lanes = [0.0; 16];
                    f32::save(simd, &mut lanes, *value);
                    for (j, value) in lanes[..S::F32_LANES.min(columns - lane)].iter().enumerate() {
                        gradient[((lane + j) * inputs + c) * 9 + tap] = *value;
                    }
                }
            }
        }
    }
}
