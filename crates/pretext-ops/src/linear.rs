//! The fully connected layer.

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};

use crate::gradients::leave;
use crate::matrix::{Matrix, product};
use crate::values::{Float, by_dtype, check, on_gpu, output, slice, with2};

/// `y = x weight^T + bias`, as `torch.nn.functional.linear`.
///
/// * `x`: `[N, I]`, `f32` or `f64`; `weight`: `[O, I]`; `bias`: `[O]`.
/// * Returns `[N, O]`.
///
/// # Errors
/// If shapes, dtypes or devices do not fit.
///
/// ```
/// use candle_core::{Device, Tensor};
///
/// let x = Tensor::new(&[[1f32, 2.]], &Device::Cpu)?;
/// let weight = Tensor::new(&[[3f32, 4.], [5., 6.]], &Device::Cpu)?;
/// let y = pretext_ops::linear(&x, &weight, None)?;
/// assert_eq!(y.to_vec2::<f32>()?, [[11., 17.]]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    check("linear", &[Some(x), Some(weight), bias].into_iter().flatten().collect::<Vec<_>>())?;
    let (&[_, i], &[o, j]) = (x.dims(), weight.dims()) else {
        bail!(
            "linear: the input is {:?}, the weight {:?}; they must be [N, I] and [O, I]",
            x.shape(),
            weight.shape()
        )
    };
    if i != j {
        bail!("linear: the input is {:?}, the weight {:?}", x.shape(), weight.shape())
    }
    if let Some(bias) = bias.filter(|bias| bias.dims() != [o]) {
        bail!("linear: the bias is {:?}, the weight {:?}", bias.shape(), weight.shape())
    }
    let y = if on_gpu(x) {
        // cuBLAS by candle, whose gradient of it is right.
        x.matmul(&weight.t()?)?
    } else {
        x.contiguous()?.apply_op2(&weight.contiguous()?, Linear)?
    };
    match bias {
        Some(bias) => y.broadcast_add(bias),
        None => Ok(y),
    }
}

struct Linear;

impl CustomOp2 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        use candle_core::backend::BackendStorage as _;
        by_dtype!(self.name(), x.dtype(), forward((x, x_layout), (weight, weight_layout)))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        by_dtype!(self.name(), x.dtype(), gradients(x, weight, dy))
    }
}

fn forward<T: Float>(
    x: (&CpuStorage, &Layout),
    weight: (&CpuStorage, &Layout),
) -> Result<(CpuStorage, Shape)> {
    let ((n, i), (o, _)) = (x.1.shape().dims2()?, weight.1.shape().dims2()?);
    let (x, weight) = (slice::<T>(x.0, x.1)?, slice::<T>(weight.0, weight.1)?);
    let mut y = vec![T::zero(); n * o];
    let weight = Matrix::rows(weight, o, i, i).transposed();
    product(&mut y, o, Matrix::rows(x, n, i, i), weight, false);
    Ok(output(y, (n, o)))
}

fn gradients<T: Float>(
    x: &Tensor,
    weight: &Tensor,
    dy: &Tensor,
) -> Result<(Option<Tensor>, Option<Tensor>)> {
    let ((n, i), (o, _)) = (x.dims2()?, weight.dims2()?);
    let dx = x.track_op().then(|| {
        let dx = with2::<T, _>(weight, dy, |weight, dy| {
            let mut dx = vec![T::zero(); n * i];
            product(&mut dx, i, Matrix::rows(dy, n, o, o), Matrix::rows(weight, o, i, i), false);
            dx
        })?;
        Tensor::from_vec(dx, x.shape(), x.device())
    });
    let dw = weight.track_op().then(|| {
        let dw = with2::<T, _>(x, dy, |x, dy| {
            let mut dw = vec![T::zero(); o * i];
            let dy = Matrix::rows(dy, n, o, o).transposed();
            product(&mut dw, i, dy, Matrix::rows(x, n, i, i), false);
            dw
        })?;
        leave(weight, Tensor::from_vec(dw, weight.shape(), weight.device())?)
    });
    Ok((dx.transpose()?, dw.transpose()?.flatten()))
}
