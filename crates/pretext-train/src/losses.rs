//! Losses of steps that were taken and not yet looked at.
//!
//! A GPU works while the program goes on; whoever looks at a number waits for it. So losses are read
//! every so many steps there, all at once, and before anything is kept: no checkpoint is written of
//! weights whose losses were not looked at. Where losses are scaled, so is the scale.

use std::time::{Duration, Instant};

use candle_core::{DType, Tensor};

use crate::control::Control;
use crate::curves::Curves;
use crate::device::Device;
use crate::error::Result;
use crate::progress::Progress;
use crate::scaling::Scaling;

/// One step.
#[derive(Debug)]
pub(crate) struct Step {
    /// Pictures that were trained on.
    pub(crate) images: usize,
    /// Pictures that were left out.
    pub(crate) damaged: usize,
    pub(crate) rate: f64,
    /// How long it waited for data.
    pub(crate) waited: Duration,
    /// How long it then took.
    pub(crate) took: Duration,
}

/// Steps in their order, with their losses; `None` where no step could be taken.
#[derive(Debug)]
pub(crate) struct Losses {
    /// Steps after which they are read.
    most: usize,
    steps: Vec<(Option<Tensor>, Step)>,
}

impl Losses {
    pub(crate) fn new(device: &Device) -> Self {
        Self { most: device.behind(), steps: Vec::new() }
    }

    /// Steps that are not yet read.
    pub(crate) fn len(&self) -> usize {
        self.steps.len()
    }

    /// Adds a step; its loss is a scalar, which nothing may hang on.
    pub(crate) fn push(&mut self, loss: Option<Tensor>, step: Step) {
        self.steps.push((loss, step));
    }

    /// Whether it is time to read them.
    pub(crate) fn are_due(&self) -> bool {
        self.steps.len() >= self.most
    }

    /// Whether the weights may follow a loss's gradient: not if it is no number. On a GPU that is seen
    /// only when it is read, and the run ends then.
    pub(crate) fn may_step(&self, loss: &Tensor) -> Result<bool> {
        Ok(self.most > 1 || loss.to_scalar::<f32>()?.is_finite())
    }

    /// Notes all steps, once they are done, and by what losses are scaled then; none are left.
    ///
    /// # Errors
    /// If a step failed on the GPU, a loss is no number, gradients overflow however small the loss is
    /// scaled, or the curves cannot be written.
    pub(crate) fn settle(
        &mut self,
        scaling: Option<&Scaling>,
        progress: &mut Progress,
        curves: &mut Curves,
        control: &mut Control<'_>,
    ) -> Result<()> {
        for (loss, step) in self.read()? {
            let Step { images, damaged, rate, waited, took } = step;
            progress.note(loss, images, damaged, rate, (waited, took))?;
            curves.step(progress, loss, rate)?;
            (control.report)(progress.event());
        }
        scaling.map_or(Ok(()), |scaling| scaling.settle(progress))
    }

    /// All steps with their losses, once they are done; none are left.
    ///
    /// # Errors
    /// If a step failed on the GPU.
    fn read(&mut self) -> Result<Vec<(Option<f32>, Step)>> {
        let waiting = Instant::now();
        let losses: Vec<Tensor> = self.steps.iter().filter_map(|(loss, _)| loss.clone()).collect();
        let mut values = match losses.is_empty() {
            true => Vec::new(),
            false => Tensor::stack(&losses, 0)?.to_dtype(DType::F32)?.to_vec1::<f32>()?,
        }
        .into_iter();
        let mut steps: Vec<_> = self
            .steps
            .drain(..)
            .map(|(loss, step)| (loss.and_then(|_| values.next()), step))
            .collect();
        // The time that all of them took in the end.
        if let Some((_, last)) = steps.last_mut() {
            last.took += waiting.elapsed();
        }
        Ok(steps)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use candle_core::Device as Place;

    use super::*;
    use crate::error::Error;
    use crate::precision::Precision;
    use crate::ranks::Ranks;
    use crate::record::InitialWeights;
    use crate::scaling::LossScale;

    fn step(images: usize) -> Step {
        let none = Duration::ZERO;
        Step { images, damaged: 0, rate: 0.1, waited: none, took: none }
    }

    #[test]
    fn losses_stay_with_their_steps() {
        let mut losses = Losses { most: 3, steps: Vec::new() };
        let scalar = |value: f32| Tensor::new(value, &Place::Cpu).unwrap();
        losses.push(Some(scalar(0.5)), step(1));
        losses.push(None, step(2));
        assert!(!losses.are_due());
        losses.push(Some(scalar(f32::NAN)), step(3));
        assert!(losses.are_due() && losses.len() == 3);
        let read = losses.read().unwrap();
        let images: Vec<usize> = read.iter().map(|(_, step)| step.images).collect();
        assert_eq!(images, [1, 2, 3]);
        assert_eq!((read[0].0, read[1].0), (Some(0.5), None));
        assert!(read[2].0.unwrap().is_nan());
        assert_eq!(losses.len(), 0);
        assert!(losses.read().unwrap().is_empty());
    }

    #[test]
    fn the_scale_is_noted_with_the_losses_and_one_that_is_too_small_ends_the_run() {
        for (scale, good) in [(0.5, 0), (1.0, 7)] {
            let before = LossScale { scale, good };
            let scaling = Scaling::new(Precision::F16, Some(before), &Place::Cpu).unwrap();
            let weights = InitialWeights::Random { seed: 0, sha256: String::new() };
            let mut progress = Progress::new(String::new(), weights);
            let mut curves = Curves::new(None, &progress, 1).unwrap();
            let mut control = Control {
                device: Device::cpu(),
                threads: 1,
                strict: false,
                resume: false,
                wait: false,
                job: None,
                ranks: &Ranks::alone(),
                stop: &AtomicBool::new(false),
                checkpoint_every: Duration::MAX,
                report: &mut |_| {},
            };
            let mut losses = Losses { most: 1, steps: Vec::new() };
            losses.push(None, step(1));
            let settled = losses.settle(scaling.as_ref(), &mut progress, &mut curves, &mut control);
            assert_eq!(progress.step, 1);
            if scale < 1.0 {
                assert!(matches!(settled, Err(Error::Overflow)));
                assert_eq!(progress.loss_scale, None);
            } else {
                settled.unwrap();
                assert_eq!(progress.loss_scale, Some(before));
            }
        }
    }

    #[test]
    fn the_processor_is_never_behind() {
        let mut losses = Losses::new(&Device::cpu());
        losses.push(None, step(0));
        assert!(losses.are_due());
    }
}
