//! The processes of a run by whatever connects them: MPI on processors, NCCL on GPUs, or nothing.

use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "mpi")]
use candle_core::DType;
use candle_core::Tensor;

use super::gradients::Buckets;
use super::launch::Launch;
use crate::device::Device;
use crate::error::{Error, Result};

/// This process's place among the others. A build that knows of none has nobody in it.
pub(crate) enum World {
    #[cfg(feature = "mpi")]
    Mpi(Arc<super::mpi::World>),
    #[cfg(feature = "nccl")]
    Nccl(super::nccl::World),
}

#[cfg_attr(not(any(feature = "mpi", feature = "nccl")), allow(unused_variables))]
impl World {
    /// Joins the processes that `launch` speaks of, which compute on the same kind of device.
    ///
    /// # Errors
    /// If this build knows of none there, or they cannot be joined.
    pub(super) fn join(launch: Launch, patience: Duration, device: &Device) -> Result<Self> {
        #[cfg(feature = "nccl")]
        if device.is_gpu() {
            return super::nccl::World::join(launch, patience, device).map(Self::Nccl);
        }
        #[cfg(feature = "mpi")]
        if !device.is_gpu() {
            return super::mpi::World::join(launch, patience).map(Arc::new).map(Self::Mpi);
        }
        let _ = patience;
        let (place, feature) =
            if device.is_gpu() { ("on GPUs", "nccl") } else { ("on processors", "mpi") };
        let problem = format!(
            "this is process {} of {}, but this build knows one only {place}: it would train {} \
             copies of the same run; build with --features {feature}, or start one process",
            launch.rank, launch.size, launch.size
        );
        Err(Error::Processes { problem })
    }

    /// Replaces `values` by their sums over all processes, the same bits in each; all must sum the
    /// same in the same order.
    ///
    /// # Errors
    /// [`Error::Peer`] if another process is gone, here and in what follows.
    pub(super) fn sum(&self, values: &mut [f64]) -> Result<()> {
        match *self {
            #[cfg(feature = "mpi")]
            Self::Mpi(ref world) => world.sum(values),
            #[cfg(feature = "nccl")]
            Self::Nccl(ref world) => world.sum(values),
        }
    }

    /// The sums of all processes' rows.
    pub(super) fn sum_row(&self, row: Vec<f32>) -> Result<Vec<f32>> {
        match *self {
            #[cfg(feature = "mpi")]
            Self::Mpi(ref world) => world.wait(world.start(row)?),
            #[cfg(feature = "nccl")]
            Self::Nccl(ref world) => world.sum_row(row),
        }
    }

    /// The sum of all processes' tensors, `f32` or `f64`, where they lie; by NCCL nothing waits for it.
    pub(super) fn sum_tensor(&self, values: &Tensor) -> Result<Tensor> {
        match *self {
            #[cfg(feature = "mpi")]
            Self::Mpi(_) => {
                let mut sums = values.flatten_all()?.to_dtype(DType::F64)?.to_vec1::<f64>()?;
                self.sum(&mut sums)?;
                let sums = Tensor::from_vec(sums, values.shape(), values.device())?;
                Ok(sums.to_dtype(values.dtype())?)
            }
            #[cfg(feature = "nccl")]
            Self::Nccl(ref world) => world.sum_tensor(values),
        }
    }

    /// Buckets for the gradients of one step.
    pub(super) fn buckets(self: &Arc<Self>) -> Box<dyn Buckets> {
        match **self {
            #[cfg(feature = "mpi")]
            Self::Mpi(ref world) => Box::new(super::mpi::Buckets::new(world.clone())),
            #[cfg(feature = "nccl")]
            Self::Nccl(ref world) => Box::new(super::buckets::Buckets::new(world.comm())),
        }
    }

    /// Refuses to go on once a process is known to be gone.
    pub(super) fn check(&self) -> Result<()> {
        match *self {
            // It is known when a sum does not come.
            #[cfg(feature = "mpi")]
            Self::Mpi(_) => Ok(()),
            #[cfg(feature = "nccl")]
            Self::Nccl(ref world) => world.check(),
        }
    }

    /// Parts from the others, who do so at the same time.
    pub(super) fn leave(&self) {
        match *self {
            #[cfg(feature = "mpi")]
            Self::Mpi(ref world) => world.leave(),
            #[cfg(feature = "nccl")]
            Self::Nccl(ref world) => world.leave(),
        }
    }
}

#[cfg(test)]
mod tests {
    #[cfg(not(feature = "mpi"))]
    #[test]
    fn several_processes_are_refused_in_one_line() {
        use super::*;

        let launch = Launch { rank: 1, size: 4, local: None };
        let joined = World::join(launch, Duration::from_secs(1), &Device::cpu());
        let error = joined.err().unwrap();
        assert!(error.is_users_mistake());
        let error = error.to_string();
        assert!(error.starts_with("this is process 1 of 4, but this build knows one only on proc"));
        assert!(error.contains("--features mpi") && !error.contains('\n'), "{error}");
    }
}
