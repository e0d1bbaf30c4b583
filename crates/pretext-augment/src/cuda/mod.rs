//! Batches of views made on a GPU, from pictures that stay in its memory or pass through it.
//!
//! The kernels in `kernels/` do what [`Plan::apply`](crate::Plan::apply) and
//! [`Normalise`] do, to the last bit; compiled for the processor, they are held
//! against them in this crate's tests.

#![allow(unsafe_code)]

mod link;
mod place;

use std::sync::{Mutex, PoisonError};

use candle_core::cuda_backend::cudarc::driver::sys::CUdevice_attribute as Attribute;
use candle_core::cuda_backend::cudarc::driver::sys::CUfunction_attribute_enum as Limit;
use candle_core::cuda_backend::cudarc::driver::{
    CudaSlice, DeviceRepr, LaunchConfig, PushKernelArg as _,
};
use candle_core::cuda_backend::{CudaDType, CudaDevice, CudaStorage, WrapErr as _};
use candle_core::op::BackpropOp;
use candle_core::{DType, Device, Result, Storage, Tensor, bail};

use self::link::Gpu;
use self::place::{Place, fits};
use crate::program::{Batch, Number, Room};
use crate::upload::{Bulk, Parcels};
use crate::{Error, ImageRef, Layout, Normalise, Plan, Size};

const PTX: &str = include_str!(concat!(env!("OUT_DIR"), "/augment.ptx"));
const MODULE: &str = "pretext-augment";

/// The kernels read sixteen bytes at a time, the last ones beyond the end of the pictures.
const BEYOND: usize = 16;
/// Bytes of pinned memory that pictures pass through on their way to stay, twice.
const CHUNK: usize = 32 << 20;
/// Batches whose parameters may be under way: two views of a step, and of the next one.
const PARAMS: usize = 4;
/// Words that are turned into bytes at a time.
const WORDS: usize = 1 << 12;

/// Pictures of any size that stay in a GPU's memory, one behind the other.
#[derive(Debug)]
pub struct Pictures {
    maker: Maker,
    bytes: CudaSlice<u8>,
    places: Vec<(u64, Size)>,
}

impl Pictures {
    /// Memory for pictures of so many bytes in all, to be [added](Loading::push) one by one.
    ///
    /// # Errors
    /// If the device is no GPU, or its memory does not hold them.
    pub fn load(device: &Device, bytes: u64) -> Result<Loading> {
        let link = Gpu::new(device)?;
        let maker = Maker::new(&link);
        let bulk = Bulk::new(link, bytes as usize + BEYOND, CHUNK)?;
        Ok(Loading { maker, bulk, room: bytes, places: Vec::new() })
    }

    /// The size of each picture.
    pub fn sizes(&self) -> impl ExactSizeIterator<Item = Size> {
        self.places.iter().map(|(_, size)| *size)
    }

    /// A batch on the GPU: a view for each pair of a picture's place and its plan, `[N, 3, H, W]` or
    /// `[N, H, W, 3]`, in `f32`, `bf16` or `f16`. Several views of a picture are made of one copy.
    ///
    /// One upload of parameters and one launch; nothing waits for the GPU.
    ///
    /// # Errors
    /// If there are no views, they differ in size, one is of no picture, or the type is another; if
    /// the GPU is out of memory.
    pub fn views<'a>(
        &self,
        views: impl IntoIterator<Item = (usize, &'a Plan)>,
        normalise: &Normalise,
        layout: Layout,
        dtype: DType,
    ) -> Result<Tensor> {
        self.maker.views(&self.bytes, &self.places, views, (normalise, layout, dtype))
    }
}

/// [`Pictures`] on their way to a GPU, through 64 MiB of pinned memory on the host: they are never all
/// there.
pub struct Loading {
    maker: Maker,
    bulk: Bulk<Gpu>,
    room: u64,
    places: Vec<(u64, Size)>,
}

