//! The processes of a run on GPUs: sums of what lies there by NCCL, all else over TCP.
//!
//! NCCL waits without a bound. So processes watch each other over TCP, and whoever sees one gone ends
//! NCCL's sums, which lets go of whatever waits for them.

mod comm;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use candle_core::Tensor;
use comm::Comm;

use super::launch::Launch;
use super::meeting::{Meeting, Place};
use crate::device::Device;
use crate::error::Result;

/// Numbers that are summed over TCP rather than taken to the GPU, which would have to be waited for.
const FEW: usize = 1 << 12;

/// This process's place in the world.
pub(crate) struct World {
    comm: Arc<Comm>,
    meeting: Arc<Meeting>,
    device: candle_core::Device,
}

impl World {
    /// Joins the processes that `launch` speaks of, each with its own GPU.
    ///
    /// # Errors
    /// If NCCL is not there, not all come in time, or it cannot connect them.
    pub(super) fn join(launch: Launch, patience: Duration, device: &Device) -> Result<Self> {
        comm::check()?;
        let place = Place::read(launch, |name| std::env::var(name).ok())?;
        let id = if launch.rank == 0 { comm::new_id()? } else { Vec::new() };
        let (meeting, id) = Meeting::join(launch, &place, patience, &id)?;
        let meeting = Arc::new(meeting);
        let device = device.tensors().clone();
        let comm = Arc::new(Comm::join(launch, &id, &device, &meeting, patience)?);
        watch::start(&comm, &meeting, patience)?;
        Ok(Self { comm, meeting, device })
    }

    pub(super) fn sum(&self, values: &mut [f64]) -> Result<()> {
        self.meeting.sum(values)
    }

    pub(super) fn sum_row(&self, row: Vec<f32>) -> Result<Vec<f32>> {
        if row.len() <= FEW {
            let mut values: Vec<f64> = row.into_iter().map(f64::from).collect();
            self.meeting.sum(&mut values)?;
            return Ok(values.into_iter().map(|value| value as f32).collect());
        }
        let count = row.len();
        let row =
            self.sum_tensor(&Tensor::from_vec(row, count, &self.device)?)?.to_vec1::<f32>()?;
        // What was read is a sum only if all were there until then.
        self.check()?;
        Ok(row)
    }

    pub(super) fn sum_tensor(&self, values: &Tensor) -> Result<Tensor> {
        Ok(self.comm.start(values.detach().copy()?.contiguous()?)?.wait()?)
    }

    pub(super) fn comm(&self) -> Arc<Comm> {
        self.comm.clone()
    }

    pub(super) fn check(&self) -> Result<()> {
        self.meeting.check()
    }

    pub(super) fn leave(&self) {
        // A process that is gone by now had done its part.
        if self.meeting.leave().is_ok() {
            self.comm.part();
        }
    }
}
