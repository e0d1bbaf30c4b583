//! Loss scaling for `f16` (Micikevicius et al., "Mixed Precision Training", 2018).
//!
//! Gradients between layers are small: many are below the least number that `f16` has. So the loss is
//! multiplied by a scale before they are computed, and the gradients of the weights, which are `f32`,
//! are divided by it. The scale follows what happens, as PyTorch's `GradScaler` does: a step whose
//! gradients overflow is left out and halves it, and many good steps in a row double it.
//!
//! All of that is computed where the weights lie, so that no step waits for the GPU; the program reads
//! the scale where it reads losses.

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Result as TensorResult, Tensor};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::optimisers::Optimiser;
use crate::precision::Precision;
use crate::progress::Progress;

/// The first scale.
const START: f32 = 65536.0;
/// Good steps in a row after which it doubles.
const PATIENCE: f32 = 2000.0;
/// Where gradients overflow at this scale, scaling is not what is wrong.
const LEAST: f32 = 1.0;
/// The largest power of two that `f32` has. Twice that is infinite, and so is half of it again.
const MOST: f32 = f32::from_bits(254 << 23);

/// A scale, and how it has done. A checkpoint keeps it, so that a resumed run goes on with it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct LossScale {
    pub(crate) scale: f32,
    /// Good steps since it last changed.
    pub(crate) good: u32,
}

/// The same where the weights lie, all of it `f32` scalars: they count exactly as far as is needed.
pub(crate) struct Scaling {
    scale: Tensor,
    good: Tensor,
    // Constants: each would be copied there anew if it were a number.
    patience: Tensor,
    most: Tensor,
}

impl Scaling {
    /// What a run in that precision needs, if it does: as it was `before`, or at the start.
    pub(crate) fn new(
        precision: Precision,
        before: Option<LossScale>,
        device: &Device,
    ) -> Result<Option<Self>> {
        if precision != Precision::F16 {
            return Ok(None);
        }
        let LossScale { scale, good } = before.unwrap_or(LossScale { scale: START, good: 0 });
        let scalar = |value: f32| Tensor::new(value, device);
        let (scale, good) = (scalar(scale)?, scalar(good as f32)?);
        Ok(Some(Self { scale, good, patience: scalar(PATIENCE)?, most: scalar(MOST)? }))
    }

    /// Notes whether the gradients of a step were finite: 1, or else 0.
    fn note(&mut self, finite: &Tensor) -> TensorResult<()> {
        let good = ((&self.good + 1.0)? * finite)?;
        let doubles = good.ge(&self.patience)?.to_dtype(DType::F32)?;
        let factor = (finite.affine(0.5, 0.5)? + &doubles)?;
        self.scale = (&self.scale * factor)?.minimum(&self.most)?;
        self.good = (good * doubles.affine(-1.0, 1.0)?)?;
        Ok(())
    }

    /// Writes down how it stands. It waits for the GPU.
    ///
    /// # Errors
    /// [`Error::Overflow`] if nothing but leaving out steps is to be expected.
    pub(crate) fn settle(&self, progress: &mut Progress) -> Result<()> {
        let numbers = Tensor::stack(&[&self.scale, &self.good], 0)?.to_vec1::<f32>()?;
        let (scale, good) = (numbers[0], numbers[1] as u32);
        if scale < LEAST {
            return Err(Error::Overflow);
        }
        progress.loss_scale = Some(LossScale { scale, good });
        Ok(())
    }
}

/// One step by the gradients of a loss, computed by `backward` of the scaled one if there is scaling;
/// none is taken if they overflow. `rates` and `clip` are as in [`Optimiser::step`].
///
/// `backward` returns the sums over all processes, so that all of them go on with the same scale.
///
/// # Errors
/// What `backward` and the step return.
pub(crate) fn step(
    scaling: &mut Option<Scaling>,
    optimiser: &mut Optimiser,
    loss: &Tensor,
    backward: impl FnOnce(&Tensor) -> Result<GradStore>,
    rates: &[f64],
    clip: Option<f64>,
) -> Result<()> {
    let Some(scaling) = scaling else {
        return Ok(optimiser.step(&backward(loss)?, rates, clip)?);
    };
    let gradients = backward(&(loss * &scaling.scale)?)?;
    let finite = optimiser.step_scaled(&gradients, rates, clip, &scaling.scale)?;
    Ok(scaling.note(&finite)?)
}

#[cfg(test)]
mod tests {
    use pretext_models::{Kind, Parameters};