impl Loading {
    /// Adds a picture.
    ///
    /// # Errors
    /// If there is no room for it, or the GPU fails.
    pub fn push(&mut self, picture: ImageRef<'_>) -> Result<()> {
        let at = self.bulk.len() as u64;
        if at + 3 * picture.size().area() > self.room {
            bail!("pictures of {} bytes were announced, and there are more", self.room)
        }
        self.places.push((at, picture.size()));
        for piece in picture.pieces() {
            self.bulk.put(piece)?;
        }
        Ok(())
    }

    /// All of them, once they are there.
    ///
    /// # Errors
    /// If the GPU fails.
    pub fn finish(self) -> Result<Pictures> {
        Ok(Pictures { maker: self.maker, bytes: self.bulk.finish()?, places: self.places })
    }
}

/// Batches of pictures that pass through a GPU's memory: the next one is copied there, from pinned
/// memory, while the GPU computes with this one.
pub struct Passing {
    maker: Maker,
    parcels: Parcels<Gpu>,
}

/// A batch of pictures on a GPU, until the next but one is [sent](Passing::send).
#[derive(Debug)]
pub struct Sent {
    parcel: usize,
    places: Vec<(u64, Size)>,
}

impl Passing {
    /// No pictures yet.
    ///
    /// # Errors
    /// If the device is no GPU.
    pub fn new(device: &Device) -> Result<Self> {
        let link = Gpu::new(device)?;
        Ok(Self { maker: Maker::new(&link), parcels: Parcels::new(link, 2) })
    }

    /// Copies pictures into pinned memory, and lets the GPU fetch them: nothing waits for that.
    ///
    /// # Errors
    /// If memory cannot be had on either side, or the GPU fails.
    pub fn send<'a>(
        &mut self,
        pictures: impl IntoIterator<Item = ImageRef<'a>, IntoIter: Clone>,
    ) -> Result<Sent> {
        let pictures = pictures.into_iter();
        let bytes: u64 = pictures.clone().map(|picture| 3 * picture.size().area()).sum();
        self.parcels.begin(bytes as usize + BEYOND)?;
        let mut places = Vec::new();
        for picture in pictures {
            places.push((self.parcels.len() as u64, picture.size()));
            for piece in picture.pieces() {
                self.parcels.put(piece)?;
            }
        }
        Ok(Sent { parcel: self.parcels.send()?, places })
    }

    /// As [`Pictures::views`], of one of the last two batches that were sent.
    ///
    /// # Errors
    /// As there, and if two more were sent since.
    pub fn views<'a>(
        &mut self,
        sent: &Sent,
        views: impl IntoIterator<Item = (usize, &'a Plan)>,
        normalise: &Normalise,
        layout: Layout,
        dtype: DType,
    ) -> Result<Tensor> {
        let Some(bytes) = self.parcels.there(sent.parcel)? else {
            bail!("these pictures have left the GPU's memory, or there were none")
        };
        let how = (normalise, layout, dtype);
        let made = self.maker.views(bytes, &sent.places, views, how)?;
        self.parcels.is_read(sent.parcel)?;
        Ok(made)
    }
}

/// What makes views, wherever the pictures lie.
struct Maker {
    device: CudaDevice,
    params: Mutex<Parcels<Gpu>>,
}

impl std::fmt::Debug for Maker {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Maker({:?})", self.device)
    }
}

impl Maker {
    fn new(link: &Gpu) -> Self {
        Self { device: link.device(), params: Mutex::new(Parcels::new(link.clone(), PARAMS)) }
    }

