//! Winograd's transforms: the matrices, and the products with them for vectors of channels.

#![allow(clippy::needless_range_loop, reason = "the indices are those of the formulae")]

use std::array;
use std::marker::PhantomData;

use pulp::Simd;

/// The transforms of a size of tile: `M` by `M` outputs of `A` by `A` inputs.
pub(in crate::channels_last::conv2d) trait Size<const M: usize, const A: usize>:
    Send + Sync
{
    /// Inputs to points: `Bt d`.
    type Input: Matrix<A, A>;
    /// Kernels to points: `G g`.
    type Kernel: Matrix<A, 3>;
    /// Points to outputs: `At m`.
    type Output: Matrix<M, A>;
    /// Gradients of outputs to points: `A dy`.
    type OutputGradient: Matrix<A, M>;
    /// Points to gradients of kernels: `Gt s`.
    type KernelGradient: Matrix<3, A>;
}

/// A matrix that is known when this is compiled.
///
/// What its rows share is computed once, which loops over its numbers would not do; those would even
/// test each number for zero at every tile. It is a type, for the compiler must inline it.
pub(in crate::channels_last::conv2d) trait Matrix<const R: usize, const C: usize> {
    /// The product with a row or a column.
    fn times<S: Simd>(simd: S, x: [S::f32s; C]) -> [S::f32s; R];
}

pub(in crate::channels_last::conv2d) struct Input<P>(PhantomData<P>);
pub(in crate::channels_last::conv2d) struct Kernel<P>(PhantomData<P>);
pub(in crate::channels_last::conv2d) struct Output<P>(PhantomData<P>);
pub(in crate::channels_last::conv2d) struct OutputGradient<P>(PhantomData<P>);
pub(in crate::channels_last::conv2d) struct KernelGradient<P>(PhantomData<P>);

/// `F(2x2, 3x3)`: points 0, 1, -1 and infinity.
///
/// ```text
///      1  0 -1  0        1    0    0          1  1  1  0
/// Bt = 0  1  1  0    G = 1/2  1/2  1/2   At = 0  1 -1 -1
///      0 -1  1  0        1/2 -1/2  1/2
///      0  1  0 -1        0    0    1
/// ```
pub(in crate::channels_last::conv2d) struct F2;

impl Size<2, 4> for F2 {
    type Input = Input<Self>;
    type Kernel = Kernel<Self>;
    type Output = Output<Self>;
    type OutputGradient = OutputGradient<Self>;
    type KernelGradient = KernelGradient<Self>;
}

impl Matrix<4, 4> for Input<F2> {
    #[inline(always)]
    fn times<S: Simd>(simd: S, [a, b, c, d]: [S::f32s; 4]) -> [S::f32s; 4] {
        [simd.sub_f32s(a, c), simd.add_f32s(b, c), simd.sub_f32s(c, b), simd.sub_f32s(b, d)]
    }
}

impl Matrix<4, 3> for Kernel<F2> {
    #[inline(always)]
    fn times<S: Simd>(simd: S, [a, b, c]: [S::f32s; 3]) -> [S::f32s; 4] {
        let half = simd.splat_f32s(0.5);
        let (even, odd) = (simd.mul_f32s(half, simd.add_f32s(a, c)), simd.mul_f32s(half, b));
        [a, simd.add_f32s(even, odd), simd.sub_f32s(even, odd), c]
    }
}

impl Matrix<2, 4> for Output<F2> {
    #[inline(always)]
    fn times<S: Simd>(simd: S, [a, b, c, d]: [S::f32s; 4]) -> [S::f32s; 2] {
        [simd.add_f32s(a, simd.add_f32s(b, c)), simd.sub_f32s(simd.sub_f32s(b, c), d)]
    }
}

impl Matrix<4, 2> for OutputGradient<F2> {
    #[inline(always)]
    fn times<S: Simd>(simd: S, [a, b]: [S::f32s; 2]) -> [S::f32s; 4] {
        [a, simd.add_f32s(a, b), simd.sub_f32s(a, b), simd.neg_f32s(b)]
    }
}

