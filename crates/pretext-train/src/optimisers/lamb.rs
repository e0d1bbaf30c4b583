//! LAMB (You et al., "Large Batch Optimization for Deep Learning", 2020), as fastai's `Lamb`.

use super::Common;
use super::adamw::Adam;
use super::piece::{self, Piece};

/// The most that a step is stretched.
pub(super) const MOST: f64 = 10.0;

/// Adam's step `m / (sqrt(v) + eps)`, stretched to the norm of the decayed weights. One pass for the
/// averages and the norms, one for the step.
pub(super) fn step(pieces: &mut [Piece<'_>], common: &Common, adam: &Adam) {
    let steps = common.step as f64;
    let start = (1.0 - adam.beta1.powf(steps)).recip() as f32;
    let root = (1.0 - adam.beta2.powf(steps)).sqrt().recip() as f32;
    let (beta1, beta2, eps) = (adam.beta1 as f32, adam.beta2 as f32, adam.eps as f32);
    let step = |first: f32, second: f32| first * start / (second.sqrt() * root + eps);
    let (weights, moves) = piece::sum(pieces, |piece| {
        let mut sums = (0.0, 0.0);
        let averages = piece.first.iter_mut().zip(&mut *piece.second);
        for ((w, g), (first, second)) in piece.weights.iter_mut().zip(piece.gradient).zip(averages)
        {
            let g = g * common.scale;
            *first = beta1 * *first + (1.0 - beta1) * g;
            *second = beta2 * *second + (1.0 - beta2) * g * g;
            *w *= common.keep;
            let (w, step) = (f64::from(*w), f64::from(step(*first, *second)));
            sums.0 += w * w;
            sums.1 += step * step;
        }
        sums
    });
    let ratio = if weights > 0.0 && moves > 0.0 { (weights / moves).sqrt().min(MOST) } else { 1.0 };
    let pace = (common.rate * ratio) as f32;
    piece::each(pieces, |piece| {
        let averages = piece.first.iter().zip(&*piece.second);
        for (w, (first, second)) in piece.weights.iter_mut().zip(averages) {
            *w -= pace * step(*first, *second);
        }
    });
}
