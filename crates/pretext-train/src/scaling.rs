//! Loss scaling for `f16` (Micikevicius et al., "Mixed Precision Training", 2018).
//!
//! Gradients between layers are small: many are below the least number that `f16` has. So the loss is
//! multiplied by a scale before they are computed, and the gradients of the weights, which are `f32`,
//! are divided by it. The scale follows what happens, as PyTorch's `GradScaler` does: a step whose
//! gradients overflow is left out and halves it, and many good steps in a row double it.

use candle_core::Tensor;
use candle_core::backprop::GradStore;
use pretext_models::Parameters;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::precision::Precision;

/// The first scale.
const START: f64 = 65536.0;
/// Good steps in a row after which it doubles.
const PATIENCE: u32 = 2000;
/// Where gradients overflow at this scale, scaling is not what is wrong.
const LEAST: f64 = 1.0;

/// A scale, and how it has done. A checkpoint keeps it, so that a resumed run goes on with it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct LossScale {
    scale: f64,
    /// Good steps since it last changed.
    good: u32,
}

impl LossScale {
    /// What a run in that precision begins with, if it needs one.
    pub(crate) fn of(precision: Precision) -> Option<Self> {
        (precision == Precision::F16).then_some(Self { scale: START, good: 0 })
    }

    /// Notes whether the gradients of a step were finite.
    ///
    /// # Errors
    /// [`Error::Overflow`] if they were not, at the smallest scale.
    fn note(&mut self, finite: bool) -> Result<()> {
        if finite {
            self.good += 1;
            if self.good == PATIENCE {
                *self = Self { scale: 2.0 * self.scale, good: 0 };
            }
            return Ok(());
        }
        if self.scale <= LEAST {
            return Err(Error::Overflow);
        }
        *self = Self { scale: self.scale / 2.0, good: 0 };
        Ok(())
    }
}

