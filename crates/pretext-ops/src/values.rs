//! How operators reach the numbers of a tensor: contiguous `f32` or `f64` slices on the CPU.

use candle_core::{CpuStorage, DType, Layout, Result, Shape, Storage, Tensor, WithDType, bail};

use crate::stored::Stored;

/// The number types that operators compute in.
pub(crate) trait Float:
    Stored<Wide = Self> + Default + std::ops::Neg<Output = Self>
{
    const ZERO: Self;
    fn exp(self) -> Self;
    fn ln_1p(self) -> Self;
    fn tanh(self) -> Self;
}

macro_rules! float {
    ($($type:ty),*) => { $(
        impl Float for $type {
            const ZERO: Self = 0.0;
            fn exp(self) -> Self { self.exp() }
            fn ln_1p(self) -> Self { self.ln_1p() }
            fn tanh(self) -> Self { self.tanh() }
        }
    )* };
}
float!(f32, f64);

/// Calls a generic function with the type that a dtype names.
macro_rules! by_dtype {
    ($op:expr, $dtype:expr, $function:ident ( $($argument:expr),* $(,)? )) => {
        match $dtype {
            candle_core::DType::F32 => $function::<f32>($($argument),*),
            candle_core::DType::F64 => $function::<f64>($($argument),*),
            other => candle_core::bail!("{}: the dtype is {other:?}, it must be f32 or f64", $op),
        }
    };
}
pub(crate) use by_dtype;

/// The same for operators that take numbers as they lie in memory, `bf16` among them.
macro_rules! by_stored {
    ($op:expr, $dtype:expr, $function:ident ( $($argument:expr),* $(,)? )) => {
        match $dtype {
            candle_core::DType::BF16 => $function::<half::bf16>($($argument),*),
            other => $crate::values::by_dtype!($op, other, $function($($argument),*)),
        }
    };
}
pub(crate) use by_stored;

/// The contiguous values behind a layout.
pub(crate) fn slice<'a, T: WithDType>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [T]> {
    let values = T::cpu_storage_as_slice(storage)?;
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&values[start..end]),
        None => bail!("the values of {:?} do not lie in one piece", layout.shape()),
    }
}

/// The storage of a tensor, if it lies on the CPU.
pub(crate) fn on_cpu(storage: &Storage) -> Result<&CpuStorage> {
    match storage {
        Storage::Cpu(storage) => Ok(storage),
        _ => bail!("this operator runs on the CPU only"),
    }
}

/// Calls `f` with the values of one tensor.
pub(crate) fn with1<T: WithDType, R>(a: &Tensor, f: impl FnOnce(&[T]) -> R) -> Result<R> {
    let a = a.contiguous()?;
    let (storage, layout) = a.storage_and_layout();
    Ok(f(slice(on_cpu(&storage)?, layout)?))
}

/// Calls `f` with the values of two tensors.
pub(crate) fn with2<T: WithDType, R>(
    a: &Tensor,
    b: &Tensor,
    f: impl FnOnce(&[T], &[T]) -> R,
) -> Result<R> {
    let (a, b) = (a.contiguous()?, b.contiguous()?);
    let ((a, a_layout), (b, b_layout)) = (a.storage_and_layout(), b.storage_and_layout());
    Ok(f(slice(on_cpu(&a)?, a_layout)?, slice(on_cpu(&b)?, b_layout)?))
}

/// A result of the forward pass.
pub(crate) fn output<T: WithDType>(values: Vec<T>, shape: impl Into<Shape>) -> (CpuStorage, Shape) {
    (T::to_cpu_storage_owned(values), shape.into())
}

/// Refuses tensors that an operator cannot take together.
pub(crate) fn check(op: &str, tensors: &[&Tensor]) -> Result<()> {
    if let Some(tensor) = tensors.iter().find(|tensor| is_narrow(tensor.dtype())) {
        bail!("{op}: the dtype is {:?}, it must be f32 or f64", tensor.dtype())
    }
    check_pictures(op, tensors)
}

