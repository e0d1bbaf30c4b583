//! AdamW (Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019).

use super::State;

pub(super) struct Adam {
    pub(super) rate: f64,
    pub(super) keep: f32,
    pub(super) step: u64,
    pub(super) beta1: f64,
    pub(super) beta2: f64,
    pub(super) eps: f64,
}

/// With `m`, `v` the averages of `g`, `g^2`, corrected for their start at zero:
/// `w = keep w - rate m / (sqrt(v) + eps)`.
pub(super) fn step(
    weights: &mut [f32],
    gradient: impl Iterator<Item = f32>,
    state: &mut State,
    adam: &Adam,
) {
    state.first.resize(weights.len(), 0.0);
    state.second.resize(weights.len(), 0.0);
    let steps = adam.step as f64;
    let pace = (adam.rate / (1.0 - adam.beta1.powf(steps))) as f32;
    let root = (1.0 - adam.beta2.powf(steps)).sqrt().recip() as f32;
    let (beta1, beta2, eps) = (adam.beta1 as f32, adam.beta2 as f32, adam.eps as f32);
    let averages = state.first.iter_mut().zip(&mut state.second);
    for ((w, g), (first, second)) in weights.iter_mut().zip(gradient).zip(averages) {
        *first = beta1 * *first + (1.0 - beta1) * g;
        *second = beta2 * *second + (1.0 - beta2) * g * g;
        *w = *w * adam.keep - pace * *first / (second.sqrt() * root + eps);
    }
}