    fn views<'a>(
        &self,
        bytes: &CudaSlice<u8>,
        places: &[(u64, Size)],
        views: impl IntoIterator<Item = (usize, &'a Plan)>,
        (normalise, layout, dtype): (&Normalise, Layout, DType),
    ) -> Result<Tensor> {
        let mut batch = Batch::default();
        for (picture, plan) in views {
            let Some((place, size)) = places.get(picture) else {
                bail!(
                    "there are {} pictures on the GPU, and none is number {picture}",
                    places.len()
                )
            };
            batch.push(*place, *size, plan).map_err(|size| {
                let numbers = 3 * size.area() as usize;
                candle_core::Error::wrap(Error::Output { size, numbers })
            })?;
        }
        let Some(size) = batch.size() else { bail!("a batch of no views has no size") };
        let (height, width) = (size.height as usize, size.width as usize);
        if !fits(batch.memory()) {
            bail!(
                "a view of {width} x {height}, or what it is made of, takes 4 GiB; make it on the processor"
            )
        }
        let shape = match layout {
            Layout::Chw => (batch.len(), 3, height, width),
            Layout::Hwc => (batch.len(), height, width, 3),
        };
        let way = (normalise, layout);
        let storage = match dtype {
            DType::F32 => self.launch::<f32>(bytes, &batch, size, way, Number::F32),
            DType::BF16 => self.launch::<half::bf16>(bytes, &batch, size, way, Number::Bf16),
            DType::F16 => self.launch::<half::f16>(bytes, &batch, size, way, Number::F16),
            other => bail!("views are f32, bf16 or f16, not {other:?}"),
        }?;
        Ok(Tensor::from_storage(Storage::Cuda(storage), shape, BackpropOp::none(), false))
    }

    fn launch<T: CudaDType + DeviceRepr>(
        &self,
        pictures: &CudaSlice<u8>,
        batch: &Batch,
        size: Size,
        (normalise, layout): (&Normalise, Layout),
        number: Number,
    ) -> Result<CudaStorage> {
        let device = &self.device;
        let stream = device.cuda_stream();
        let about = |attribute| stream.context().attribute(attribute).w();
        let shared = about(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?;
        let processors = about(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?;
        let (views, processors) = (batch.len() as u64, processors.max(1) as u64);
        let place = Place::choose(batch.memory(), shared.max(0) as u64);
        // Whoever is done first takes the next view, unless blocks have memory of their own.
        let blocks =
            if place.global == 0 { views } else { views.min(place.blocks * processors) } as u32;

        let Place { program, scratch, .. } = place;
        let room = Room { program, scratch };
        let words = batch.words(normalise, layout, number, room);
        let mut sent = self.params.lock().unwrap_or_else(PoisonError::into_inner);
        sent.begin(size_of_val(&words[..]))?;
        for part in words.chunks(WORDS) {
            let bytes: Vec<u8> = part.iter().flat_map(|word| word.to_le_bytes()).collect();
            sent.put(&bytes)?;
        }
        let parcel = sent.send()?;
        let Some(params) = sent.there(parcel)? else { bail!("a batch of no words") };
        let bytes = (u64::from(blocks) * place.global).max(1);
        // SAFETY: the kernels write to this memory before they read from it.
        let mut memory = unsafe { device.alloc::<u8>(bytes as usize) }?;
        // SAFETY: the kernels write every number of every view.
        let mut out = unsafe { device.alloc::<T>(batch.len() * 3 * size.area() as usize) }?;

        let kernel = device.get_or_load_custom_func(place.kernel, MODULE, PTX)?;
        let limit = Limit::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        kernel.set_attribute(limit, place.shared as i32).w()?;
        let config = LaunchConfig {
            grid_dim: (blocks, 1, 1),
            block_dim: (place.threads(), 1, 1),
            shared_mem_bytes: place.shared as u32,
        };
        let mut builder = kernel.builder();
        builder.arg(pictures).arg(params).arg(&mut memory).arg(&mut out);
        // SAFETY: the arguments are those of `KERNEL` in kernels/augment.cu, in its order. Programs
        // are made by `compile`, which clips what they touch to their pictures and views; the blocks'
        // memory and the output are as large as `Place` and the batch say.
        unsafe { builder.launch(config) }.w()?;
        drop(builder);
        sent.is_read(parcel)?;
        Ok(CudaStorage::wrap_cuda_slice(out, device.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_processor_is_no_gpu() {
        assert!(Pictures::load(&Device::Cpu, 3).is_err());
        assert!(Passing::new(&Device::Cpu).is_err());
    }
}
