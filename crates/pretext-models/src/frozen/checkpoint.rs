//! A safetensors file, opened by its header; tensors are read one by one as they are asked for.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use candle_core::{DType, Device, Result, Shape, Tensor};
use candle_nn::var_builder::SimpleBackend;
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};

use super::Error;

/// Bytes of the number that opens a file and says how long its header is.
const PREFIX: u64 = 8;

/// Longest header that is read; the format sets the same limit.
const LONGEST_HEADER: u64 = 100_000_000;

/// The header of a file of weights, and the file to read weights from.
pub(super) struct Checkpoint {
    path: PathBuf,
    file: Mutex<File>,
    /// Where the tensors' bytes begin.
    start: u64,
    tensors: BTreeMap<String, TensorInfo>,
}

impl Checkpoint {
    /// Reads the header of `path` and checks the length of the file against it.
    pub(super) fn open(path: &Path) -> std::result::Result<Self, Error> {
        let read = |source| Error::Read { path: path.to_path_buf(), source };
        let format = |reason: String| Error::Format { path: path.to_path_buf(), reason };

        let mut file = File::open(path).map_err(read)?;
        let about = file.metadata().map_err(read)?;
        if about.is_dir() {
            return Err(read(io::ErrorKind::IsADirectory.into()));
        }
        let length = about.len();
        if length < PREFIX {
            return Err(format(format!("it has {length} bytes")));
        }
        let mut prefix = [0; PREFIX as usize];
        file.read_exact(&mut prefix).map_err(read)?;
        let header = u64::from_le_bytes(prefix);
        if header > LONGEST_HEADER || header > length - PREFIX {
            return Err(format("it does not begin with the length of a header".to_string()));
        }
        let mut json = vec![0; header as usize];
        file.read_exact(&mut json).map_err(read)?;
        let metadata: Metadata =
            serde_json::from_slice(&json).map_err(|error| format(error.to_string()))?;
        let start = PREFIX + header;
        let expected = start.saturating_add(metadata.data_len() as u64);
        if length != expected {
            return Err(format(format!("it has {length} bytes, its header promises {expected}")));
        }
        let tensors =
            metadata.tensors().into_iter().map(|(name, info)| (name, info.clone())).collect();
        Ok(Self { path: path.to_path_buf(), file: Mutex::new(file), start, tensors })
    }

    /// Names of the tensors, sorted.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Type and shape of a tensor.
    pub(super) fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.get(name)
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
        let Some(info) = self.tensors.get(name) else {
            candle_core::bail!("{}: no tensor {name}", self.path.display());
        };
        let (from, to) = info.data_offsets;
        let mut bytes = vec![0; to - from];
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(self.start + from as u64))?;
        file.read_exact(&mut bytes)?;
        drop(file);
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
        self.tensors.contains_key(name)
    }
}
