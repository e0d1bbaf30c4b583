//! The backward pass, with the gradients of parameters handed over as they are.
//!
//! candle clears a tensor for each gradient and adds to it, on one thread, while all others wait.
//! Here operators leave the gradient of a weight beside the graph, and it is put among the others in
//! the end.

use std::cell::RefCell;

use candle_core::backprop::GradStore;
use candle_core::{Error, Result, Tensor};

thread_local! {
    /// What was left beside the graph so far, while [`backward`] runs on this thread.
    static LEFT: RefCell<Option<Left>> = const { RefCell::new(None) };
}

/// Takes a parameter and its gradient.
type Ready = Box<dyn FnMut(&Tensor, Tensor) -> Result<()>>;

/// Parameters with their gradients so far, and who wants them at once; then they are not kept here.
#[derive(Default)]
struct Left {
    gradients: Vec<(Tensor, Option<Tensor>)>,
    ready: Option<Ready>,
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
    let scope = Scope::begin(None);
    let mut gradients = loss.backward()?;
    for (parameter, gradient) in scope.end() {
        let Some(gradient) = gradient else { continue };
        // Operators of candle's own may have met the same parameter.
        let gradient = match gradients.remove(&parameter) {
            Some(other) => (other + gradient)?,
            None => gradient,
        };
        gradients.insert(&parameter, gradient);
    }
    Ok(gradients)
}

/// [`backward`], but gradients that operators leave beside the graph go to `ready` while the pass is
/// still under way, each as soon as it is there: those of the weights of convolutions, on a GPU those of
/// norms and biases too, the last layer's first. What is returned holds the others.
///
/// # Errors
/// As [`backward`], what `ready` returns, and for a parameter that is used twice: its first gradient
/// is not yet the whole one.
pub fn backward_by_parts(
    loss: &Tensor,
    ready: impl FnMut(&Tensor, Tensor) -> Result<()> + 'static,
) -> Result<GradStore> {
    let scope = Scope::begin(Some(Box::new(ready)));
    let gradients = loss.backward()?;
    for (parameter, _) in scope.end() {
        if gradients.get(&parameter).is_some() {
            return Err(used_twice(&parameter));
        }
    }
    Ok(gradients)
}

fn used_twice(parameter: &Tensor) -> Error {
    let shape = parameter.shape();
    Error::msg(format!("a parameter of {shape:?} is used twice: its gradient cannot come by parts"))
}

/// What an operator's backward pass returns for the gradient of an argument that may be a
/// parameter: nothing, if it could be left beside the graph.
pub(crate) fn leave(argument: &Tensor, gradient: Tensor) -> Result<Option<Tensor>> {
    // What a weight was made of must hear of its gradient through the graph.
    if !argument.is_variable() {
        return Ok(Some(gradient));
    }
    LEFT.with_borrow_mut(|left| {
        let Some(Left { gradients, ready }) = left else { return Ok(Some(gradient)) };
        match gradients.iter_mut().find(|(parameter, _)| parameter.id() == argument.id()) {
            Some((_, Some(sum))) => *sum = (&*sum + gradient)?,
            Some((_, None)) => return Err(used_twice(argument)),
            None => match ready {
                Some(ready) => {
                    gradients.push((argument.clone(), None));
                    ready(argument, gradient.detach())?;
                }
                None => gradients.push((argument.clone(), Some(gradient.detach()))),
            },
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
    outer: Option<Left>,
}

impl Scope {
    fn begin(ready: Option<Ready>) -> Self {
        Self { outer: LEFT.replace(Some(Left { ready, ..Left::default() })) }
    }

    fn end(self) -> Vec<(Tensor, Option<Tensor>)> {
        LEFT.take().unwrap_or_default().gradients
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        LEFT.set(self.outer.take());
    }
}
