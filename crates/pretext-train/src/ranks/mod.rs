//! The processes that share one run: data parallelism.
//!
//! Each takes its part of every batch, and all take the same step by the gradient of the whole batch.
//! One process alone is the plain definition; several are equal to it but for rounding, if batch
//! normalisation is synchronised. Process 0 alone writes, reports and validates.

mod gradients;
mod launch;
mod step;
mod world;

#[cfg(feature = "mpi")]
mod mpi;

#[cfg(any(feature = "nccl", test))]
mod buckets;
#[cfg(any(feature = "nccl", test))]
mod meeting;
#[cfg(feature = "nccl")]
mod nccl;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use candle_core::Tensor;
use launch::Launch;
pub(crate) use step::Steps;
use world::World;

use crate::device::Device;
use crate::error::{Error, Result};

/// The environment variable with the longest wait for another process, in seconds; [`WAIT`] without
/// it.
pub const PATIENCE: &str = "PRETEXT_PEER_TIMEOUT";

/// How long processes wait for one another before they take it that one died.
pub const WAIT: Duration = Duration::from_secs(60);

/// This process among those that share the run.
pub struct Ranks {
    rank: usize,
    size: usize,
    world: Option<Arc<World>>,
}

impl Ranks {
    /// One process alone.
    pub fn alone() -> Self {
        Self { rank: 0, size: 1, world: None }
    }

    /// Joins the processes that were started together, as the environment says; alone if it says
    /// nothing. Once in a process, which computes on `device`.
    ///
    /// # Errors
    /// [`Error::Processes`] if the environment contradicts itself or the processes that are there, or
    /// speaks of several where this build knows of none.
    pub fn find(device: &Device) -> Result<Self> {
        let variable = |name: &str| std::env::var(name).ok();
        let launch = Launch::read(variable)?;
        if launch.size == 1 {
            return Ok(Self::alone());
        }
        let patience = match variable(PATIENCE) {
            None => WAIT,
            Some(says) => match says.parse() {
                Ok(seconds) if seconds > 0.0 && seconds < 1e9 => Duration::from_secs_f64(seconds),
                _ => {
                    let problem = format!("{PATIENCE} is {says:?}; give seconds above 0");
                    return Err(Error::Processes { problem });
                }
            },
        };
        let world = World::join(launch, patience, device)?;
        Ok(Self { rank: launch.rank, size: launch.size, world: Some(Arc::new(world)) })
    }

    /// This process's number, from 0.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// How many there are.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Whether this is the one that writes and reports.
    pub fn is_first(&self) -> bool {
        self.rank == 0
    }

    /// Parts from the others after a run that ended well. A process that ends without it has failed,
    /// and its launcher or the others' patience ends theirs.
    pub fn leave(self) {
        if let Some(world) = self.world {
            world.leave();
        }
    }

    /// The part of `count` things that is this process's: parts are in order and differ by one at
    /// most.
    pub(crate) fn part(&self, count: usize) -> Range<usize> {
        part(count, self.rank, self.size)
    }

    /// This process's part of each whole batch of `order`.
    pub(crate) fn parts(&self, order: Vec<usize>, batch: usize) -> Vec<usize> {
        if self.size == 1 {
            return order;
        }
        order
            .chunks_exact(batch)
            .flat_map(|batch| &batch[self.part(batch.len())])
            .copied()
            .collect()
    }

    /// Replaces `values` by their sums over all processes.
    pub(crate) fn sum(&self, values: &mut [f64]) -> Result<()> {
        if let Some(world) = &self.world {
            world.sum(values)?;
        }
        Ok(())
    }

    /// All processes' `values` in one row of `length`, of which this one's begin at `first`.
    pub(crate) fn gather(&self, values: &[f32], first: usize, length: usize) -> Result<Vec<f32>> {
        let mut row = vec![0.0; length];
        row[first..][..values.len()].copy_from_slice(values);
        match &self.world {
            Some(world) => world.sum_row(row),
            None => Ok(row),
        }
    }

