//! A convolution, its bias, the sum with a residual and an activation in one.
//!
//! [`conv2d()`] and what follows it are the definition. In one, the sums need neither memory nor a
//! gradient of their own. Like `conv_norm` it is two nodes of the graph, for it has four arguments.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use candle_core::{
    CpuStorage, CustomOp1, CustomOp2, CustomOp3, DType, Layout, Result, Shape, Tensor, bail,
};

use super::conv2d::{self, Convolve, Epilogue, by_element, conv2d};
use super::feature_map::{FeatureMap, Gradient, Values, token};
use super::norm::Then;
use super::norm_gradient::before_relu;
use super::statistics::column_sums;
use super::{Activation, nhwc};
use crate::conv2d::Geometry;
use crate::isa::Isa;
use crate::values::{check_with, with1};

/// Convolves, adds the bias and the residual, and applies the activation.
///
/// * `x`: `[N, H, W, C]`, `f32`, `f64` or `bf16`.
/// * `weight`: `[O, C, K, L]`, `bias`: `[O]`, of the same dtype, `f32` for `bf16`.
/// * `stride`, `padding`: as for [`conv2d()`].
/// * Returns `[N, H', W', O]`.
///
/// # Errors
/// As for [`conv2d()`], and if the residual has another shape than the result.
pub fn conv_bias(
    x: &FeatureMap,
    weight: &Tensor,
    bias: &Tensor,
    (stride, padding): (usize, usize),
    then: Then<'_, FeatureMap>,
) -> Result<FeatureMap> {
    let pictures: Result<Vec<Tensor>> =
        std::iter::once(x).chain(then.residual).map(FeatureMap::values).collect();
    check_with("conv_bias", &pictures?.iter().collect::<Vec<_>>(), &[weight, bias])?;
    let (n, h, w, c) = nhwc("conv_bias", x.dims())?;
    let g = Geometry::new((n, c, h, w), weight, stride, padding)?;
    if bias.dims() != [g.o] {
        bail!("conv_bias: the bias is {:?}, the weight {:?}", bias.shape(), weight.shape())
    }
    let size = [n, g.out.0, g.out.1, g.o];
    if let Some(residual) = then.residual.filter(|residual| residual.dims() != size) {
        let residual = residual.dims();
        bail!("conv_bias: the result is {size:?}, the residual {residual:?}")
    }
    #[cfg(feature = "cuda")]
    if x.on_gpu() {
        return crate::gpu::operators::conv_bias::<crate::cuda::Gpu>(g, x, weight, bias, then);
    }
    if x.dtype() == DType::F64 || then.activation == Activation::Mish {
        let identity = Activation::Identity;
        let mut y = conv2d(&x.tensor()?, weight, Some(bias), stride, padding, identity)?;
        if let Some(residual) = then.residual {
            y = (y + residual.tensor()?)?;
        }
        return Ok(then.activation.apply(&y)?.into());
    }
    by_element!("conv_bias", x.dtype(), apply(g, x, weight, bias, then))
}

fn apply<T: Convolve>(
    geometry: Geometry,
    x: &FeatureMap,
    weight: &Tensor,
    bias: &Tensor,
    then: Then<'_, FeatureMap>,
) -> Result<FeatureMap> {
    let pass = Arc::new(Pass {
        geometry,
        relu: then.activation == Activation::Relu,
        x: x.contiguous()?,
        residual: then.residual.map(FeatureMap::contiguous).transpose()?,
        weight: weight.contiguous()?,
        bias: bias.contiguous()?,
        y: OnceLock::new(),
        gradient: Gradient::default(),
        before: Mutex::default(),
    });
    let (x, op) = (pass.x.argument()?, Convolution::<T>(pass.clone(), Default::default()));
    let sums = x.apply_op3(&pass.weight, &pass.bias, op)?;
    let op = Sum::<T>(pass.clone(), Default::default());
    let token = match &pass.residual {
        Some(residual) => sums.apply_op2(&residual.argument()?, op),
        None => sums.apply_op1(op),
    }?;
    let Some(y) = pass.y.get() else { bail!("conv_bias: there is no result") };
    Ok(FeatureMap::beside(y.clone(), token, pass.gradient.clone()))
}

