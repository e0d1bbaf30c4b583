//! The matrices of Winograd's transforms, and the product with them.

#![allow(clippy::needless_range_loop, reason = "the indices are those of the formulae")]

use pulp::Simd;

/// The matrices for `M` by `M` outputs of `A` by `A` inputs.
pub(in crate::channels_last::conv2d) struct Matrices<const M: usize, const A: usize> {
    /// `Bt`.
    pub(super) input: [[f32; A]; A],
    /// `G`.
    pub(super) kernel: [[f32; 3]; A],
    /// `At`.
    pub(super) output: [[f32; A]; M],
}

/// A size of tile.
pub(in crate::channels_last::conv2d) trait Size<const M: usize, const A: usize>:
    Send + Sync
{
    const MATRICES: Matrices<M, A>;
}

/// `F(2x2, 3x3)`: points 0, 1, -1 and infinity.
pub(in crate::channels_last::conv2d) struct F2;

impl Size<2, 4> for F2 {
    const MATRICES: Matrices<2, 4> = Matrices {
        input: [[1., 0., -1., 0.], [0., 1., 1., 0.], [0., -1., 1., 0.], [0., 1., 0., -1.]],
        kernel: [[1., 0., 0.], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0., 0., 1.]],
        output: [[1., 1., 1., 0.], [0., 1., -1., -1.]],
    };
}

/// `F(4x4, 3x3)`: points 0, +-p, +-q and infinity.
pub(in crate::channels_last::conv2d) struct F4;

/// The usual points are 1 and 2; these round about 2.5 times less (after Barabasz et al., "Error
/// Analysis and Improving the Accuracy of Winograd Convolution for Deep Neural Networks", 2020),
/// and their powers are exact.
const P: f32 = 0.75;
const Q: f32 = 1.5;
const PP: f32 = P * P;
const QQ: f32 = Q * Q;
/// What the products of differences between the points divide the kernel's transform by.
const DP: f32 = 2.0 * PP * (PP - QQ);
const DQ: f32 = 2.0 * QQ * (QQ - PP);

impl Size<4, 6> for F4 {
    const MATRICES: Matrices<4, 6> = Matrices {
        input: [
            [PP * QQ, 0., -PP - QQ, 0., 1., 0.],
            [0., -P * QQ, -QQ, P, 1., 0.],
            [0., P * QQ, -QQ, -P, 1., 0.],
            [0., -Q * PP, -PP, Q, 1., 0.],
            [0., Q * PP, -PP, -Q, 1., 0.],
            [0., PP * QQ, 0., -PP - QQ, 0., 1.],
        ],
        kernel: [
            [1. / (PP * QQ), 0., 0.],
            [1. / DP, P / DP, PP / DP],
            [1. / DP, -P / DP, PP / DP],
            [1. / DQ, Q / DQ, QQ / DQ],
            [1. / DQ, -Q / DQ, QQ / DQ],
            [0., 0., 1.],
        ],
        output: [
            [1., 1., 1., 1., 1., 0.],
            [0., P, -P, Q, -Q, 0.],
            [0., PP, PP, QQ, QQ, 0.],
            [0., P * PP, -P * PP, Q * QQ, -Q * QQ, 1.],
        ],
    };
}

/// `matrix x matrix^T` for a square of vectors; the matrix is known when this is compiled, so that
/// zeros and ones cost nothing.
#[inline(always)]
pub(super) fn sandwich<S: Simd, const R: usize, const C: usize>(
    simd: S,
    coefficient: impl Fn(usize, usize) -> f32,
    x: [[S::f32s; C]; C],
) -> [[S::f32s; R]; R] {
    let zero = simd.splat_f32s(0.0);
    let mut half = [[zero; C]; R];
    for j in 0..C {
        for i in 0..R {
            half[i][j] = combine(simd, |k| coefficient(i, k), |k| x[k][j], C);
        }
    }
    let mut out = [[zero; R]; R];
    for i in 0..R {
        for j in 0..R {
            out[i][j] = combine(simd, |k| coefficient(j, k), |k| half[i][k], C);
        }
    }
    out
}

#[inline(always)]
fn combine<S: Simd>(
    simd: S,
    coefficient: impl Fn(usize) -> f32,
    x: impl Fn(usize) -> S::f32s,
    count: usize,
) -> S::f32s {
    let mut sum = None;
    for k in 0..count {
        let c = coefficient(k);
        if c == 0.0 {
            continue;
        }
        sum = Some(match sum {
            None if c == 1.0 => x(k),
            None => simd.mul_f32s(simd.splat_f32s(c), x(k)),
            Some(sum) if c == 1.0 => simd.add_f32s(sum, x(k)),
            Some(sum) if c == -1.0 => simd.sub_f32s(sum, x(k)),
            Some(sum) => simd.mul_add_e_f32s(simd.splat_f32s(c), x(k), sum),
        });
    }
    sum.unwrap_or(simd.splat_f32s(0.0))
}

/// A size of tile that is known when this is compiled.
pub(super) type Known<P> = std::marker::PhantomData<P>;