impl Matrix<3, 4> for KernelGradient<F2> {
    #[inline(always)]
    fn times<S: Simd>(simd: S, [a, b, c, d]: [S::f32s; 4]) -> [S::f32s; 3] {
        let half = simd.splat_f32s(0.5);
        let even = simd.add_f32s(b, c);
        [
            simd.mul_add_e_f32s(half, even, a),
            simd.mul_f32s(half, simd.sub_f32s(b, c)),
            simd.mul_add_e_f32s(half, even, d),
        ]
    }
}

/// `F(4x4, 3x3)`: points 0, +-p, +-q and infinity.
///
/// ```text
///      ppqq    0     -pp-qq  0       1  0         1/ppqq   0      0            1  1    1    1    1    0
///      0      -pqq   -qq     p       1  0         1/dp     p/dp   pp/dp        0  p   -p    q   -q    0
/// Bt = 0       pqq   -qq    -p       1  0     G = 1/dp    -p/dp   pp/dp   At = 0  pp   pp   qq   qq   0
///      0      -qpp   -pp     q       1  0         1/dq     q/dq   qq/dq        0  ppp -ppp  qqq -qqq  1
///      0       qpp   -pp    -q       1  0         1/dq    -q/dq   qq/dq
///      0       ppqq   0     -pp-qq   0  1         0        0      1
/// ```
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

/// `a + factor b`
#[inline(always)]
fn plus<S: Simd>(simd: S, a: S::f32s, factor: f32, b: S::f32s) -> S::f32s {
    simd.mul_add_e_f32s(simd.splat_f32s(factor), b, a)
}

/// `factor a`
#[inline(always)]
fn scaled<S: Simd>(simd: S, factor: f32, a: S::f32s) -> S::f32s {
    simd.mul_f32s(simd.splat_f32s(factor), a)
}

/// `even + odd` and `even - odd`: what points of either sign give.
#[inline(always)]
fn signs<S: Simd>(simd: S, even: S::f32s, odd: S::f32s) -> [S::f32s; 2] {
    [simd.add_f32s(even, odd), simd.sub_f32s(even, odd)]
}

impl Size<4, 6> for F4 {
    type Input = Input<Self>;
    type Kernel = Kernel<Self>;
    type Output = Output<Self>;
    type OutputGradient = OutputGradient<Self>;
    type KernelGradient = KernelGradient<Self>;
}

impl Matrix<6, 6> for Input<F4> {
    #[inline(always)]
    fn times<S: Simd>(simd: S, [a, b, c, d, e, f]: [S::f32s; 6]) -> [S::f32s; 6] {
        let first = plus(simd, plus(simd, e, -PP - QQ, c), PP * QQ, a);
        let last = plus(simd, plus(simd, f, -PP - QQ, d), PP * QQ, b);
        let odd_p = scaled(simd, P, plus(simd, d, -QQ, b));
        let [p, minus_p] = signs(simd, plus(simd, e, -QQ, c), odd_p);
        let odd_q = scaled(simd, Q, plus(simd, d, -PP, b));
        let [q, minus_q] = signs(simd, plus(simd, e, -PP, c), odd_q);
        [first, p, minus_p, q, minus_q, last]
    }
}

impl Matrix<6, 3> for Kernel<F4> {
    #[inline(always)]
    fn times<S: Simd>(simd: S, [a, b, c]: [S::f32s; 3]) -> [S::f32s; 6] {
        let even_p = plus(simd, scaled(simd, 1. / DP, a), PP / DP, c);
        let [p, minus_p] = signs(simd, even_p, scaled(simd, P / DP, b));
        let even_q = plus(simd, scaled(simd, 1. / DQ, a), QQ / DQ, c);
        let [q, minus_q] = signs(simd, even_q, scaled(simd, Q / DQ, b));
        [scaled(simd, 1. / (PP * QQ), a), p, minus_p, q, minus_q, c]
    }
}

impl Matrix<4, 6> for Output<F4> {
    #[inline(always)]
    fn times<S: Simd>(simd: S, [a, p, minus_p, q, minus_q, f]: [S::f32s; 6]) -> [S::f32s; 4] {
        let [[even_p, odd_p], [even_q, odd_q]] = [signs(simd, p, minus_p), signs(simd, q, minus_q)];
        [
            simd.add_f32s(a, simd.add_f32s(even_p, even_q)),
            plus(simd, scaled(simd, P, odd_p), Q, odd_q),
            plus(simd, scaled(simd, PP, even_p), QQ, even_q),
            plus(simd, plus(simd, f, P * PP, odd_p), Q * QQ, odd_q),
        ]
    }
}

