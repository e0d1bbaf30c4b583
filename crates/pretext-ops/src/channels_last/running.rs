//! Running statistics, which follow those of each batch.

use candle_core::{Result, Tensor, Var, bail};

/// Mean and variance that follow the batches', as PyTorch's batch norm keeps them.
#[derive(Clone, Copy, Debug)]
pub struct Running<'a> {
    /// `[C]`, of the parameters' dtype.
    pub mean: &'a Var,
    /// The unbiased variance, `[C]`.
    pub variance: &'a Var,
    /// How far a batch moves them towards its own, `0..=1`; 0.1 in PyTorch.
    pub momentum: f64,
}

impl Running<'_> {
    /// Refuses statistics that are not of the form of a normalisation's parameters.
    pub(super) fn check(&self, parameter: &Tensor) -> Result<()> {
        for statistic in [self.mean, self.variance] {
            let same = statistic.shape() == parameter.shape()
                && statistic.dtype() == parameter.dtype()
                && statistic.device().same_device(parameter.device());
            if !same {
                bail!(
                    "batch_norm: a running statistic is {:?} {:?}, a parameter {:?} {:?}",
                    statistic.dtype(),
                    statistic.shape(),
                    parameter.dtype(),
                    parameter.shape()
                )
            }
        }
        if !(0.0..=1.0).contains(&self.momentum) {
            bail!("batch_norm: the momentum is {}, it must be 0 to 1", self.momentum)
        }
        Ok(())
    }

    /// Moves them towards a batch's.
    pub(super) fn follow(&self, mean: &Tensor, variance: &Tensor) -> Result<()> {
        self.check(mean)?;
        for (running, batch) in [(self.mean, mean), (self.variance, variance)] {
            let kept = (running.as_detached_tensor() * (1.0 - self.momentum))?;
            running.set(&(kept + (batch.detach() * self.momentum)?)?)?;
        }
        Ok(())
    }
}
