//! AdamW (Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019).

use super::Common;
use super::piece::Piece;

pub(super) struct Adam {
    pub(super) beta1: f64,
    pub(super) beta2: f64,
    pub(super) eps: f64,
}

/// With `m`, `v` the averages of `g`, `g^2`, corrected for their start at zero:
/// `w = keep w - rate m / (sqrt(v) + eps)`. Piece by piece.
pub(super) fn step(piece: &mut Piece<'_>, common: &Common, adam: &Adam) {
    let steps = common.step as f64;
    let pace = (common.rate / (1.0 - adam.beta1.powf(steps))) as f32;
    let root = (1.0 - adam.beta2.powf(steps)).sqrt().recip() as f32;
    let (beta1, beta2, eps) = (adam.beta1 as f32, adam.beta2 as f32, adam.eps as f32);
    let averages = piece.first.iter_mut().zip(&mut *piece.second);
    for ((w, g), (first, second)) in piece.weights.iter_mut().zip(piece.gradient).zip(averages) {
        let g = g * common.scale;
        *first = beta1 * *first + (1.0 - beta1) * g;
        *second = beta2 * *second + (1.0 - beta2) * g * g;
        *w = *w * common.keep - pace * *first / (second.sqrt() * root + eps);
    }
}
