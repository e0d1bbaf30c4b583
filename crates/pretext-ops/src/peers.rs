//! Batch statistics over several processes that each hold a part of a batch (synchronised batch
//! normalisation, as `torch.nn.SyncBatchNorm`).
//!
//! Within [`among`], training's batch normalisations take mean and variance over all parts, and their
//! gradients know it, if the loss of each part is weighted so that the parts' sum is the whole loss.

use std::cell::RefCell;
use std::sync::Arc;

use candle_core::{Result, Tensor, bail};

/// Processes that do the same at the same time, each with its part of a batch.
pub trait Peers: Send + Sync {
    /// Replaces `values` by their sums over all processes, with the same bits in each.
    ///
    /// # Errors
    /// If another process cannot be reached.
    fn sum(&self, values: &mut [f64]) -> Result<()>;

    /// The sums of a tensor's numbers, `f64`, where it lies. As it stands here it goes through the
    /// host, which waits; where they are summed on a GPU nothing need wait.
    ///
    /// # Errors
    /// As [`sum`](Self::sum).
    fn sum_tensor(&self, values: &Tensor) -> Result<Tensor> {
        let mut sums = values.flatten_all()?.to_vec1::<f64>()?;
        self.sum(&mut sums)?;
        Tensor::from_vec(sums, values.shape(), values.device())
    }

    /// How many values all parts have where this one has `count`: the same share of pictures.
    fn whole(&self, count: usize) -> usize;
}

thread_local! {
    static PEERS: RefCell<Option<Arc<dyn Peers>>> = const { RefCell::new(None) };
}

/// Calls `work`, whose forward passes on this thread normalise over the batch of all `peers`; over
/// this process's own without any.
pub fn among<R>(peers: Option<Arc<dyn Peers>>, work: impl FnOnce() -> R) -> R {
    struct Restore(Option<Arc<dyn Peers>>);
    impl Drop for Restore {
        fn drop(&mut self) {
            PEERS.set(self.0.take());
        }
    }
    let _restore = Restore(PEERS.replace(peers));
    work()
}

/// Whose batch it is that a normalisation takes its statistics of.
#[derive(Clone, Default)]
pub(crate) struct Batch {
    peers: Option<Arc<dyn Peers>>,
    /// Values a channel, in all parts.
    pub(crate) count: f64,
}

impl Batch {
    /// That of `count` values a channel in this part; their number is known, not their sums.
    #[cfg(any(feature = "cuda", test))]
    pub(crate) fn of(count: usize) -> Self {
        let peers = PEERS.with_borrow(Clone::clone);
        let all = peers.as_ref().map_or(count, |peers| peers.whole(count));
        Self { peers, count: all as f64 }
    }

    /// The processes that share it, if several do.
    #[cfg(any(feature = "cuda", test))]
    pub(crate) fn peers(&self) -> Option<&dyn Peers> {
        self.peers.as_deref()
    }

    /// Makes of the mean and biased variance of each channel of this part, of `count` values a
    /// channel, those of the whole batch.
    ///
    /// # Errors
    /// As [`Peers::sum`].
    pub(crate) fn join(count: usize, mean: &mut [f64], variance: &mut [f64]) -> Result<Self> {
        let peers = PEERS.with_borrow(Clone::clone);
        let own = count as f64;
        let Some(peers) = peers else { return Ok(Self { peers: None, count: own }) };
        // Sums of values and of their squares, in f64: what cancels is far below what f32 rounds.
        let squares = mean.iter().zip(&*variance).map(|(m, v)| own * (v + m * m));
        let mut sums: Vec<f64> = mean.iter().map(|m| own * m).chain(squares).collect();
        sums.push(own);
        peers.sum(&mut sums)?;
        let (means, squares) = sums.split_at(mean.len());
        let all = squares[mean.len()];
        for (channel, (m, v)) in mean.iter_mut().zip(variance).enumerate() {
            *m = means[channel] / all;
            *v = (squares[channel] / all - *m * *m).max(0.0);
        }
        Ok(Self { peers: Some(peers), count: all })
    }

    /// Refuses a whole batch of fewer than two values a channel; `dims` are this part's.
    ///
    /// # Errors
    /// If so.
    pub(crate) fn check(&self, dims: &[usize]) -> Result<()> {
        if self.count < 2.0 {
            bail!(
                "batch_norm: {dims:?} has {} values a channel; training needs at least 2",
                self.count
            )
        }
        Ok(())
    }

    /// What turns a biased variance into an unbiased one.
    pub(crate) fn unbiased(&self) -> f64 {
        self.count / (self.count - 1.0)
    }

    /// The sums over all parts of what one part has summed up.
    ///
    /// # Errors
    /// As [`Peers::sum`].
    pub(crate) fn sum(&self, values: &[f64]) -> Result<Vec<f64>> {
        let mut sums = values.to_vec();
        if let Some(peers) = &self.peers {
            peers.sum(&mut sums)?;
        }
        Ok(sums)
    }
}
