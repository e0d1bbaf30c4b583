//! Stochastic gradient descent with momentum: `v = m v + g`, `w = w - rate v`.

use super::Common;
use super::piece::Piece;

/// Piece by piece.
pub(super) fn step(piece: &mut Piece<'_>, common: &Common, momentum: f64) {
    let (rate, momentum) = (common.rate as f32, momentum as f32);
    let numbers = piece.weights.iter_mut().zip(piece.gradient).zip(&mut *piece.first);
    for ((w, g), velocity) in numbers {
        *velocity = momentum * *velocity + g * common.scale;
        *w = *w * common.keep - rate * *velocity;
    }
}