/// The gradients of a loss, computed by `backward` of the scaled one if there is a scale; `None` if they
/// overflow, so that the step is to be left out.
///
/// With a scale this waits for the GPU, to read one number: whether all are finite.
///
/// # Errors
/// What `backward` returns; [`Error::Overflow`] if nothing but leaving out steps is to be expected.
pub(crate) fn gradients(
    scale: &mut Option<LossScale>,
    parameters: &Parameters,
    loss: &Tensor,
    backward: impl FnOnce(&Tensor) -> Result<GradStore>,
) -> Result<Option<GradStore>> {
    let Some(scale) = scale else { return backward(loss).map(Some) };
    let mut gradients = backward(&(loss * scale.scale)?)?;
    let mut zeros = Vec::new();
    for parameter in parameters.iter() {
        let tensor = parameter.var.as_tensor();
        let Some(gradient) = gradients.remove(tensor) else { continue };
        let gradient = (gradient * scale.scale.recip())?;
        // Nothing is 0 times what is no finite number.
        zeros.push((&gradient * 0.0)?.sum_all()?);
        gradients.insert(tensor, gradient);
    }
    let finite = match zeros.is_empty() {
        true => true,
        false => Tensor::stack(&zeros, 0)?.sum_all()?.to_scalar::<f32>()?.is_finite(),
    };
    scale.note(finite)?;
    Ok(finite.then_some(gradients))
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use pretext_models::Kind;

    use super::*;

    fn start() -> LossScale {
        LossScale::of(Precision::F16).unwrap()
    }

    #[test]
    fn only_f16_needs_it() {
        assert_eq!(LossScale::of(Precision::F32), None);
        assert_eq!(LossScale::of(Precision::Bf16), None);
        assert_eq!(start().scale, 65536.0);
    }

    #[test]
    fn it_halves_at_once_and_doubles_after_many_good_steps() {
        let mut scale = start();
        scale.note(false).unwrap();
        assert_eq!(scale, LossScale { scale: 32768.0, good: 0 });
        for _ in 0..1999 {
            scale.note(true).unwrap();
        }
        assert_eq!(scale.scale, 32768.0);
        scale.note(true).unwrap();
        assert_eq!(scale, LossScale { scale: 65536.0, good: 0 });
        // A step that is left out begins the count anew.
        for _ in 0..1999 {
            scale.note(true).unwrap();
        }
        scale.note(false).unwrap();
        scale.note(true).unwrap();
        assert_eq!(scale, LossScale { scale: 32768.0, good: 1 });
    }

    #[test]
    fn gradients_that_overflow_without_a_scale_end_the_run() {
        let mut scale = start();
        for _ in 0..16 {
            scale.note(false).unwrap();
        }
        assert_eq!(scale.scale, 1.0);
        let error = scale.note(false).unwrap_err();
        assert!(matches!(error, Error::Overflow), "{error}");
        assert!(error.to_string().contains("--precision bf16"));
    }

    #[test]
    fn a_resumed_run_goes_on_with_it() {
        let scale = LossScale { scale: 4096.0, good: 17 };
        let text = serde_json::to_string(&scale).unwrap();
        assert_eq!(serde_json::from_str::<LossScale>(&text).unwrap(), scale);
    }

    /// Two weights, and a loss whose gradients are these.
    fn losses(first: f64, slope: f32) -> (Parameters, Tensor) {
        let parameters = Parameters::new(&Device::Cpu);
        let one = Tensor::ones(1, candle_core::DType::F32, &Device::Cpu).unwrap();
        let a = parameters.insert("a", Kind::Weight, &one).unwrap();
        let b = parameters.insert("b", Kind::Weight, &one).unwrap();
        let slope = Tensor::new(&[slope], &Device::Cpu).unwrap();
        let loss = ((a.as_tensor() * first).unwrap() + (b.as_tensor() * slope).unwrap()).unwrap();
        (parameters, loss.sum_all().unwrap())
    }

    #[test]
    fn gradients_are_those_of_the_loss_itself() {
        let (parameters, loss) = losses(3.0, 0.25);
        for mut scale in [None, Some(start())] {
            let mut scaled = 0.0;
            let found = gradients(&mut scale, &parameters, &loss, |loss| {
                scaled = loss.to_scalar::<f32>()?;
                Ok(loss.backward()?)
            });
            let found = found.unwrap().unwrap();
            let factor = if scale.is_some() { 65536.0 } else { 1.0 };
            assert_eq!(scaled, 3.25 * factor);
            let of = |name: &str| {
                let parameter = parameters.get(name).unwrap();
                found.get(parameter.var.as_tensor()).unwrap().to_vec1::<f32>().unwrap()
            };
            assert_eq!((of("a"), of("b")), (vec![3.0], vec![0.25]));
        }
    }

    #[test]
    fn a_step_that_overflows_is_left_out() {
        for slope in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN, f32::MAX] {
            let (parameters, loss) = losses(3.0, slope);
            let mut scale = Some(start());
            let found = gradients(&mut scale, &parameters, &loss, |loss| Ok(loss.backward()?));
            assert!(found.unwrap().is_none(), "{slope}");
            assert_eq!(scale, Some(LossScale { scale: 32768.0, good: 0 }));
        }
    }

    #[test]
    fn gradients_too_small_for_f16_survive() {
        // 2^-27 is 0 in f16; scaled, it is not.
        let (parameters, loss) = losses(0.5, 2_f32.powi(-27));
        let in_f16 = |loss: &Tensor| {
            let mut found = loss.backward()?;
            for parameter in parameters.iter() {
                let tensor = parameter.var.as_tensor();
                let gradient = found.remove(tensor).unwrap();
                let f16 = candle_core::DType::F16;
                found.insert(tensor, gradient.to_dtype(f16)?.to_dtype(gradient.dtype())?);
            }
            Ok(found)
        };
        let of = |found: GradStore| {
            let parameter = parameters.get("b").unwrap();
            found.get(parameter.var.as_tensor()).unwrap().to_vec1::<f32>().unwrap()
        };
        let plain = gradients(&mut None, &parameters, &loss, in_f16).unwrap().unwrap();
        let scaled = gradients(&mut Some(start()), &parameters, &loss, in_f16).unwrap().unwrap();
        assert_eq!((of(plain), of(scaled)), (vec![0.0], vec![2_f32.powi(-27)]));
    }
}