    use super::*;
    use crate::optimisers::Rule;
    use crate::record::InitialWeights;

    fn begin(before: Option<LossScale>) -> Scaling {
        Scaling::new(Precision::F16, before, &Device::Cpu).unwrap().unwrap()
    }

    fn progress() -> Progress {
        let weights = InitialWeights::Random { seed: 0, sha256: String::new() };
        Progress::new(String::new(), weights)
    }

    fn settled(scaling: &Scaling) -> Result<LossScale> {
        let mut progress = progress();
        scaling.settle(&mut progress)?;
        Ok(progress.loss_scale.unwrap())
    }

    #[track_caller]
    fn stands(scaling: &Scaling, scale: f32, good: u32) {
        assert_eq!(settled(scaling).unwrap(), LossScale { scale, good });
    }

    fn note(scaling: &mut Scaling, finite: bool, times: usize) {
        let finite = Tensor::new(f32::from(u8::from(finite)), &Device::Cpu).unwrap();
        for _ in 0..times {
            scaling.note(&finite).unwrap();
        }
    }

    #[test]
    fn only_f16_needs_it() {
        for precision in [Precision::F32, Precision::Bf16] {
            assert!(Scaling::new(precision, None, &Device::Cpu).unwrap().is_none());
        }
        stands(&begin(None), 65536.0, 0);
    }

    #[test]
    fn it_halves_at_once_and_doubles_after_many_good_steps() {
        let mut scaling = begin(None);
        note(&mut scaling, false, 1);
        stands(&scaling, 32768.0, 0);
        note(&mut scaling, true, 1999);
        stands(&scaling, 32768.0, 1999);
        note(&mut scaling, true, 1);
        stands(&scaling, 65536.0, 0);
        // A step that is left out begins the count anew.
        note(&mut scaling, true, 1999);
        note(&mut scaling, false, 1);
        note(&mut scaling, true, 1);
        stands(&scaling, 32768.0, 1);
    }

    #[test]
    fn it_never_becomes_infinite() {
        assert_eq!((MOST, 2.0 * MOST), (2_f32.powi(127), f32::INFINITY));
        let mut scaling = begin(Some(LossScale { scale: MOST, good: 1999 }));
        note(&mut scaling, true, 1);
        stands(&scaling, MOST, 0);
        note(&mut scaling, false, 1);
        stands(&scaling, MOST / 2.0, 0);
    }

    #[test]
    fn gradients_that_overflow_without_a_scale_end_the_run() {
        let mut scaling = begin(None);
        note(&mut scaling, false, 16);
        stands(&scaling, 1.0, 0);
        note(&mut scaling, false, 1);
        // Steps that are taken before that is seen do not hide it.
        note(&mut scaling, true, 3);
        let error = settled(&scaling).unwrap_err();
        assert!(matches!(error, Error::Overflow), "{error}");
        assert!(error.to_string().contains("--precision bf16"));
    }

    /// Two weights of 1.
    fn weights() -> Parameters {
        let parameters = Parameters::new(&Device::Cpu);
        let one = Tensor::ones(1, DType::F32, &Device::Cpu).unwrap();
        for name in ["a", "b"] {
            parameters.insert(name, Kind::Weight, &one).unwrap();
        }
        parameters
    }

    /// A loss whose gradients are these.
    fn loss(parameters: &Parameters, slopes: [f32; 2]) -> Tensor {
        let terms = ["a", "b"].map(|name| parameters.get(name).unwrap().var);
        let terms = terms.iter().zip(slopes).map(|(var, slope)| {
            (var.as_tensor() * Tensor::new(&[slope], &Device::Cpu).unwrap()).unwrap()
        });
        Tensor::cat(&terms.collect::<Vec<_>>(), 0).unwrap().sum_all().unwrap()
    }

    fn optimiser(rule: Rule, parameters: &Parameters) -> Optimiser {
        Optimiser::new(rule, 0.0, parameters, |_| Some(0))
    }

    fn values(parameters: &Parameters) -> [f32; 2] {
        ["a", "b"].map(|name| parameters.get(name).unwrap().var.to_vec1::<f32>().unwrap()[0])
    }

    /// Where a step of plain gradient descent at a rate of 1 leads.
    fn after(
        scaling: &mut Option<Scaling>,
        slopes: [f32; 2],
        clip: Option<f64>,
        backward: impl FnOnce(&Tensor) -> Result<GradStore>,
    ) -> [f32; 2] {
        let parameters = weights();
        let mut sgd = optimiser(Rule::Sgd { momentum: 0.0 }, &parameters);
        let loss = loss(&parameters, slopes);
        step(scaling, &mut sgd, &loss, backward, &[1.0], clip).unwrap();
        values(&parameters)
    }

