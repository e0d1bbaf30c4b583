//! Stochastic gradient descent with momentum: `v = m v + g`, `w = w - rate v`.

use super::State;

pub(super) fn step(
    weights: &mut [f32],
    gradient: impl Iterator<Item = f32>,
    state: &mut State,
    rate: f64,
    keep: f32,
    momentum: f64,
) {
    state.first.resize(weights.len(), 0.0);
    let (rate, momentum) = (rate as f32, momentum as f32);
    for ((w, g), velocity) in weights.iter_mut().zip(gradient).zip(&mut state.first) {
        *velocity = momentum * *velocity + g;
        *w = *w * keep - rate * *velocity;
    }
}
