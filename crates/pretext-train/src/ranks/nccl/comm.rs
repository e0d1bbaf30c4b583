//! NCCL's communicator: sums of tensors of a GPU, on a queue of their own beside its other work.

#![allow(unsafe_code)]

use std::collections::VecDeque;
use std::ffi::{CStr, c_char, c_void};
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

use candle_core::cuda_backend::cudarc::driver::{CudaEvent, CudaStream, DevicePtr as _};
use candle_core::cuda_backend::cudarc::nccl::{result, sys};
use candle_core::cuda_backend::{CudaDType, WrapErr as _};
use candle_core::{DType, Device, Storage, Tensor, bail};

use crate::error::{Error, Result};
use crate::ranks::buckets::Sums;
use crate::ranks::launch::Launch;
use crate::ranks::meeting::Meeting;

/// How long the end of all sums waits for a thread that is about to begin one.
const CALL: Duration = Duration::from_secs(2);

/// A communicator, of which this process is a part.
pub(in super::super) struct Comm {
    raw: Raw,
    /// Whether it was ended, or is about to be: it is not called any more.
    ended: AtomicBool,
    /// Held by whoever calls it.
    calls: Mutex<()>,
    /// The queue of all other work.
    compute: Arc<CudaStream>,
    /// The queue of the sums.
    stream: Arc<CudaStream>,
    meeting: Arc<Meeting>,
    /// Sums that are not known to be done, in order, and when they were begun.
    under_way: Mutex<VecDeque<(Instant, Arc<CudaEvent>)>>,
}

/// NCCL's handle.
#[derive(Clone, Copy)]
struct Raw(sys::ncclComm_t);

// SAFETY: any thread may use it, one at a time; `Comm` sees to that. To end it is allowed while another
// thread waits in it.
unsafe impl Send for Raw {}
// SAFETY: as above.
unsafe impl Sync for Raw {}

/// A sum under way. Its numbers are not to be freed before it is done.
pub(in super::super) struct Pending {
    row: Tensor,
    done: Arc<CudaEvent>,
    compute: Arc<CudaStream>,
}

impl Pending {
    /// The sum, for which what is computed from now on waits.
    pub(super) fn wait(self) -> candle_core::Result<Tensor> {
        self.compute.wait(&self.done).w()?;
        Ok(self.row.clone())
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        // Memory is freed in the queue of the other work. Where that cannot wait the GPU is lost, and
        // the next call to it says so.
        let _ = self.compute.wait(&self.done);
    }
}

/// Refuses to go on without the library.
///
/// # Errors
/// [`Error::Processes`] if it cannot be loaded.
pub(super) fn check() -> Result<()> {
    match result::get_nccl_version() {
        Ok(_) => Ok(()),
        Err(error) => Err(Error::Processes {
            problem: format!(
                "several processes on GPUs need NCCL 2 for CUDA 13: install libnccl2, or name the folder \
                 of libnccl.so.2 in LD_LIBRARY_PATH ({})",
                words(&error)
            ),
        }),
    }
}

/// What process 0 gives the others, so that they find it.
///
/// # Errors
/// If NCCL cannot make it.
pub(super) fn new_id() -> Result<Vec<u8>> {
    let id = result::get_uniqueid().map_err(|error| failed("ncclGetUniqueId", &error))?;
    Ok(id.internal.iter().map(|&byte| byte as u8).collect())
}

