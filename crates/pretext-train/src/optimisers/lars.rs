//! LARS (You, Gitman and Ginsburg, "Large Batch Training of Convolutional Networks", 2017), as
//! SimCLR, BYOL and Barlow Twins use it: norms and biases neither decay nor adapt.

use super::Common;
use super::piece::{self, Piece};

/// With `u = g + decay w`, stretched to `trust` times the weights' norm: `v = m v + u`,
/// `w = w - rate v`. One pass for the norms, one for the step.
pub(super) fn step(pieces: &mut [Piece<'_>], common: &Common, momentum: f64, trust: f64) {
    let decay = common.decay as f32;
    let ratio = if common.decays { ratio(pieces, common, decay, trust) } else { 1.0 } as f32;
    let (rate, momentum) = (common.rate as f32, momentum as f32);
    piece::each(pieces, |piece| {
        let numbers = piece.weights.iter_mut().zip(piece.gradient).zip(&mut *piece.first);
        for ((w, g), velocity) in numbers {
            *velocity = momentum * *velocity + (g * common.scale + decay * *w) * ratio;
            *w -= rate * *velocity;
        }
    });
}

/// `trust |w| / |g + decay w|`, or 1 if either is 0.
fn ratio(pieces: &mut [Piece<'_>], common: &Common, decay: f32, trust: f64) -> f64 {
    let (weights, updates) = piece::sum(pieces, |piece| {
        let mut sums = (0.0, 0.0);
        for (w, g) in piece.weights.iter().zip(piece.gradient) {
            let u = f64::from(g * common.scale + decay * w);
            sums.0 += f64::from(*w) * f64::from(*w);
            sums.1 += u * u;
        }
        sums
    });
    if weights > 0.0 && updates > 0.0 { trust * (weights / updates).sqrt() } else { 1.0 }
}
