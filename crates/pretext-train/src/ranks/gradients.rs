//! The gradient of a whole batch: buckets of the parts' gradients, summed while the backward pass
//! still goes on.
//!
//! The weights of convolutions, most of a network's numbers, come from the backward pass one by one,
//! the last layer's first. As soon as a bucket is full its sum begins; MPI moves it on whenever the
//! next gradient comes. What candle's own graph holds (norms, biases, linear layers) follows at the
//! end of the pass, with the running statistics where they are not already the whole batch's.

use std::collections::VecDeque;
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::backprop::GradStore;
use candle_core::{CpuStorage, Error as TensorError, Storage, Tensor, bail};
use pretext_models::{Kind, Parameters};

use super::world::{Pending, World};
use crate::error::Result;

/// Numbers in a bucket: 1 MiB. All but the last are full, so that a large weight takes several.
const BUCKET: usize = 1 << 18;

/// What goes to the other processes, in one long row.
struct Buckets {
    world: Arc<World>,
    /// Whose numbers they are, in order.
    tensors: Vec<Tensor>,
    open: Vec<f32>,
    under_way: Vec<Pending<f32>>,
    /// How many of those are known to be done.
    done: usize,
}

impl Buckets {
    fn new(world: Arc<World>) -> Self {
        Self { world, tensors: Vec::new(), open: Vec::new(), under_way: Vec::new(), done: 0 }
    }

    /// Adds `values`, times `factor`, for the tensor `of`.
    fn push(&mut self, of: &Tensor, values: &Tensor, factor: f32) -> Result<()> {
        let values = values.contiguous()?;
        let (storage, layout) = values.storage_and_layout();
        let (Storage::Cpu(CpuStorage::F32(numbers)), Some((start, end))) =
            (&*storage, layout.contiguous_offsets())
        else {
            return Err(not_f32(of).into());
        };
        let mut rest = &numbers[start..end];
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(BUCKET - self.open.len()));
            self.open.extend(now.iter().map(|value| value * factor));
            if self.open.len() == BUCKET {
                self.send()?;
            }
            rest = later;
        }
        self.tensors.push(of.clone());
        self.move_on()
    }

    /// Begins the sum of the open bucket.
    fn send(&mut self) -> Result<()> {
        let bucket = mem::replace(&mut self.open, Vec::with_capacity(BUCKET));
        self.under_way.push(self.world.start(bucket)?);
        Ok(())
    }

    /// Lets sums move on.
    fn move_on(&mut self) -> Result<()> {
        while let Some(pending) = self.under_way.get_mut(self.done) {
            if !pending.poll()? {
                break;
            }
            self.done += 1;
        }
        Ok(())
    }

    /// Waits for all sums; each tensor with its own.
    fn finish(mut self) -> Result<Vec<(Tensor, Tensor)>> {
        if !self.open.is_empty() {
            self.send()?;
        }
        let (world, mut row) = (self.world, VecDeque::new());
        let mut buckets = self.under_way.into_iter();
        let mut sums = Vec::with_capacity(self.tensors.len());
        for tensor in self.tensors {
            while row.len() < tensor.elem_count() {
                let Some(bucket) = buckets.next() else { return Err(not_f32(&tensor).into()) };
                row.extend(world.wait(bucket)?);
            }
            let values: Vec<f32> = row.drain(..tensor.elem_count()).collect();
            let sum = Tensor::from_vec(values, tensor.shape(), tensor.device())?;
            sums.push((tensor, sum));
        }
        Ok(sums)
    }
}

fn not_f32(of: &Tensor) -> TensorError {
    TensorError::msg(format!("the gradient of {:?} must be f32 on the CPU", of.shape()))
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
    let buckets = Arc::new(Mutex::new(Some(Buckets::new(world.clone()))));
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