impl Comm {
    /// Connects the processes that met. All do so at the same time.
    ///
    /// # Errors
    /// If one is gone, or NCCL cannot connect them in time.
    pub(super) fn join(
        launch: Launch,
        id: &[u8],
        device: &Device,
        meeting: &Arc<Meeting>,
        patience: Duration,
    ) -> Result<Self> {
        let compute = device.as_cuda_device()?.cuda_stream();
        let context = compute.context().clone();
        let stream = context.new_stream().w()?;
        let mut internal = [0; 128];
        if id.len() != internal.len() {
            let problem = "process 0 is of another version".into();
            return Err(Error::Processes { problem });
        }
        internal.iter_mut().zip(id).for_each(|(to, &from)| *to = from as c_char);
        let count = |number: usize| {
            i32::try_from(number).map_err(|_| Error::Processes {
                problem: format!("{number} processes are too many"),
            })
        };
        let (rank, size) = (count(launch.rank)?, count(launch.size)?);

        // It waits for the others without a bound, and so a thread of its own does.
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            let mut raw = MaybeUninit::uninit();
            let joined = context.bind_to_thread().map_err(|error| error.to_string());
            let joined = joined.and_then(|()| {
                let id = sys::ncclUniqueId { internal };
                // SAFETY: the handle is written if it succeeds, and read only then.
                let done = unsafe { result::comm_init_rank(raw.as_mut_ptr(), size, id, rank) };
                done.map_err(|error| words(&error))?;
                // SAFETY: it succeeded.
                Ok(Raw(unsafe { raw.assume_init() }))
            });
            // Nobody waits for it any more after the patience.
            let _ = sender.send(joined);
        });
        let until = Instant::now() + patience;
        let raw = loop {
            match receiver.recv_timeout(Duration::from_millis(50)) {
                Ok(Ok(raw)) => break raw,
                Ok(Err(problem)) => {
                    let problem = format!("ncclCommInitRank: {problem}");
                    return Err(Error::Processes { problem });
                }
                Err(RecvTimeoutError::Timeout) if Instant::now() < until => meeting.check()?,
                Err(_) => {
                    let problem = format!(
                        "NCCL did not connect the processes within {} s; NCCL_DEBUG=INFO tells more",
                        patience.as_secs_f64()
                    );
                    return Err(Error::Peer { problem });
                }
            }
        };
        Ok(Self {
            raw,
            ended: AtomicBool::new(false),
            calls: Mutex::new(()),
            compute,
            stream,
            meeting: meeting.clone(),
            under_way: Mutex::default(),
        })
    }

    /// Begins the sum of a tensor that nobody else has, `f32` or `f64` and in one piece.
    pub(super) fn start(&self, row: Tensor) -> Result<Pending> {
        self.meeting.check()?;
        let (address, dtype) = self.place(&row)?;
        self.stream.wait(&self.compute.record_event(None).w()?).w()?;
        let called = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        if self.ended.load(Ordering::SeqCst) {
            self.meeting.check()?;
            return Err(Error::Peer { problem: "NCCL was ended".into() });
        }
        self.stream.context().bind_to_thread().w()?;
        // SAFETY: so many numbers of that type lie there, nobody else has them, and they stay until the
        // sum is done: `Pending` has the queue that frees them wait for it.
        let begun = unsafe {
            result::all_reduce(
                address as *const c_void,
                address as *mut c_void,
                row.elem_count(),
                dtype,
                sys::ncclRedOp_t::ncclSum,
                self.raw.0,
                self.stream.cu_stream().cast(),
            )
        };
        drop(called);
        self.meeting.check()?;
        begun.map_err(|error| failed("ncclAllReduce", &error))?;
        let done = Arc::new(self.stream.record_event(None).w()?);
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        under_way.push_back((Instant::now(), done.clone()));
        Ok(Pending { row, done, compute: self.compute.clone() })
    }

    /// Where a tensor's numbers lie, and what they are.
    fn place(&self, tensor: &Tensor) -> candle_core::Result<(u64, sys::ncclDataType_t)> {
        let (storage, layout) = tensor.storage_and_layout();
        let (Storage::Cuda(storage), Some((start, end))) = (&*storage, layout.contiguous_offsets())
        else {
            bail!("the numbers of {:?} do not lie in one piece on a GPU", tensor.shape())
        };
        let storage = (storage, start, end);
        match tensor.dtype() {
            DType::F32 => Ok((self.at::<f32>(storage)?, sys::ncclDataType_t::ncclFloat32)),
            DType::F64 => Ok((self.at::<f64>(storage)?, sys::ncclDataType_t::ncclFloat64)),
            other => bail!("processes sum f32 or f64 on GPUs, not {other:?}"),
        }
    }

    fn at<T: CudaDType>(
        &self,
        (storage, start, end): (&candle_core::CudaStorage, usize, usize),
    ) -> candle_core::Result<u64> {
        Ok(storage.as_cuda_slice::<T>()?.slice(start..end).device_ptr(&self.compute).0)
    }

    /// Forgets the sums that are done; since when the GPU owes the next one, if there is one.
    pub(super) fn oldest(&self) -> Option<(Instant, bool)> {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        let mut moved = false;
        while under_way.front().is_some_and(|(_, done)| done.is_complete()) {
            under_way.pop_front();
            moved = true;
        }
        under_way.front().map(|(begun, _)| (*begun, moved))
    }

    /// What went wrong in sums that were begun before, if anything did.
    pub(super) fn trouble(&self) -> Option<String> {
        let _called = match self.calls.try_lock() {
            Ok(called) => called,
            Err(TryLockError::Poisoned(called)) => called.into_inner(),
            // Whoever is in it hears of it.
            Err(TryLockError::WouldBlock) => return None,
        };
        if self.ended.load(Ordering::SeqCst) {
            return None;
        }
        let mut state = sys::ncclResult_t::ncclSuccess;
        // SAFETY: the communicator was not ended, and is not while the lock is held.
        let asked = unsafe { sys::ncclCommGetAsyncError(self.raw.0, &raw mut state) }.result();
        asked.and(state.result()).err().map(|error| words(&error))
    }

    /// Ends all sums, done or not, and whatever waits for them. A second time does nothing.
    pub(super) fn end(&self) {
        if self.ended.swap(true, Ordering::SeqCst) {
            return;
        }
        // Whoever is about to begin a sum does not any more. One that waits in NCCL is what ends it.
        let until = Instant::now() + CALL;
        let _called = loop {
            match self.calls.try_lock() {
                Ok(called) => break Some(called),
                Err(TryLockError::Poisoned(called)) => break Some(called.into_inner()),
                Err(TryLockError::WouldBlock) if Instant::now() < until => {
                    thread::sleep(Duration::from_millis(1));
                }
                Err(TryLockError::WouldBlock) => break None,
            }
        };
        // Where that fails the GPU is lost, and NCCL says so, too.
        let _ = self.stream.context().bind_to_thread();
        // SAFETY: it is ended once, and not called any more; NCCL lets a thread that is in it out.
        let _ = unsafe { result::comm_abort(self.raw.0) };
    }

    /// Parts from the others after the last sum.
    pub(super) fn part(&self) {
        let _called = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.ended.swap(true, Ordering::SeqCst) {
            let _ = self.stream.context().bind_to_thread();
            // SAFETY: it is ended once, and not called any more.
            let _ = unsafe { result::comm_destroy(self.raw.0) };
        }
    }
}