/// The same where pictures may be `bf16`, or on a GPU `f16`, for which parameters are `f32`.
pub(crate) fn check_with(op: &str, pictures: &[&Tensor], parameters: &[&Tensor]) -> Result<()> {
    check_pictures(op, pictures)?;
    check(op, parameters)?;
    match (pictures.first(), parameters.first()) {
        (Some(picture), Some(parameter)) if parameter.dtype() != parameters_of(picture) => {
            bail!("{op}: the dtypes {:?} and {:?} do not fit", picture.dtype(), parameter.dtype())
        }
        _ => Ok(()),
    }
}

/// The dtype of the parameters that a picture meets.
pub(crate) fn parameters_of(picture: &Tensor) -> DType {
    if is_narrow(picture.dtype()) { DType::F32 } else { picture.dtype() }
}

/// Whether numbers are stored in half of what they are computed in.
fn is_narrow(dtype: DType) -> bool {
    matches!(dtype, DType::BF16 | DType::F16)
}

/// Whether the operators for a GPU are there and meant.
pub(crate) fn on_gpu(tensor: &Tensor) -> bool {
    cfg!(feature = "cuda") && tensor.device().is_cuda()
}

/// Leaves a function by the operator on a GPU, if that is where the tensor lies.
macro_rules! if_on_gpu {
    ($tensor:expr => $operator:ident ( $($argument:expr),* $(,)? )) => {
        #[cfg(feature = "cuda")]
        if $crate::values::on_gpu($tensor) {
            return $crate::gpu::operators::$operator::<$crate::cuda::Gpu>($($argument),*);
        }
    };
}
pub(crate) use if_on_gpu;

/// Refuses pictures that an operator cannot take together.
pub(crate) fn check_pictures(op: &str, tensors: &[&Tensor]) -> Result<()> {
    for tensor in tensors {
        if !tensor.device().is_cpu() && !on_gpu(tensor) {
            bail!("{op}: a tensor lies on {:?}; this operator runs on the CPU", tensor.device())
        }
        if !tensor.device().same_device(tensors[0].device()) {
            bail!("{op}: tensors lie on {:?} and {:?}", tensors[0].device(), tensor.device())
        }
        let there = on_gpu(tensor) && tensor.dtype() == DType::F16;
        if !there && !matches!(tensor.dtype(), DType::F32 | DType::F64 | DType::BF16) {
            bail!("{op}: the dtype is {:?}, it must be f32 or f64", tensor.dtype())
        }
        if on_gpu(tensor) && tensor.dtype() == DType::F64 {
            bail!("{op}: the dtype is {:?}, on a GPU it must be f32, bf16 or f16", tensor.dtype())
        }
        if tensor.dtype() != tensors[0].dtype() {
            bail!("{op}: the dtypes {:?} and {:?} differ", tensors[0].dtype(), tensor.dtype())
        }
    }
    Ok(())
}

/// The number of elements of an output. A slip in a size (a padding of 2^40, say) is an error that
/// names it and neither an overflow nor a failed allocation.
pub(crate) fn elements(op: &str, dims: &[usize]) -> Result<usize> {
    let count = dims.iter().try_fold(1_usize, |count, &dim| count.checked_mul(dim));
    match count.filter(|&count| count <= isize::MAX as usize / size_of::<f64>()) {
        Some(count) => Ok(count),
        None => bail!("{op}: an output of {dims:?} is too large for any memory"),
    }
}

/// Refuses window parameters so large that sums and products of two of them might overflow.
pub(crate) fn check_sizes(op: &str, sizes: &[(&str, usize)]) -> Result<()> {
    match sizes.iter().find(|(_, size)| *size > MAX_SIZE) {
        Some((name, size)) => bail!("{op}: the {name} is {size}, more than {MAX_SIZE}"),
        None => Ok(()),
    }
}

/// Far beyond any picture, and safe to multiply.
const MAX_SIZE: usize = 1 << 24;

/// The four dimensions `[N, C, H, W]` of a tensor.
pub(crate) fn nchw(op: &str, x: &Tensor) -> Result<(usize, usize, usize, usize)> {
    match x.dims() {
        &[n, c, h, w] => Ok((n, c, h, w)),
        dims => bail!("{op}: the input is {dims:?}, it must be [N, C, H, W]"),
    }
}
