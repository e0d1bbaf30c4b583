//! cuDNN's convolutions: a plan for each shape, and a workspace for all.
//!
//! Pictures are `[N, H, W, C]` and kernels `[O, K, L, C]` in memory, which is what tensor cores take; for
//! a product that cuDNN does not have in this order there is the other one.
//! Sums are of `f32`; `f32` pictures are multiplied as they are, without TF32. What comes out has the
//! pictures' dtype, the gradient of `bf16` pictures' weights too, before the optimiser's `f32` takes it:
//! each number of it, summed in `f32`, is rounded once to 8 bits, as it is under PyTorch's autocast.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Mutex, PoisonError};

use candle_core::cuda_backend::cudarc::cudnn::{CudnnError, result, sys};
use candle_core::cuda_backend::cudarc::driver::CudaSlice;
use candle_core::cuda_backend::{DeviceId, WrapErr as _};
use candle_core::{Result, bail};

use super::machine::Gpu;
use super::plan::Plan;
use crate::conv2d::Geometry;
use crate::gpu::Machine as _;
use crate::gpu::product::{At, Form, Product};

/// cuDNN's answers, in its version 9, to what it does not support, on this GPU or at all. Those of 2000
/// and more, to parameters that are wrong, are mistakes of ours and no reason to go another way.
const UNSUPPORTED: std::ops::Range<u32> = 3000..4000;

/// Whether an answer says no more than that.
pub(super) fn is_unsupported(error: &CudnnError) -> bool {
    UNSUPPORTED.contains(&(error.0 as u32))
}

/// Those that no thread is using: cuDNN's handles are for one thread at a time. They stay until the
/// process ends, for what a thread destroys as it ends may come after the driver has gone.
static SPARE: Mutex<Vec<(DeviceId, State)>> = Mutex::new(Vec::new());

/// Whether cuDNN computes a product in this form, with a fixed order of sums.
pub(super) fn computes(gpu: &Gpu, g: &Geometry, form: Form, product: Product) -> Result<bool> {
    with_state(gpu, |state| Ok(state.plan(g, form, product)?.is_some()))
}

/// Computes a product.
pub(super) fn run(gpu: &Gpu, g: &Geometry, form: Form, product: Product, at: At) -> Result<()> {
    with_state(gpu, |state| {
        let Some(plan) = state.plan(g, form, product)? else {
            bail!("cuDNN has no way with a fixed order of sums for {product:?} of {g:?}, {form:?}")
        };
        state.make_room(gpu, plan.workspace)?;
        let workspace = state.workspace.as_ref().map_or(0, |memory| gpu.address(memory));
        let done = plan.run(state.handle.0, at, workspace);
        done.map_err(|error| explained(error, g, form, product))
    })
}

fn with_state<R>(gpu: &Gpu, f: impl FnOnce(&mut State) -> Result<R>) -> Result<R> {
    gpu.stream.context().bind_to_thread().w()?;
    let id = gpu.device.id();
    let spare = || SPARE.lock().unwrap_or_else(PoisonError::into_inner);
    let taken = {
        let mut spare = spare();
        let at = spare.iter().rposition(|(of, _)| *of == id);
        at.map(|at| spare.swap_remove(at).1)
    };
    let mut state = match taken {
        Some(state) => state,
        None => State::new(gpu)?,
    };
    let result = f(&mut state);
    spare().push((id, state));
    result
}

fn explained(error: CudnnError, g: &Geometry, form: Form, product: Product) -> candle_core::Error {
    candle_core::Error::Msg(format!("cuDNN answers {error} for {product:?} of {g:?}, {form:?}"))
}

/// A handle, destroyed in the end.
struct Handle(sys::cudnnHandle_t);

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: it is this one's alone. There is nobody to tell of a failure.
        let _ = unsafe { result::destroy_handle(self.0) };
    }
}

struct State {
    // Plans go before the handle that they were made with.
    plans: HashMap<(Geometry, Form, Product), Option<Rc<Plan>>>,
    workspace: Option<CudaSlice<u8>>,
    handle: Handle,
    /// Keeps the context and the stream for all of them.
    _gpu: Gpu,
}

// SAFETY: cuDNN's handles and descriptors may go from thread to thread, and one has them at a time. No
// count of a plan is shared with anything outside of its state while another thread can take that.
unsafe impl Send for State {}

impl State {
    fn new(gpu: &Gpu) -> Result<Self> {
        let wrap = |error: CudnnError| candle_core::Error::Msg(format!("cuDNN: {error:?}"));
        let handle = Handle(result::create_handle().map_err(wrap)?);
        // SAFETY: the handle was just made; the state keeps the stream.
        unsafe { result::set_stream(handle.0, gpu.stream.cu_stream().cast()) }.map_err(wrap)?;
        Ok(Self { plans: HashMap::new(), workspace: None, handle, _gpu: gpu.clone() })
    }

    /// `None` if there is no way.
    fn plan(&mut self, g: &Geometry, form: Form, product: Product) -> Result<Option<Rc<Plan>>> {
        let key = (*g, form, product);
        if let Some(plan) = self.plans.get(&key) {
            return Ok(plan.clone());
        }
        let plan = match Plan::new(self.handle.0, g, form, product)? {
            Ok(plan) => plan.map(Rc::new),
            Err(error) if is_unsupported(&error) => None,
            Err(error) => return Err(explained(error, g, form, product)),
        };
        self.plans.insert(key, plan.clone());
        Ok(plan)
    }

    /// One workspace for all: products run one after the other.
    fn make_room(&mut self, gpu: &Gpu, bytes: usize) -> Result<()> {
        if self.workspace.as_ref().is_none_or(|memory| memory.len() < bytes) {
            // The old one first: both need not fit.
            self.workspace = None;
            self.workspace = Some(gpu.alloc(bytes)?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_parameters_are_errors() {
        use sys::cudnnStatus_t as Status;
        let unsupported = |status: Status| is_unsupported(&CudnnError(status));
        for status in [
            Status::CUDNN_STATUS_NOT_SUPPORTED,
            Status::CUDNN_STATUS_NOT_SUPPORTED_SHAPE,
            Status::CUDNN_STATUS_NOT_SUPPORTED_ARCH_MISMATCH,
        ] {
            assert!(unsupported(status), "{status:?}");
        }
        for status in [
            Status::CUDNN_STATUS_SUCCESS,
            Status::CUDNN_STATUS_NOT_INITIALIZED,
            Status::CUDNN_STATUS_BAD_PARAM,
            Status::CUDNN_STATUS_BAD_PARAM_NULL_POINTER,
            Status::CUDNN_STATUS_INTERNAL_ERROR,
            Status::CUDNN_STATUS_EXECUTION_FAILED,
        ] {
            assert!(!unsupported(status), "{status:?}");
        }
    }
}
