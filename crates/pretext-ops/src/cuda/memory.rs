//! What takes up a GPU's memory.

use candle_core::cuda_backend::WrapErr as _;
use candle_core::cuda_backend::cudarc::driver::sys::CUmemPool_attribute as Pool;
use candle_core::cuda_backend::cudarc::driver::{CudaContext, result, sys};
use candle_core::{Device, Result};

/// A GPU's memory as this process has it, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct MemoryUse {
    /// What is in use.
    pub now: u64,
    /// The most that was, since [`forget_peak`].
    pub peak: u64,
    /// What could be: all that this process holds, and all that nobody has.
    pub room: u64,
}

/// The memory of a GPU; `None` for the processor, and for a driver that does not count.
///
/// # Errors
/// If the driver fails.
pub fn memory_use(device: &Device) -> Result<Option<MemoryUse>> {
    let Device::Cuda(cuda) = device else { return Ok(None) };
    let stream = cuda.cuda_stream();
    let context = stream.context();
    if !context.has_async_alloc() {
        return Ok(None);
    }
    let attribute = |attribute| {
        let mut value = 0_u64;
        // SAFETY: these attributes are numbers of 64 bits.
        unsafe {
            sys::cuMemPoolGetAttribute(pool(context)?, attribute, (&raw mut value).cast()).result()
        }
        .w()?;
        Ok::<_, candle_core::Error>(value)
    };
    let (free, _) = context.mem_get_info().w()?;
    Ok(Some(MemoryUse {
        now: attribute(Pool::CU_MEMPOOL_ATTR_USED_MEM_CURRENT)?,
        peak: attribute(Pool::CU_MEMPOOL_ATTR_USED_MEM_HIGH)?,
        room: attribute(Pool::CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT)? + free as u64,
    }))
}

/// Lets the [peak](MemoryUse::peak) begin anew at what is in use now.
///
/// # Errors
/// If the driver fails.
pub fn forget_peak(device: &Device) -> Result<()> {
    let Device::Cuda(cuda) = device else { return Ok(()) };
    let stream = cuda.cuda_stream();
    let context = stream.context();
    if !context.has_async_alloc() {
        return Ok(());
    }
    let mut none = 0_u64;
    let high = Pool::CU_MEMPOOL_ATTR_USED_MEM_HIGH;
    // SAFETY: the attribute is a number of 64 bits, and 0 is what it may be set to.
    unsafe { sys::cuMemPoolSetAttribute(pool(context)?, high, (&raw mut none).cast()).result() }.w()
}

/// The pool that the process allocates from.
fn pool(context: &CudaContext) -> Result<sys::CUmemoryPool> {
    context.bind_to_thread().w()?;
    // SAFETY: the device is the context's.
    unsafe { result::device::get_mem_pool(context.cu_device()) }.w()
}