impl Drop for Comm {
    fn drop(&mut self) {
        self.end();
    }
}

impl Sums for Arc<Comm> {
    type Pending = Pending;

    fn start(&self, row: Tensor) -> Result<Pending> {
        Comm::start(self, row)
    }

    fn wait(&self, pending: Pending) -> Result<Tensor> {
        Ok(pending.wait()?)
    }
}

fn failed(call: &str, error: &result::NcclError) -> Error {
    Error::Peer { problem: format!("{call}: {}", words(error)) }
}

/// What NCCL calls an error, in one line.
fn words(error: &result::NcclError) -> String {
    // SAFETY: NCCL's texts are constants that end with a zero.
    let text = unsafe { sys::ncclGetErrorString(error.0) };
    if text.is_null() {
        return format!("{:?}", error.0);
    }
    // SAFETY: as above.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().trim().replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_library_is_one_line() {
        let Err(error) = check() else {
            // It is here, and can make an id.
            return assert_eq!(new_id().unwrap().len(), 128);
        };
        assert!(error.is_users_mistake());
        let error = error.to_string();
        assert!(error.contains("libnccl.so.2") && error.contains("LD_LIBRARY_PATH"), "{error}");
        assert!(!error.contains('\n'), "{error}");
        assert!(new_id().unwrap_err().to_string().starts_with("ncclGetUniqueId: "));
    }
}
