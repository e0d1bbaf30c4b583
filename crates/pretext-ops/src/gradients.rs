//! The backward pass, with the gradients of parameters handed over as they are.
//!
//! candle clears a tensor for each gradient and adds to it, on one thread, while all others wait.
//! Here operators leave the gradient of a weight beside the graph, and it is put among the others in
//! the end.

use std::cell::RefCell;

use candle_core::backprop::GradStore;
use candle_core::{Result, Tensor};

thread_local! {
    /// Parameters and their gradients so far, while [`backward`] runs on this thread.
    static LEFT: RefCell<Option<Vec<(Tensor, Tensor)>>> = const { RefCell::new(None) };
}

/// `loss.backward()`, the same gradients with less work and memory: feature maps are freed as they
/// are used up, so that it is the last pass through this graph.
///
/// # Errors
/// As `loss.backward()`; if it is not the first such pass through the graph.
///
/// ```
/// use candle_core::{DType, Device, Var};
///
/// let weight = Var::ones((2, 3, 1, 1), DType::F32, &Device::Cpu)?;
/// let x = Var::ones((1, 3, 4, 4), DType::F32, &Device::Cpu)?;
/// let loss = pretext_ops::conv2d(&x, &weight, None, 1, 0)?.sum_all()?;
/// let gradients = pretext_ops::backward(&loss)?;
/// let gradient = gradients.get(&weight).expect("a gradient").flatten_all()?;
/// assert_eq!(gradient.to_vec1::<f32>()?, [16.0; 6]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn backward(loss: &Tensor) -> Result<GradStore> {
    let scope = Scope::begin();
    let mut gradients = loss.backward()?;
    for (parameter, gradient) in scope.end() {
        // Operators of candle's own may have met the same parameter.
        let gradient = match gradients.remove(&parameter) {
            Some(other) => (other + gradient)?,
            None => gradient,
        };
        gradients.insert(&parameter, gradient);
    }
    Ok(gradients)
}

/// What an operator's backward pass returns for the gradient of an argument that may be a
/// parameter: nothing, if it could be left beside the graph.
pub(crate) fn leave(argument: &Tensor, gradient: Tensor) -> Result<Option<Tensor>> {
    // What a weight was made of must hear of its gradient through the graph.
    if !argument.is_variable() {
        return Ok(Some(gradient));
    }
    LEFT.with_borrow_mut(|left| {
        let Some(left) = left else { return Ok(Some(gradient)) };
        match left.iter_mut().find(|(parameter, _)| parameter.id() == argument.id()) {
            Some((_, sum)) => *sum = (&*sum + gradient)?,
            None => left.push((argument.clone(), gradient.detach())),
        }
        Ok(None)
    })
}

/// Whether [`backward`] runs on this thread, after which nobody walks the graph again.
pub(crate) fn in_last_pass() -> bool {
    LEFT.with_borrow(Option::is_some)
}

/// The time of one backward pass. One may begin within another: a thread that waits for others may
/// take up any work.
struct Scope {
    outer: Option<Vec<(Tensor, Tensor)>>,
}

impl Scope {
    fn begin() -> Self {
        Self { outer: LEFT.replace(Some(Vec::new())) }
    }

    fn end(self) -> Vec<(Tensor, Tensor)> {
        LEFT.take().unwrap_or_default()
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        LEFT.set(self.outer.take());
    }
}
