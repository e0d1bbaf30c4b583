//! A safetensors file, opened by its header; tensors are read one by one as they are asked for.

use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Result, Shape, Tensor};
use candle_nn::var_builder::SimpleBackend;
use safetensors::Dtype;
use safetensors::tensor::TensorInfo;

use super::Error;
use crate::header::{self, Flaw, Opened};

/// The header of a file of weights, and the file to read weights from.
pub(super) struct Checkpoint {
    path: PathBuf,
    file: Opened,
}

impl Checkpoint {
    /// Reads the header of `path`, and nothing else yet.
    pub(super) fn open(path: &Path) -> std::result::Result<Self, Error> {
        let file = header::open(path).map_err(|flaw| {
            let path = path.to_path_buf();
            match flaw {
                Flaw::Read(source) => Error::Read { path, source },
                Flaw::Format(reason) => Error::Format { path, reason },
            }
        })?;
        Ok(Self { path: path.to_path_buf(), file })
    }

    /// Names of the tensors, sorted.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.file.tensors.keys().map(String::as_str)
    }

    /// Type and shape of a tensor.
    pub(super) fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.file.tensors.get(name)
    }

    /// Whether a tensor is of a type whose values stand for themselves, so that converting them
    /// to `f32` makes sense. Quantised weights are not: their scales are stored elsewhere.
    pub(super) fn is_float(info: &TensorInfo) -> bool {
        matches!(info.dtype, Dtype::F16 | Dtype::BF16 | Dtype::F32 | Dtype::F64)
    }

    /// The error for a tensor that [`is_float`](Self::is_float) does not hold for.
    pub(super) fn refuse_type(&self, tensor: String, dtype: Dtype) -> Error {
        Error::Type { path: self.path.clone(), tensor, dtype: format!("{dtype:?}") }
    }

    /// Reads one tensor.
    fn read(&self, name: &str, dtype: DType, device: &Device) -> Result<Tensor> {
        let Some(info) = self.file.tensors.get(name) else {
            candle_core::bail!("{}: no tensor {name}", self.path.display());
        };
        let bytes = self.file.bytes(name)?;
        Tensor::from_raw_buffer(&bytes, info.dtype.try_into()?, &info.shape, device)?
            .to_dtype(dtype)
    }
}

impl SimpleBackend for Checkpoint {
    fn get(
        &self,
        shape: Shape,
        name: &str,
        _: candle_nn::Init,
        dtype: DType,
        device: &Device,
    ) -> Result<Tensor> {
        let tensor = self.read(name, dtype, device)?;
        if tensor.shape() != &shape {
            candle_core::bail!("{name}: expected {shape:?}, found {:?}", tensor.shape());
        }
        Ok(tensor)
    }

    fn get_unchecked(&self, name: &str, dtype: DType, device: &Device) -> Result<Tensor> {
        self.read(name, dtype, device)
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.file.tensors.contains_key(name)
    }
}