    /// The same of `[N, ..]`, of which this process's part begins at `first` of `count`.
    pub(crate) fn gather_tensor(
        &self,
        part: &Tensor,
        first: usize,
        count: usize,
    ) -> Result<Tensor> {
        let Some(world) = &self.world else { return Ok(part.clone()) };
        let after = count - first - part.dim(0)?;
        world.sum_tensor(&part.pad_with_zeros(0, first, after)?)
    }

    /// Whether any process says so.
    pub(crate) fn any(&self, says: bool) -> Result<bool> {
        let mut count = [f64::from(u8::from(says))];
        self.sum(&mut count)?;
        Ok(count[0] > 0.0)
    }

    /// What process 0 says.
    pub(crate) fn tell(&self, word: Word) -> Result<Word> {
        let mut says = [if self.is_first() { f64::from(word as u8) } else { 0.0 }];
        self.sum(&mut says)?;
        Ok(Word::ALL.into_iter().find(|&word| f64::from(word as u8) == says[0]).unwrap_or(word))
    }

    /// Calls `work` in process 0 alone; it must say [`Word::Busy`] more often than the others'
    /// patience lasts.
    pub(crate) fn first_alone<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<Option<T>> {
        if self.is_first() {
            let done = work()?;
            self.tell(Word::Done)?;
            return Ok(Some(done));
        }
        while self.tell(Word::Busy)? == Word::Busy {}
        Ok(None)
    }

    /// Refuses processes that were started with something else than process 0; `what` names it.
    pub(crate) fn agree(&self, what: &str, bytes: &[u8]) -> Result<()> {
        let mut hash = [f64::from(crc::Crc::<u32>::new(&crc::CRC_32_ISCSI).checksum(bytes))];
        let own = hash[0];
        if !self.is_first() {
            hash[0] = 0.0;
        }
        self.sum(&mut hash)?;
        if self.any(own != hash[0])? {
            let problem = format!("the processes of this run have not the same {what}");
            return Err(Error::Processes { problem });
        }
        Ok(())
    }

    /// What knows whether the others are still there.
    pub(crate) fn watch(&self) -> Watch {
        Watch(self.world.clone())
    }
}

/// Knows whether the other processes are there: what a GPU computed with one that is gone is
/// nothing to be kept.
pub(crate) struct Watch(Option<Arc<World>>);

impl Watch {
    /// # Errors
    /// [`Error::Peer`] if one is known to be gone.
    pub(crate) fn check(&self) -> Result<()> {
        self.0.as_ref().map_or(Ok(()), |world| world.check())
    }
}

/// The GPU of this process among as many as it sees.
///
/// # Errors
/// [`Error::Processes`] if the launcher does not tell, or there are too few.
#[cfg(feature = "cuda")]
pub(crate) fn own_gpu(gpus: usize) -> Result<usize> {
    Launch::read(|name| std::env::var(name).ok())?.gpu(gpus)
}

/// What process 0 tells the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Word {
    /// It is still at something that it does alone.
    Busy = 1,
    /// It is done with that, or there is nothing to do.
    Done,
    /// The run begins.
    Fresh,
    /// The run goes on from its checkpoint.
    Checkpoint,
    /// It failed, and said why.
    Failed,
}

impl Word {
    const ALL: [Self; 5] = [Self::Busy, Self::Done, Self::Fresh, Self::Checkpoint, Self::Failed];
}

fn part(count: usize, rank: usize, size: usize) -> Range<usize> {
    count * rank / size..count * (rank + 1) / size
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_a_batch_in_order() {
        for (count, size) in [(8, 2), (8, 3), (7, 3), (2, 3)] {
            let parts: Vec<_> = (0..size).map(|rank| part(count, rank, size)).collect();
            let all: Vec<usize> = parts.iter().cloned().flatten().collect();
            assert_eq!(all, (0..count).collect::<Vec<_>>());
            assert!(parts.iter().all(|part| part.len().abs_diff(count / size) <= 1), "{parts:?}");
        }
    }

    #[test]
    fn a_process_has_its_part_of_each_whole_batch() {
        let second = Ranks { rank: 1, size: 2, world: None };
        assert_eq!(second.parts((0..11).collect(), 5), [2, 3, 4, 7, 8, 9]);
        assert_eq!(Ranks::alone().parts((0..11).collect(), 5), (0..11).collect::<Vec<_>>());
    }
}
