//! One step of all processes together: how large the whole batch is, its loss, its gradient.

use std::sync::Arc;

use candle_core::backprop::GradStore;
use candle_core::{DType, Tensor};
use pretext_models::Parameters;

use super::world::World;
use super::{Ranks, gradients};
use crate::error::Result;
use crate::recipe::{Common, require};

/// How the processes of a run take steps together.
pub(crate) struct Steps<'a> {
    ranks: &'a Ranks,
    parameters: &'a Parameters,
    /// Whether batch normalisation is over the whole batch.
    synchronised: bool,
}

/// A batch of all processes, of which this one has a part.
pub(crate) struct Whole {
    /// Sound pictures in each process's part.
    counts: Vec<usize>,
    /// Damaged pictures in all parts.
    pub(crate) damaged: usize,
    rank: usize,
}

impl Whole {
    /// Sound pictures in all parts.
    pub(crate) fn images(&self) -> usize {
        self.counts.iter().sum()
    }

    /// Sound pictures in the parts before this one.
    pub(crate) fn before(&self) -> usize {
        self.counts[..self.rank].iter().sum()
    }

    /// This part's share of all pictures, `0..=1`.
    fn share(&self) -> f64 {
        self.counts[self.rank] as f64 / self.images().max(1) as f64
    }
}

impl<'a> Steps<'a> {
    /// For the parameters of one network.
    ///
    /// # Errors
    /// If a batch of `pictures` pictures, or of the recipe's size if that is less, leaves a process
    /// too few to normalise by.
    pub(crate) fn new(
        ranks: &'a Ranks,
        common: &Common,
        pictures: usize,
        parameters: &'a Parameters,
    ) -> Result<Self> {
        let steps = Self { ranks, parameters, synchronised: common.sync_batch_norm };
        let (batch, size) = (common.batch_size.min(pictures), ranks.size());
        let least = size * steps.least();
        require("--batch-size", size == 1 || batch >= least, || {
            format!(
                "{batch} pictures are too few for {size} processes; give at least {least}{}",
                if steps.synchronised { "" } else { ", or half as many with --sync-batch-norm" }
            )
        })?;
        Ok(steps)
    }

    /// The fewest pictures that a process can take a step with: a lone one has no statistics of its
    /// own to normalise by.
    fn least(&self) -> usize {
        if self.synchronised && self.ranks.size() > 1 { 1 } else { 2 }
    }

    /// What the batch is whose part here has so many sound and damaged pictures.
    pub(crate) fn whole(&self, images: usize, damaged: usize) -> Result<Whole> {
        let (rank, size) = (self.ranks.rank(), self.ranks.size());
        let mut counts = vec![0.0; size + 1];
        (counts[rank], counts[size]) = (images as f64, damaged as f64);
        self.ranks.sum(&mut counts)?;
        let mut counts: Vec<usize> = counts.iter().map(|&count| count as usize).collect();
        let damaged = counts.pop().unwrap_or_default();
        Ok(Whole { counts, damaged, rank })
    }

    /// Whether a step can be taken with it. All processes take it, or none: where too many pictures
    /// of one part are damaged, the batch is left out.
    pub(crate) fn are_enough(&self, whole: &Whole) -> bool {
        whole.images() >= 2 && whole.counts.iter().all(|&count| count >= self.least())
    }

    /// The loss of the whole batch, which nothing hangs on, and of this part with its share, from that
    /// part's mean loss.
    pub(crate) fn loss(
        &self,
        whole: &Whole,
        mean: impl FnOnce() -> Result<Tensor>,
    ) -> Result<(Tensor, Tensor)> {
        let Some(world) = &self.ranks.world else {
            let loss = mean()?;
            return Ok((loss.detach(), loss));
        };
        let loss = if self.synchronised {
            let (world, part) = (world.clone(), whole.counts[whole.rank]);
            let parts = Parts { world, part, images: whole.images() };
            pretext_ops::among(Some(Arc::new(parts)), mean)?
        } else {
            mean()?
        };
        let share = (loss.detach().to_dtype(DType::F64)? * whole.share())?;
        Ok((world.sum_tensor(&share)?.to_dtype(DType::F32)?, (loss * whole.share())?))
    }

    /// The gradients of the whole batch's loss, from this part's with its share.
    pub(crate) fn gradients(&self, whole: &Whole, loss: &Tensor) -> Result<GradStore> {
        match &self.ranks.world {
            None => Ok(pretext_ops::backward(loss)?),
            Some(world) => {
                gradients::backward(world, loss, whole.share(), self.parameters, self.synchronised)
            }
        }
    }
}

/// The processes' parts of one batch, for its normalisation.
struct Parts {
    world: Arc<World>,
    /// Pictures of this part.
    part: usize,
    /// Pictures of all parts.
    images: usize,
}

impl pretext_ops::Peers for Parts {
    fn sum(&self, values: &mut [f64]) -> candle_core::Result<()> {
        self.world.sum(values).map_err(candle_core::Error::wrap)
    }

    fn sum_tensor(&self, values: &Tensor) -> candle_core::Result<Tensor> {
        self.world.sum_tensor(values).map_err(candle_core::Error::wrap)
    }

    fn whole(&self, count: usize) -> usize {
        count / self.part * self.images
    }
}
