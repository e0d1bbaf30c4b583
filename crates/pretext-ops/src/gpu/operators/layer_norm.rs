//! Layer normalisation.

use candle_core::{DType, Result, Tensor};

use super::node::node;
use crate::gpu::Place;
use crate::gpu::layer_norm::Rows;
use crate::gpu::norm::Size;
use crate::gradients::leave;

/// As [`crate::layer_norm()`], whose checks are done.
pub(crate) fn layer_norm<M: Place>(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    eps: f64,
) -> Result<Tensor> {
    let (x, gpu) = (x.contiguous()?, M::of(x)?);
    let (weight, bias) = (weight.contiguous()?, bias.contiguous()?);
    let (dtype, channels) = (x.dtype(), weight.elem_count());
    let size = Size::new(dtype, x.elem_count(), channels)?;
    let line = gpu.numbers(DType::F32, 2 * size.rows as usize)?;
    let y = gpu.numbers(dtype, x.elem_count())?;
    let (weight_at, line_at) = (gpu.at(&weight)?, gpu.address(&line));
    let rows = Rows { size, x: gpu.at(&x)?, weight: weight_at, line: line_at };
    rows.forward(&gpu, gpu.at(&bias)?, eps, gpu.address(&y))?;
    let (values, scale, machine) = (x.detach(), weight.detach(), gpu.clone());
    let (parameters, wanted) = ([weight.clone(), bias.clone()], x.track_op());
    node("layer_norm", &[&x, &weight, &bias], (&gpu, y, dtype), x.shape(), move |dy| {
        let gpu = &machine;
        let line = gpu.address(&line);
        let rows = Rows { size, x: gpu.at(&values)?, weight: gpu.at(&scale)?, line };
        let dy_at = gpu.at(dy)?;
        let dx = wanted.then(|| {
            let dx = gpu.numbers(dtype, dy.elem_count())?;
            rows.input_gradient(gpu, dy_at, gpu.address(&dx))?;
            gpu.tensor(dx, dtype, dy.shape())
        });
        let [dw, db] = [gpu.numbers(DType::F32, channels)?, gpu.numbers(DType::F32, channels)?];
        rows.parameter_gradients(gpu, dy_at, (gpu.address(&dw), gpu.address(&db)))?;
        let left = |parameter: &Tensor, gradient| {
            let gradient = gpu.tensor(gradient, DType::F32, channels)?;
            leave(parameter, gradient)
        };
        Ok(vec![dx.transpose()?, left(&parameters[0], dw)?, left(&parameters[1], db)?])
    })
}
