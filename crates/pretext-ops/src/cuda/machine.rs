//! A GPU as a machine that runs kernels, and tensors as its memory.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use candle_core::backend::BackendStorage as _;
use candle_core::cuda_backend::cudarc::driver::{
    CudaFunction, CudaSlice, CudaStream, DevicePtr, LaunchConfig, PushKernelArg as _,
};
use candle_core::cuda_backend::{CudaDType, CudaDevice, CudaStorage, DeviceId, WrapErr as _};
use candle_core::{DType, Result, Storage, Tensor, bail};
use half::{bf16, f16};

use super::cudnn;
use crate::conv2d::Geometry;
use crate::gpu::product::{At, Form, Product};
use crate::gpu::{Arg, Kernel, Machine, Place};

const PTX: &str = include_str!(concat!(env!("OUT_DIR"), "/ops.ptx"));
const MODULE: &str = "pretext-ops";

/// The kernels that have run on each GPU. They stay until the process ends.
static FUNCTIONS: LazyLock<Mutex<HashMap<DeviceId, HashMap<Kernel, CudaFunction>>>> =
    LazyLock::new(Mutex::default);

/// Threads of a block; the kernels are compiled for no more.
const THREADS: u32 = 256;

/// A GPU.
#[derive(Clone, Debug)]
pub(crate) struct Gpu {
    pub(super) device: CudaDevice,
    pub(super) stream: Arc<CudaStream>,
}

impl Gpu {
    fn typed<T: CudaDType>(&self, memory: CudaSlice<u8>, count: usize) -> Storage {
        assert!(count * size_of::<T>() <= memory.len(), "memory for each number");
        // SAFETY: the memory is the queue's own, as large as asserted, aligned for any number, and was
        // given up by `leak`; every pattern of bits is a number.
        let numbers = unsafe { self.stream.upgrade_device_ptr::<T>(memory.leak(), count) };
        Storage::Cuda(CudaStorage::wrap_cuda_slice(numbers, self.device.clone()))
    }

    /// A kernel, for which the driver is asked once.
    fn function(&self, kernel: Kernel) -> Result<CudaFunction> {
        let mut all = FUNCTIONS.lock().unwrap_or_else(PoisonError::into_inner);
        let functions = all.entry(self.device.id()).or_default();
        if let Some(function) = functions.get(&kernel) {
            return Ok(function.clone());
        }
        let found = self.device.get_or_load_custom_func(&kernel, MODULE, PTX)?.into_cuda_function();
        functions.insert(kernel, found.clone());
        Ok(found)
    }

    fn inside<T>(&self, slice: &CudaSlice<T>, start: usize, end: usize) -> u64 {
        slice.slice(start..end).device_ptr(&self.stream).0
    }
}

impl Place for Gpu {
    fn of(tensor: &Tensor) -> Result<Self> {
        let device = tensor.device().as_cuda_device()?.clone();
        Ok(Self { stream: device.cuda_stream(), device })
    }

    fn at(&self, tensor: &Tensor) -> Result<u64> {
        let (storage, layout) = tensor.storage_and_layout();
        let (Storage::Cuda(storage), Some((start, end))) = (&*storage, layout.contiguous_offsets())
        else {
            bail!("the numbers of {:?} do not lie in one piece on a GPU", tensor.shape())
        };
        match storage.dtype() {
            DType::F32 => Ok(self.inside(storage.as_cuda_slice::<f32>()?, start, end)),
            DType::BF16 => Ok(self.inside(storage.as_cuda_slice::<bf16>()?, start, end)),
            DType::F16 => Ok(self.inside(storage.as_cuda_slice::<f16>()?, start, end)),
            DType::U32 => Ok(self.inside(storage.as_cuda_slice::<u32>()?, start, end)),
            DType::F64 => Ok(self.inside(storage.as_cuda_slice::<f64>()?, start, end)),
            other => bail!("on a GPU numbers are f32, f64, bf16, f16 or u32, not {other:?}"),
        }
    }

    fn storage(&self, memory: CudaSlice<u8>, dtype: DType, count: usize) -> Result<Storage> {
        match dtype {
            DType::F32 => Ok(self.typed::<f32>(memory, count)),
            DType::BF16 => Ok(self.typed::<bf16>(memory, count)),
            DType::F16 => Ok(self.typed::<f16>(memory, count)),
            DType::F64 => Ok(self.typed::<f64>(memory, count)),
            other => bail!("on a GPU results are f32, f64, bf16 or f16, not {other:?}"),
        }
    }

    fn computes(&self, g: &Geometry, form: Form, product: Product) -> Result<bool> {
        cudnn::computes(self, g, form, product)
    }

    fn product(&self, g: &Geometry, form: Form, product: Product, at: At) -> Result<()> {
        cudnn::run(self, g, form, product, at)
    }
}

impl Machine for Gpu {
    type Memory = CudaSlice<u8>;

    fn alloc(&self, bytes: usize) -> Result<CudaSlice<u8>> {
        // SAFETY: kernels write every number before anything reads it, as their tests show on memory
        // that is full of NaNs.
        unsafe { self.device.alloc::<u8>(bytes.max(1)) }
    }

    fn address(&self, memory: &CudaSlice<u8>) -> u64 {
        memory.device_ptr(&self.stream).0
    }

    fn launch(&self, kernel: Kernel, count: u32, arguments: &[Arg]) -> Result<()> {
        if count == 0 {
            return Ok(());
        }
        let function = self.function(kernel)?;
        let config = LaunchConfig {
            grid_dim: (count.div_ceil(THREADS), 1, 1),
            block_dim: (THREADS, 1, 1),
            shared_mem_bytes: 0,
        };
        let mut builder = self.stream.launch_builder(&function);
        builder.arg(&count);
        for argument in arguments {
            match argument {
                Arg::Address(value) => builder.arg(value),
                Arg::Count(value) => builder.arg(value),
                Arg::Number(value) => builder.arg(value),
            };
        }
        // SAFETY: `gpu` launches each kernel with the arguments of `kernels/ops.cu`, in their order,
        // and with memory for all that its `count` threads read and write: its tests run the same calls.
        unsafe { builder.launch(config) }.w()?;
        Ok(())
    }
}
