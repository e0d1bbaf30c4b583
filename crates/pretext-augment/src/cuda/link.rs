//! A GPU as one end of [`crate::upload`].

use std::sync::Arc;

use candle_core::cuda_backend::cudarc::driver::sys::CUevent_flags as Flags;
use candle_core::cuda_backend::cudarc::driver::{
    CudaEvent, CudaSlice, CudaStream, DevicePtrMut as _, PinnedHostSlice, result,
};
use candle_core::cuda_backend::{CudaDevice, WrapErr as _};
use candle_core::{Device, Error, Result};

use crate::upload::Link;

/// A GPU with a queue for copies beside the one that it computes by. Nothing but the marks of
/// [`crate::upload`] tells one to wait for the other, for whoever made the device may have switched off
/// the tracking of events.
#[derive(Clone)]
pub(super) struct Gpu {
    device: CudaDevice,
    computes: Arc<CudaStream>,
    copies: Arc<CudaStream>,
}

impl Gpu {
    pub(super) fn new(device: &Device) -> Result<Self> {
        let device = device.as_cuda_device()?.clone();
        let computes = device.cuda_stream();
        let copies = computes.context().new_stream().w()?;
        Ok(Self { device, computes, copies })
    }

    pub(super) fn device(&self) -> CudaDevice {
        self.device.clone()
    }
}

impl Link for Gpu {
    type Error = Error;
    type Host = PinnedHostSlice<u8>;
    type There = CudaSlice<u8>;
    type Mark = CudaEvent;

    fn pinned(&self, bytes: usize) -> Result<PinnedHostSlice<u8>> {
        // SAFETY: of this memory only what was written is read, and that by copies alone.
        unsafe { self.computes.context().alloc_pinned(bytes.max(1)) }.w()
    }

    fn memory(&self, bytes: usize) -> Result<CudaSlice<u8>> {
        // SAFETY: what reads it reads what was copied there before, and ignores the rest.
        let memory = unsafe { self.device.alloc(bytes.max(1)) }?;
        // It is there once the computing queue has come so far.
        self.copies.join(&self.computes).w()?;
        Ok(memory)
    }

    fn write(&self, host: &mut PinnedHostSlice<u8>, at: usize, bytes: &[u8]) -> Result<()> {
        assert!(at + bytes.len() <= host.len(), "pinned memory for each byte");
        let to = host.as_mut_ptr().w()?;
        // SAFETY: it is as long as asserted, and no copy from it is under way: `upload` has waited.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to.add(at), bytes.len()) };
        Ok(())
    }

    fn copy(
        &self,
        host: &PinnedHostSlice<u8>,
        bytes: usize,
        there: &mut CudaSlice<u8>,
        at: usize,
    ) -> Result<CudaEvent> {
        assert!(bytes <= host.len() && at + bytes <= there.len(), "memory on both sides");
        let from = host.as_ptr().w()?;
        let mut there = there.slice_mut(at..at + bytes);
        let (to, _guard) = there.device_ptr_mut(&self.copies);
        if bytes > 0 {
            // SAFETY: the first bytes were written, and stay as they are until the mark that this
            // returns; so does the memory there.
            let from = unsafe { std::slice::from_raw_parts(from, bytes) };
            // SAFETY: as above.
            unsafe { result::memcpy_htod_async(to, from, self.copies.cu_stream()) }.w()?;
        }
        // The host sleeps where it waits, rather than spin.
        self.copies.record_event(Some(Flags::CU_EVENT_BLOCKING_SYNC)).w()
    }

    fn computed(&self) -> Result<CudaEvent> {
        self.computes.record_event(Some(Flags::CU_EVENT_BLOCKING_SYNC)).w()
    }

    fn copy_after(&self, mark: &CudaEvent) -> Result<()> {
        self.copies.wait(mark).w()
    }

    fn compute_after(&self, mark: &CudaEvent) -> Result<()> {
        self.computes.wait(mark).w()
    }

    fn wait(&self, mark: &CudaEvent) -> Result<()> {
        mark.synchronize().w()
    }
}