impl Matrix<6, 4> for OutputGradient<F4> {
    #[inline(always)]
    fn times<S: Simd>(simd: S, [a, b, c, d]: [S::f32s; 4]) -> [S::f32s; 6] {
        let odd_p = scaled(simd, P, plus(simd, b, PP, d));
        let [p, minus_p] = signs(simd, plus(simd, a, PP, c), odd_p);
        let odd_q = scaled(simd, Q, plus(simd, b, QQ, d));
        let [q, minus_q] = signs(simd, plus(simd, a, QQ, c), odd_q);
        [a, p, minus_p, q, minus_q, d]
    }
}

impl Matrix<3, 6> for KernelGradient<F4> {
    #[inline(always)]
    fn times<S: Simd>(simd: S, [a, p, minus_p, q, minus_q, f]: [S::f32s; 6]) -> [S::f32s; 3] {
        let [[even_p, odd_p], [even_q, odd_q]] = [signs(simd, p, minus_p), signs(simd, q, minus_q)];
        let first = scaled(simd, 1. / (PP * QQ), a);
        [
            plus(simd, plus(simd, first, 1. / DP, even_p), 1. / DQ, even_q),
            plus(simd, scaled(simd, P / DP, odd_p), Q / DQ, odd_q),
            plus(simd, plus(simd, f, PP / DP, even_p), QQ / DQ, even_q),
        ]
    }
}

/// `matrix x matrix^T` for a square of vectors: columns first, then rows. `load` gives a place's
/// vector, `store` takes the result's.
#[inline(always)]
pub(super) fn sandwich<S: Simd, B: Matrix<R, C>, const R: usize, const C: usize>(
    simd: S,
    load: impl Fn(usize, usize) -> S::f32s,
    mut store: impl FnMut(usize, usize, S::f32s),
) {
    let mut columns = [[simd.splat_f32s(0.0); R]; C];
    for j in 0..C {
        columns[j] = B::times(simd, array::from_fn(|i| load(i, j)));
    }
    for i in 0..R {
        let row = B::times(simd, array::from_fn(|j| columns[j][i]));
        for (j, value) in row.into_iter().enumerate() {
            store(i, j, value);
        }
    }
}

/// A size of tile that is known when this is compiled.
pub(super) type Known<P> = std::marker::PhantomData<P>;

#[cfg(test)]
mod tests {
    use pulp::Scalar;

    use super::*;

    /// The matrix that a function multiplies by, from what it makes of unit vectors.
    fn matrix<B: Matrix<R, C>, const R: usize, const C: usize>() -> [[f32; C]; R] {
        let columns: [[f32; R]; C] =
            array::from_fn(|j| B::times(Scalar, array::from_fn(|i| f32::from(u8::from(i == j)))));
        array::from_fn(|i| array::from_fn(|j| columns[j][i]))
    }

    fn transposed<const R: usize, const C: usize>(m: [[f32; C]; R]) -> [[f32; R]; C] {
        array::from_fn(|i| array::from_fn(|j| m[j][i]))
    }

    /// The one-dimensional algorithm is right for all inputs if it is for each pair of units:
    /// `At [(G g) * (Bt d)]` is the convolution. The gradients' matrices are these, transposed.
    fn check<P: Size<M, A>, const M: usize, const A: usize>() {
        let (input, kernel) = (matrix::<P::Input, A, A>(), matrix::<P::Kernel, A, 3>());
        let output = matrix::<P::Output, M, A>();
        for d in 0..A {
            for g in 0..3 {
                for y in 0..M {
                    let sum: f32 = (0..A).map(|k| output[y][k] * kernel[k][g] * input[k][d]).sum();
                    let right = f32::from(u8::from(d == y + g));
                    assert!((sum - right).abs() < 1e-5, "input {d}, tap {g}, output {y}: {sum}");
                }
            }
        }
        assert_eq!(matrix::<P::OutputGradient, A, M>(), transposed(output));
        assert_eq!(matrix::<P::KernelGradient, 3, A>(), transposed(kernel));
    }

    #[test]
    fn the_transforms_make_a_convolution() {
        check::<F2, 2, 4>();
        check::<F4, 4, 6>();
    }
}
