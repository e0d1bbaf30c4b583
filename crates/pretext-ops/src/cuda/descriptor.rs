//! Descriptors of cuDNN's graphs: made of a kind, given attributes, finished; and asked for attributes.

use std::ffi::c_void;
use std::ptr;

use candle_core::cuda_backend::cudarc::cudnn::{CudnnError, sys};
pub(super) use sys::cudnnBackendAttributeName_t as Name;
use sys::cudnnBackendAttributeType_t as Type;
pub(super) use sys::cudnnBackendDescriptorType_t as Kind;

pub(super) type Answer<T> = std::result::Result<T, CudnnError>;

/// What attributes are made of.
///
/// # Safety
/// cuDNN's values of this type are laid out as ours, and whatever it writes is one.
pub(super) unsafe trait Value: Copy {
    const TYPE: Type;
}

/// A descriptor as an attribute of another one, which does not keep it.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct Part(sys::cudnnBackendDescriptor_t);

/// Where something lies in the GPU's memory.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct Address(pub(super) u64);

/// What an engine's results are like, by cuDNN's number; newer versions know more of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub(super) struct Note(pub(super) u32);

macro_rules! values {
    ($($type:ty: $name:ident),*) => {
        // SAFETY: numbers, pointers and enumerations of C, which stand for themselves; the latter are
        // never read back.
        $(unsafe impl Value for $type { const TYPE: Type = Type::$name; })*
    };
}

values! {
    i64: CUDNN_TYPE_INT64,
    f32: CUDNN_TYPE_FLOAT,
    Part: CUDNN_TYPE_BACKEND_DESCRIPTOR,
    Address: CUDNN_TYPE_VOID_PTR,
    Note: CUDNN_TYPE_NUMERICAL_NOTE,
    sys::cudnnHandle_t: CUDNN_TYPE_HANDLE,
    sys::cudnnDataType_t: CUDNN_TYPE_DATA_TYPE,
    sys::cudnnConvolutionMode_t: CUDNN_TYPE_CONVOLUTION_MODE,
    sys::cudnnBackendHeurMode_t: CUDNN_TYPE_HEUR_MODE
}

/// A descriptor, destroyed in the end.
pub(super) struct Descriptor(sys::cudnnBackendDescriptor_t);

impl Drop for Descriptor {
    fn drop(&mut self) {
        // SAFETY: it is this one's alone. There is nobody to tell of a failure.
        let _ = unsafe { sys::cudnnBackendDestroyDescriptor(self.0) };
    }
}

impl Descriptor {
    pub(super) fn new(kind: Kind) -> Answer<Self> {
        let mut descriptor = ptr::null_mut();
        // SAFETY: it is written where there is room for it.
        unsafe { sys::cudnnBackendCreateDescriptor(kind, &raw mut descriptor) }.result()?;
        Ok(Self(descriptor))
    }

    /// With an attribute.
    pub(super) fn with<T: Value>(self, name: Name, values: &[T]) -> Answer<Self> {
        let (count, from) = (values.len() as i64, values.as_ptr().cast::<c_void>());
        // SAFETY: so many values of that type lie there; cuDNN copies them.
        unsafe { sys::cudnnBackendSetAttribute(self.0, name, T::TYPE, count, from) }.result()?;
        Ok(self)
    }

    /// With all its attributes.
    pub(super) fn finished(self) -> Answer<Self> {
        // SAFETY: it lives, and so does what it is made of.
        unsafe { sys::cudnnBackendFinalize(self.0) }.result()?;
        Ok(self)
    }

    pub(super) fn part(&self) -> Part {
        Part(self.0)
    }

    /// How many values an attribute has.
    pub(super) fn count<T: Value>(&self, name: Name) -> Answer<usize> {
        self.read::<T>(name, 0, ptr::null_mut())
    }

    /// An attribute's values, in the place of others; as many as there are, and have room.
    pub(super) fn get<T: Value>(&self, name: Name, mut values: Vec<T>) -> Answer<Vec<T>> {
        let there = self.read::<T>(name, values.len(), values.as_mut_ptr().cast())?;
        values.truncate(there);
        Ok(values)
    }

    fn read<T: Value>(&self, name: Name, room: usize, to: *mut c_void) -> Answer<usize> {
        let mut count = 0;
        // SAFETY: there is room for so many values of that type, or none is asked for.
        unsafe {
            let room = room as i64;
            sys::cudnnBackendGetAttribute(self.0, name, T::TYPE, room, &raw mut count, to)
        }
        .result()?;
        Ok(count.max(0) as usize)
    }

    /// Carries out the plan that it is, on what a pack says.
    pub(super) fn execute(&self, handle: sys::cudnnHandle_t, pack: &Self) -> Answer<()> {
        // SAFETY: both are finished, and the handle is of the thread that calls.
        unsafe { sys::cudnnBackendExecute(handle, self.0, pack.0) }.result()
    }
}
