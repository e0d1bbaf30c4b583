//! Buckets on the processor: sums of whatever fits into a MiB, moved on between gradients.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;

use candle_core::{CpuStorage, Error as TensorError, Storage, Tensor};

use super::{Pending, World};
use crate::error::Result;
use crate::ranks::gradients;

/// Numbers in a bucket: 1 MiB. All but the last are full, so that a large weight takes several.
const BUCKET: usize = 1 << 18;

/// What goes to the other processes, in one long row.
pub(in super::super) struct Buckets {
    world: Arc<World>,
    /// Whose numbers they are, in order.
    tensors: Vec<Tensor>,
    open: Vec<f32>,
    under_way: Vec<Pending<f32>>,
    /// How many of those are known to be done.
    done: usize,
}

impl Buckets {
    pub(in super::super) fn new(world: Arc<World>) -> Self {
        Self { world, tensors: Vec::new(), open: Vec::new(), under_way: Vec::new(), done: 0 }
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
}

impl gradients::Buckets for Buckets {
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

    fn finish(mut self: Box<Self>) -> Result<Vec<(Tensor, Tensor)>> {
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
