//! Ranger as fastai has it: RAdam's steps, with Lookahead's slow weights behind them.
//!
//! RAdam: Liu et al., "On the Variance of the Adaptive Learning Rate and Beyond" (2020).
//! Lookahead: Zhang et al., "Lookahead Optimizer: k steps forward, 1 step back" (2019).

use super::Common;
use super::piece::Piece;

pub(super) struct Radam {
    pub(super) momentum: f64,
    pub(super) squared_momentum: f64,
    pub(super) eps: f64,
    /// How far the slow weights move towards the fast ones at the end of this step, which then
    /// restart from there; `None` if they do not.
    pub(super) pull: Option<f64>,
}

/// What the variance's uncertainty leaves of an adaptive step, or `None` while too few steps were
/// taken to know a variance at all (`r <= 5`).
pub(super) fn rectification(step: f64, squared_momentum: f64) -> Option<f64> {
    let power = squared_momentum.powf(step);
    let limit = 2.0 / (1.0 - squared_momentum) - 1.0;
    let r = limit - 2.0 * step * power / (1.0 - power);
    (r > 5.0)
        .then(|| (((r - 4.0) * (r - 2.0) * limit) / ((limit - 4.0) * (limit - 2.0) * r)).sqrt())
}

/// One RAdam step: adaptive where the variance is known, plain momentum before. Piece by piece.
pub(super) fn step(piece: &mut Piece<'_>, common: &Common, radam: &Radam) {
    match radam.pull {
        None => fast_step(piece, common, radam, |_, _| {}),
        Some(pull) => {
            let pull = pull as f32;
            fast_step(piece, common, radam, |w, slow| {
                *slow += pull * (*w - *slow);
                *w = *slow;
            });
        }
    }
}

/// `then` gets each stepped weight and its slow one.
fn fast_step(
    piece: &mut Piece<'_>,
    common: &Common,
    radam: &Radam,
    then: impl Fn(&mut f32, &mut f32),
) {
    let steps = common.step as f64;
    let pace = common.rate / (1.0 - radam.momentum.powf(steps));
    let (beta1, beta2) = (radam.momentum as f32, radam.squared_momentum as f32);
    let averages = piece.first.iter_mut().zip(&mut *piece.second).zip(&mut *piece.slow);
    let numbers = piece.weights.iter_mut().zip(piece.gradient).zip(averages);
    match rectification(steps, radam.squared_momentum) {
        Some(rectification) => {
            let pace = (pace * rectification) as f32;
            let root = (1.0 - radam.squared_momentum.powf(steps)).sqrt().recip() as f32;
            let eps = radam.eps as f32;
            for ((w, g), ((first, second), slow)) in numbers {
                let g = g * common.scale;
                *first = beta1 * *first + (1.0 - beta1) * g;
                *second = beta2 * *second + (1.0 - beta2) * g * g;
                *w = *w * common.keep - pace * *first / (second.sqrt() * root + eps);
                then(w, slow);
            }
        }
        None => {
            let pace = pace as f32;
            for ((w, g), ((first, second), slow)) in numbers {
                let g = g * common.scale;
                *first = beta1 * *first + (1.0 - beta1) * g;
                *second = beta2 * *second + (1.0 - beta2) * g * g;
                *w = *w * common.keep - pace * *first;
                then(w, slow);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_steps_are_not_adaptive() {
        let adaptive: Vec<bool> =
            (1..=8).map(|step| rectification(f64::from(step), 0.99).is_some()).collect();
        assert_eq!(adaptive, [false, false, false, false, false, true, true, true]);
    }

    #[test]
    fn rectification_tends_to_one() {
        let late = rectification(1e5, 0.99).unwrap_or(0.0);
        assert!((late - 1.0).abs() < 1e-9, "{late}");
    }
}
