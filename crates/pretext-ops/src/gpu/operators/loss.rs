//! Losses.

use candle_core::{DType, Result, Tensor};

use super::node::node;
use crate::gpu::loss::{self, Kind, Logits};
use crate::gpu::{Place, count};

/// The mean over differences, whose checks are done, as a scalar.
pub(crate) fn difference<M: Place>(
    name: &'static str,
    prediction: &Tensor,
    target: &Tensor,
    kind: Kind,
) -> Result<Tensor> {
    let (prediction, target) = (prediction.contiguous()?, target.contiguous()?);
    let gpu = M::of(&prediction)?;
    let numbers = count(prediction.elem_count())?;
    let at = (gpu.at(&prediction)?, gpu.at(&target)?);
    let mean = loss::mean_difference(&gpu, kind, numbers, at)?;
    let (p, t, machine) = (prediction.detach(), target.detach(), gpu.clone());
    let wanted = (prediction.track_op(), target.track_op());
    node(name, &[&prediction, &target], (&gpu, mean, DType::F32), (), move |gradient| {
        let out = machine.numbers(DType::F32, numbers as usize)?;
        let (at, gradient) = ((machine.at(&p)?, machine.at(&t)?), machine.at(gradient)?);
        let address = machine.address(&out);
        loss::difference_gradient(&machine, kind, numbers, at, gradient, address)?;
        let slope = machine.tensor(out, DType::F32, p.shape())?;
        let towards = wanted.1.then(|| slope.neg()).transpose()?;
        Ok(vec![wanted.0.then_some(slope), towards])
    })
}

/// The mean cross-entropy of logits, whose checks are done, as a scalar. A class that there is not makes
/// it NaN.
pub(crate) fn cross_entropy<M: Place>(
    logits: &Tensor,
    classes: &Tensor,
    smoothing: f64,
) -> Result<Tensor> {
    let (logits, gpu) = (logits.contiguous()?, M::of(logits)?);
    let (rows, k) = logits.dims2()?;
    let classes = classes.contiguous()?;
    let batch = move |gpu: &M, logits: &Tensor| {
        Ok::<_, candle_core::Error>(Logits {
            logits: gpu.at(logits)?,
            classes: gpu.at(&classes)?,
            rows: count(rows)?,
            k: count(k)?,
            smoothing,
        })
    };
    let mean = loss::cross_entropy(&gpu, &batch(&gpu, &logits)?)?;
    let (values, machine) = (logits.detach(), gpu.clone());
    node("cross_entropy", &[&logits], (&gpu, mean, DType::F32), (), move |gradient| {
        let out = machine.numbers(DType::F32, rows * k)?;
        let batch = batch(&machine, &values)?;
        let (gradient, address) = (machine.at(gradient)?, machine.address(&out));
        loss::cross_entropy_gradient(&machine, &batch, gradient, address)?;
        Ok(vec![Some(machine.tensor(out, DType::F32, (rows, k))?)])
    })
}
