//! GPUs: which there are, and making one ready.

use candle_core::cuda_backend::WrapErr as _;
use candle_core::cuda_backend::cudarc::cudnn::result as cudnn;
use candle_core::cuda_backend::cudarc::driver::sys::CUmemPool_attribute as Pool;
use candle_core::cuda_backend::cudarc::driver::{CudaContext, CudaStream, result, sys};
use candle_core::{DType, Device, Error, Result, Tensor};

/// The names of the GPUs that there are, in the driver's order.
///
/// # Errors
/// If there is no driver, or it is older than CUDA 13.0 needs, or there is no GPU; the error says
/// which, in one line.
pub fn devices() -> Result<Vec<String>> {
    let count = match CudaContext::device_count() {
        Ok(count) => count,
        Err(error) => return Err(Error::Msg(why(error.0))),
    };
    if count < 1 {
        return Err(Error::Msg("no GPU: the driver finds none".into()));
    }
    let mut version = 0;
    // SAFETY: it writes a whole number.
    unsafe { sys::cuDriverGetVersion(&raw mut version) }.result().w()?;
    if version < VERSION {
        let (major, minor) = (version / 1000, version % 1000 / 10);
        return Err(Error::Msg(format!(
            "the GPU's driver is for CUDA {major}.{minor}: 13.0 is needed, which is driver 580 or newer"
        )));
    }
    (0..count)
        .map(|ordinal| result::device::get_name(result::device::get(ordinal).w()?).w())
        .collect()
}

/// Why there is nothing to compute on.
fn why(error: sys::CUresult) -> String {
    match error {
        sys::CUresult::CUDA_ERROR_NO_DEVICE => "no GPU: the driver finds none".into(),
        sys::CUresult::CUDA_ERROR_NOT_INITIALIZED | sys::CUresult::CUDA_ERROR_STUB_LIBRARY => {
            "no GPU: there is no driver (libcuda.so.1 cannot be loaded)".into()
        }
        sys::CUresult::CUDA_ERROR_SYSTEM_DRIVER_MISMATCH => {
            "no GPU: the driver's library and its kernel module differ in version".into()
        }
        other => format!("no GPU: the driver answers {other:?}"),
    }
}

/// The oldest driver that takes the kernels, as it numbers itself.
const VERSION: i32 = 13_000;
/// The oldest compute capability that the kernels are compiled for.
const OLDEST: (i32, i32) = (7, 5);

/// A GPU to compute on, the first one for 0.
///
/// All work on it, from whichever thread, goes through one queue.
///
/// # Errors
/// If there is no such GPU, it is older than compute capability 7.5, or the driver, cuBLAS, cuRAND or
/// cuDNN cannot be loaded; the error says which, in one line.
pub fn device(ordinal: usize) -> Result<Device> {
    let names = devices()?;
    let Some(name) = names.get(ordinal) else {
        return Err(Error::Msg(format!(
            "no GPU cuda:{ordinal}: there are {} (cuda:0 is {})",
            names.len(),
            names[0]
        )));
    };
    let context = CudaContext::new(ordinal).w()?;
    let capability = context.compute_capability().w()?;
    if capability < OLDEST {
        let (major, minor) = capability;
        return Err(Error::Msg(format!(
            "{name} has compute capability {major}.{minor}; 7.5 or newer is needed"
        )));
    }
    // The libraries are opened at their first call.
    let device = match Device::new_cuda_with_stream(ordinal) {
        Ok(device) => device,
        Err(error) => {
            return Err(Error::Msg(format!(
                "cuBLAS or cuRAND of CUDA 13 cannot be used ({})",
                first_line(&error)
            )));
        }
    };
    match cudnn::create_handle() {
        // SAFETY: it was just made, and nobody else has it.
        Ok(handle) => unsafe { cudnn::destroy_handle(handle) }.map_err(Error::wrap)?,
        Err(error) => {
            return Err(Error::Msg(format!("cuDNN 9 for CUDA 13 cannot be used ({error})")));
        }
    }
    let cuda = device.as_cuda_device()?;
    // SAFETY: all that is computed is told to the one queue that `new_cuda_with_stream` made, in its
    // order. Whoever makes another one (copies of pictures, sums of several processes) tells it and this
    // one to wait for each other, by events of its own.
    unsafe { cuda.disable_event_tracking() };
    keep_memory(&cuda.cuda_stream())?;
    let (major, minor) = capability;
    if let Err(error) = Tensor::zeros(1, DType::F32, &device).and_then(|zero| zero * 2.0) {
        return Err(Error::Msg(format!(
            "this build's kernels do not run on {name}; build again with CUDA_COMPUTE_CAP={major}{minor} \
             ({})",
            first_line(&error)
        )));
    }
    Ok(device)
}

/// Refuses a GPU that cannot compute in `bf16`, or whose kernels were built for older ones; nothing
/// is refused on the processor.
///
/// # Errors
/// If so, in one line.
pub fn check_bf16(device: &Device) -> Result<()> {
    let sum = Tensor::zeros(1, DType::BF16, device).and_then(|zero| &zero + &zero);
    match sum {
        Ok(_) => Ok(()),
        Err(error) => Err(Error::Msg(format!(
            "bf16 needs a GPU of compute capability 8.0 or newer, and a build for it ({})",
            first_line(&error)
        ))),
    }
}

/// Refuses a GPU that cannot compute in `f16`, or a build without such kernels; nothing is refused on
/// the processor.
///
/// # Errors
/// If so, in one line.
pub fn check_f16(device: &Device) -> Result<()> {
    let sum = Tensor::zeros(1, DType::F16, device).and_then(|zero| &zero + &zero);
    match sum {
        Ok(_) => Ok(()),
        Err(error) => {
            let says = first_line(&error);
            Err(Error::Msg(format!("this build's kernels have no f16 for this GPU ({says})")))
        }
    }
}

/// Bytes of a GPU's memory that nobody has; `None` for the processor.
///
/// # Errors
/// If the driver does not tell.
pub fn free_memory(device: &Device) -> Result<Option<usize>> {
    match device {
        Device::Cuda(cuda) => {
            cuda.cuda_stream().context().mem_get_info().map(|(free, _)| Some(free)).w()
        }
        _ => Ok(None),
    }
}

fn first_line(error: &Error) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

/// Lets the driver keep freed memory for the next step, rather than give it back whenever somebody
/// waits for the GPU.
fn keep_memory(stream: &CudaStream) -> Result<()> {
    let context = stream.context();
    if !context.has_async_alloc() {
        return Ok(());
    }
    let mut most = u64::MAX;
    // SAFETY: the device is the context's; the attribute is a number of 64 bits.
    unsafe {
        let pool = result::device::get_mem_pool(context.cu_device()).w()?;
        let value = (&raw mut most).cast();
        sys::cuMemPoolSetAttribute(pool, Pool::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, value)
            .result()
            .w()
    }
}