/// One application to one batch, which both nodes share.
struct Pass {
    geometry: Geometry,
    relu: bool,
    x: FeatureMap,
    residual: Option<FeatureMap>,
    weight: Tensor,
    bias: Tensor,
    /// `[N, H', W', O]`.
    y: OnceLock<Values>,
    gradient: Gradient,
    /// The gradient before the activation, from the second node to the first.
    before: Mutex<Option<Tensor>>,
}

impl Pass {
    fn forward<T: Convolve>(&self) -> Result<(CpuStorage, Shape)> {
        let g = &self.geometry;
        let bias = with1::<f32, _>(&self.bias, <[f32]>::to_vec)?;
        let values = self.x.values()?;
        let run = |residual: Option<&[T]>| {
            let epilogue = Epilogue { scale: None, bias: Some(&bias), residual, relu: self.relu };
            with1::<f32, _>(&self.weight, |weight| {
                with1::<T, _>(&values, |x| conv2d::forward(Isa::current(), g, x, weight, epilogue))
            })?
        };
        let y = match &self.residual {
            Some(residual) => with1::<T, _>(&residual.values()?, |residual| run(Some(residual)))?,
            None => run(None),
        }?;
        let y = Tensor::from_vec(y, (g.n, g.out.0, g.out.1, g.o), self.weight.device())?;
        if self.y.set(y.into()).is_err() {
            bail!("conv_bias: a node was run twice")
        }
        Ok(token())
    }

    /// Leaves the gradient for the convolution; returns what the graph gets for the residual.
    fn backward<T: Convolve>(&self) -> Result<Option<Tensor>> {
        let dy = self.gradient.take()?;
        let before = match (self.relu, self.y.get()) {
            (true, Some(y)) => before_relu::<T>(&y.get()?, &dy)?,
            _ => dy,
        };
        let residual = match &self.residual {
            Some(residual) if residual.argument()?.track_op() => {
                Some(residual.hand_over(before.clone())?)
            }
            _ => None,
        };
        self.y.get().inspect(|y| y.used_up());
        *self.before.lock().unwrap_or_else(PoisonError::into_inner) = Some(before);
        Ok(residual)
    }
}

type Of<T> = std::marker::PhantomData<fn() -> T>;

/// The first node; the work is done in the second one, which knows the residual.
struct Convolution<T>(Arc<Pass>, Of<T>);

impl<T: Convolve> CustomOp3 for Convolution<T> {
    fn name(&self) -> &'static str {
        "conv_bias"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        Ok(token())
    }

    fn bwd(
        &self,
        argument: &Tensor,
        weight: &Tensor,
        _bias: &Tensor,
        _: &Tensor,
        _: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let pass = &self.0;
        let before = pass.before.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(before) = before else {
            bail!("conv_bias: the sum's backward pass was not first")
        };
        let (g, x, values) = (&pass.geometry, &pass.x, pass.x.values()?);
        let (dx, dw) = with1::<T, _>(&before, |dy| {
            let dx = argument.track_op().then(|| {
                let others = x.take_others();
                x.hand_over(conv2d::input_gradient(g, &values, weight, dy, others.as_ref())?)
            });
            let dw = conv2d::weight_gradient(g, &values, weight, dy);
            (dx, dw)
        })?;
        Ok((dx.transpose()?, dw?, Some(column_sums(&before)?)))
    }
}

/// The second node.
struct Sum<T>(Arc<Pass>, Of<T>);

impl<T: Convolve> CustomOp1 for Sum<T> {
    fn name(&self) -> &'static str {
        "conv_bias"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        self.0.forward::<T>()
    }

    fn bwd(&self, sums: &Tensor, _: &Tensor, _: &Tensor) -> Result<Option<Tensor>> {
        self.0.backward::<T>()?;
        sums.zeros_like().map(Some)
    }
}

impl<T: Convolve> CustomOp2 for Sum<T> {
    fn name(&self) -> &'static str {
        "conv_bias"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.0.forward::<T>()
    }

    fn bwd(
        &self,
        sums: &Tensor,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let residual = self.0.backward::<T>()?;
        Ok((Some(sums.zeros_like()?), residual))
    }
}
