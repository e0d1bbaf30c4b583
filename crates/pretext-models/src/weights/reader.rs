//! Weights in a file, of which only what is asked for comes into memory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};

use crate::error::{Error, Result};
use crate::header::{self, Flaw, Opened};

/// Tensors by name, whose types and shapes are known before any of them is read.
pub trait Source {
    /// The names, sorted.
    fn names(&self) -> impl Iterator<Item = &str>;

    /// Type and shape of a tensor, if there is one of that name.
    fn about(&self, name: &str) -> Option<(DType, &[usize])>;

    /// The tensor of that name, in the type that it is stored in, if there is one.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be read.
    fn tensor(&self, name: &str) -> Result<Option<Tensor>>;
}

impl Source for BTreeMap<String, Tensor> {
    fn names(&self) -> impl Iterator<Item = &str> {
        self.keys().map(String::as_str)
    }

    fn about(&self, name: &str) -> Option<(DType, &[usize])> {
        self.get(name).map(|tensor| (tensor.dtype(), tensor.dims()))
    }

    fn tensor(&self, name: &str) -> Result<Option<Tensor>> {
        Ok(self.get(name).cloned())
    }
}

/// A safetensors file of which the header was read, and nothing else yet.
pub struct Reader {
    path: PathBuf,
    file: Opened,
    types: BTreeMap<String, DType>,
}

/// Opens a safetensors file.
///
/// # Errors
/// [`Error::Io`] if the file cannot be read; [`Error::Format`] if it is cut short, damaged or of
/// another format.
pub fn open(path: &Path) -> Result<Reader> {
    let refuse = |reason| Error::Format { path: path.to_owned(), reason };
    let file = header::open(path).map_err(|flaw| match flaw {
        Flaw::Read(source) => Error::Io { path: path.to_owned(), source },
        Flaw::Format(reason) => refuse(reason),
    })?;
    let mut types = BTreeMap::new();
    for (name, info) in &file.tensors {
        let dtype = DType::try_from(info.dtype)
            .map_err(|_| refuse(format!("{name} is {:?}, which no tensor can be", info.dtype)))?;
        types.insert(name.clone(), dtype);
    }
    Ok(Reader { path: path.to_owned(), file, types })
}

impl Reader {
    /// The file's metadata.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.file.metadata
    }

    /// Where it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Source for Reader {
    fn names(&self) -> impl Iterator<Item = &str> {
        self.types.keys().map(String::as_str)
    }

    fn about(&self, name: &str) -> Option<(DType, &[usize])> {
        Some((*self.types.get(name)?, &self.file.tensors.get(name)?.shape))
    }

    fn tensor(&self, name: &str) -> Result<Option<Tensor>> {
        let Some((dtype, shape)) = self.about(name) else { return Ok(None) };
        let bytes = self.file.bytes(name);
        let bytes = bytes.map_err(|source| Error::Io { path: self.path.clone(), source })?;
        Ok(Some(Tensor::from_raw_buffer(&bytes, dtype, shape, &Device::Cpu)?))
    }
}