    #[test]
    fn gradients_are_those_of_the_loss_itself() {
        for mut scaling in [None, Some(begin(None))] {
            let mut scaled = 0.0;
            let backward = |loss: &Tensor| {
                scaled = loss.to_scalar::<f32>()?;
                Ok(loss.backward()?)
            };
            let reached = after(&mut scaling, [3.0, 0.25], None, backward);
            assert_eq!(reached, [-2.0, 0.75]);
            let Some(scaling) = scaling else {
                assert_eq!(scaled, 3.25);
                continue;
            };
            assert_eq!(scaled, 3.25 * 65536.0);
            stands(&scaling, 65536.0, 1);
        }
    }

    #[test]
    fn gradients_are_clipped_as_those_of_the_loss_itself() {
        // Their norm is 5: one limit is met, and one is not.
        for (clip, reached) in [(0.625, [0.625, 0.5]), (8.0, [-2.0, -3.0])] {
            for mut scaling in [None, Some(begin(None))] {
                let got = after(&mut scaling, [3.0, 4.0], Some(clip), |loss| Ok(loss.backward()?));
                assert_eq!(got, reached);
            }
        }
    }

    #[test]
    fn a_step_that_overflows_is_left_out() {
        for slope in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN, f32::MAX] {
            let mut scaling = Some(begin(None));
            let reached = after(&mut scaling, [3.0, slope], None, |loss| Ok(loss.backward()?));
            assert_eq!(reached, [1.0, 1.0], "{slope}");
            stands(&scaling.unwrap(), 32768.0, 0);
        }
    }

    #[test]
    fn gradients_too_small_for_f16_survive() {
        // 2^-27 is 0 in f16; scaled, it is not.
        let slopes = [0.0, 2_f32.powi(-27)];
        let parameters = weights();
        let in_f16 = |loss: &Tensor| {
            let mut found = loss.backward()?;
            for parameter in parameters.iter() {
                let tensor = parameter.var.as_tensor();
                let gradient = found.remove(tensor).unwrap();
                let gradient = gradient.to_dtype(DType::F16)?.to_dtype(DType::F32)?;
                found.insert(tensor, gradient);
            }
            Ok(found)
        };
        for (mut scaling, reached) in [(None, 1.0), (Some(begin(None)), 0.5)] {
            let mut sgd = optimiser(Rule::Sgd { momentum: 0.0 }, &parameters);
            let (loss, rates) = (loss(&parameters, slopes), [2_f64.powi(26)]);
            step(&mut scaling, &mut sgd, &loss, in_f16, &rates, None).unwrap();
            assert_eq!(values(&parameters), [1.0, reached]);
        }
    }

    #[test]
    fn a_resumed_run_equals_an_unbroken_one() {
        let run = |resumed: Option<usize>| {
            let (parameters, rule) =
                (weights(), Rule::Adamw { beta1: 0.9, beta2: 0.99, eps: 1e-8 });
            let mut adam = optimiser(rule, &parameters);
            let mut scaling = Some(begin(Some(LossScale { scale: 1024.0, good: 1990 })));
            for i in 0..24 {
                // Doubles after 10 steps, and twice there is an overflow.
                let slope = if i == 14 || i == 17 { f32::MAX } else { 0.3 * i as f32 - 2.0 };
                let backward = |loss: &Tensor| Ok(loss.backward()?);
                let loss = loss(&parameters, [slope, 0.7]);
                step(&mut scaling, &mut adam, &loss, backward, &[0.1], Some(1.0)).unwrap();
                if resumed == Some(i) {
                    let mut kept = progress();
                    scaling.unwrap().settle(&mut kept).unwrap();
                    let text = serde_json::to_string(&kept).unwrap();
                    let kept: Progress = serde_json::from_str(&text).unwrap();
                    let (steps, state) = (adam.steps(), adam.state().unwrap());
                    adam = optimiser(rule, &parameters);
                    adam.restore(steps, &state).unwrap();
                    scaling = Some(begin(kept.loss_scale));
                }
            }
            (values(&parameters).map(f32::to_bits), settled(&scaling.unwrap()).unwrap())
        };
        let (weights, scale) = run(None);
        assert_eq!(scale, LossScale { scale: 512.0, good: 6 });
        for i in 0..24 {
            assert_eq!(run(Some(i)), (weights, scale), "resumed after step {i}");
        }
    }
}
