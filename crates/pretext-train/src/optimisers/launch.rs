//! Where tensors lie, and launching the optimisers' kernels on a GPU.

#![allow(unsafe_code)]

use candle_core::{CpuStorage, Device, Result, Storage, Tensor, bail};

use super::arguments::Arguments;

/// Where the numbers of a contiguous tensor lie.
pub(super) fn address(tensor: &Tensor) -> Result<u64> {
    let (storage, layout) = tensor.storage_and_layout();
    let Some((start, end)) = layout.contiguous_offsets() else {
        bail!("the numbers of {:?} do not lie in one piece", tensor.shape())
    };
    match &*storage {
        Storage::Cpu(CpuStorage::F32(values)) => Ok(values[start..end].as_ptr() as u64),
        Storage::Cpu(CpuStorage::F64(values)) => Ok(values[start..end].as_ptr() as u64),
        Storage::Cpu(CpuStorage::U32(values)) => Ok(values[start..end].as_ptr() as u64),
        Storage::Cpu(CpuStorage::I64(values)) => Ok(values[start..end].as_ptr() as u64),
        #[cfg(feature = "cuda")]
        Storage::Cuda(storage) => cuda::address(storage, start, end),
        _ => bail!("an optimiser's numbers are not {:?}", tensor.dtype()),
    }
}

/// Runs so many blocks of a kernel, after all that was run before on this GPU.
pub(super) fn on_gpu(device: &Device, kernel: &str, blocks: u32, a: &Arguments) -> Result<()> {
    #[cfg(feature = "cuda")]
    return cuda::launch(device, kernel, blocks, a);
    #[cfg(not(feature = "cuda"))]
    bail!("{kernel} of {blocks} blocks, {} tensors: {device:?} is no device of this build", a.count)
}

#[cfg(feature = "cuda")]
mod cuda {
    use candle_core::backend::BackendStorage as _;
    use candle_core::cuda_backend::cudarc::driver::{
        DevicePtr as _, DeviceRepr, LaunchConfig, PushKernelArg as _,
    };
    use candle_core::cuda_backend::{CudaDType, CudaStorage, WrapErr as _};
    use candle_core::{DType, Device, Result, bail};

    use super::super::arguments::Arguments;
    use super::super::fused::THREADS;

    const PTX: &str = include_str!(concat!(env!("OUT_DIR"), "/optimisers.ptx"));
    const MODULE: &str = "pretext-train/optimisers";

    // SAFETY: addresses and numbers, laid out as C does; `kernels/optimisers.cuh` has the same struct. A
    // test compares the sizes, and takes steps by the kernels with it, which fields out of place would
    // spoil.
    unsafe impl DeviceRepr for Arguments {}

    pub(super) fn address(storage: &CudaStorage, start: usize, end: usize) -> Result<u64> {
        fn of<T: CudaDType>(storage: &CudaStorage, start: usize, end: usize) -> Result<u64> {
            let stream = storage.device().cuda_stream();
            Ok(storage.as_cuda_slice::<T>()?.slice(start..end).device_ptr(&stream).0)
        }
        match storage.dtype() {
            DType::F32 => of::<f32>(storage, start, end),
            DType::F64 => of::<f64>(storage, start, end),
            DType::U32 => of::<u32>(storage, start, end),
            DType::I64 => of::<i64>(storage, start, end),
            other => bail!("an optimiser's numbers are not {other:?}"),
        }
    }

    pub(super) fn launch(device: &Device, kernel: &str, blocks: u32, a: &Arguments) -> Result<()> {
        if blocks == 0 {
            return Ok(());
        }
        let device = device.as_cuda_device()?;
        let function = device.get_or_load_custom_func(kernel, MODULE, PTX)?;
        let config = LaunchConfig {
            grid_dim: (blocks, 1, 1),
            block_dim: (THREADS as u32, 1, 1),
            shared_mem_bytes: 0,
        };
        let mut builder = function.builder();
        builder.arg(a);
        // SAFETY: `fused` fills the arguments with addresses of memory that the parameters, their
        // gradients and the state have; its tests make the same launches on the processor.
        unsafe { builder.launch(config) }.w()?;
        Ok(())
    }
}
