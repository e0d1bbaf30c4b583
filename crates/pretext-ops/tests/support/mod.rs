//! Numbers for tests: the same on every machine, and never within a finite-difference step of a
//! kink.

#![allow(dead_code, reason = "each test binary uses a part")]

use candle_core::{Device, Result, Tensor, Var, backprop::GradStore};

/// Distinct `f64` values in `(-1, 1)` in shuffled order, none of them 0: neighbours in size are
/// `2 / count` apart, so that a small step changes neither a maximum nor a sign.
pub(crate) fn values(count: usize, seed: u64) -> Vec<f64> {
    let mut values: Vec<f64> =
        (0..count).map(|i| (i as f64 + 0.3) * 2.0 / count as f64 - 1.0).collect();
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) + 1;
    for i in (1..count).rev() {
        // Knuth's linear congruential generator; its high bits are the good ones.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        values.swap(i, (state >> 33) as usize % (i + 1));
    }
    values
}

/// [`values`] in a shape.
pub(crate) fn tensor(dims: &[usize], seed: u64) -> Tensor {
    Tensor::from_vec(values(dims.iter().product(), seed), dims, &Device::Cpu).unwrap()
}

/// Weights of a loss, so that no two elements of a result count the same.
pub(crate) fn loss_weights(dims: &[usize]) -> Tensor {
    tensor(dims, 99)
}

/// The loss `sum(y * weights)`, and its gradients.
pub(crate) fn backward(y: &Tensor) -> Result<GradStore> {
    let weights = loss_weights(y.dims()).to_dtype(y.dtype())?;
    (y * weights)?.sum_all()?.backward()
}

/// The gradients of [`backward`]'s loss of `f(inputs)` in all inputs, and `f(inputs)` itself.
pub(crate) fn gradients(
    inputs: &[Tensor],
    f: impl Fn(&[Tensor]) -> Result<Tensor>,
) -> Result<(Tensor, Vec<Option<Tensor>>)> {
    let vars: Vec<Var> = inputs.iter().map(Var::from_tensor).collect::<Result<_>>()?;
    let tensors: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
    let y = f(&tensors)?;
    let store = backward(&y)?;
    Ok((y, tensors.iter().map(|tensor| store.get(tensor).cloned()).collect()))
}

/// All elements, row by row, as `f64`.
pub(crate) fn flat(tensor: &Tensor) -> Vec<f64> {
    let tensor = tensor.to_dtype(candle_core::DType::F64).unwrap();
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}
