//! The gradient of a whole batch: buckets of the parts' gradients, summed while the backward pass
//! still goes on.
//!
//! The weights of convolutions, most of a network's numbers, come from the backward pass one by one,
//! the last layer's first. As soon as a bucket is full its sum begins: MPI moves it on whenever the
//! next gradient comes, NCCL beside the GPU's other work. What candle's own graph holds (norms, biases,
//! linear layers) follows at the end of the pass, with the running statistics where they are not
//! already the whole batch's.

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::backprop::GradStore;
use candle_core::{Error as TensorError, Tensor, bail};
use pretext_models::{Kind, Parameters};

use super::world::World;
use crate::error::Result;

/// What goes to the other processes, in the same order in each.
pub(super) trait Buckets: Send {
    /// Adds `values`, times `factor`, for the tensor `of`.
    fn push(&mut self, of: &Tensor, values: &Tensor, factor: f32) -> Result<()>;

    /// Waits for all sums; each tensor with its own.
    fn finish(self: Box<Self>) -> Result<Vec<(Tensor, Tensor)>>;
}

/// The gradients of the sum of all processes' losses. Running statistics become their mean over the
/// processes, by `share`, unless they are `synchronised` already.
pub(super) fn backward(
    world: &Arc<World>,
    loss: &Tensor,
    share: f64,
    parameters: &Parameters,
    synchronised: bool,
) -> Result<GradStore> {
    let buckets = Arc::new(Mutex::new(Some(World::buckets(world))));
    let ready = {
        let buckets = buckets.clone();
        move |parameter: &Tensor, gradient: Tensor| {
            let mut buckets = buckets.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(buckets) = &mut *buckets else { bail!("a gradient came too late") };
            buckets.push(parameter, &gradient, 1.0).map_err(TensorError::wrap)
        }
    };
    let mut gradients = pretext_ops::backward_by_parts(loss, ready)?;
    let buckets = buckets.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some(mut buckets) = buckets else { return Ok(gradients) };
    for parameter in parameters.iter() {
        if parameter.kind != Kind::RunningStatistic {
            if let Some(gradient) = gradients.get(&parameter.var) {
                buckets.push(&parameter.var, gradient, 1.0)?;
            }
        } else if !synchronised {
            buckets.push(&parameter.var, &parameter.var, share as f32)?;
        }
    }
    let sums = buckets.finish()?;
    let statistics: Vec<_> =
        parameters.iter().filter(|p| p.kind == Kind::RunningStatistic).map(|p| p.var).collect();
    for (tensor, sum) in sums {
        match statistics.iter().find(|var| var.id() == tensor.id()) {
            Some(var) => var.set(&sum)?,
            None => {
                gradients.insert(&tensor, sum);
            }
        }
    }
    Ok(gradients)
}
