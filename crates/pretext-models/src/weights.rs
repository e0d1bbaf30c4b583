//! Weight files: safetensors with metadata, whole or not there.

mod reader;

pub use reader::{Reader, Source, open};

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io;
use std::path::Path;

use candle_core::{DType, Tensor};
use safetensors::serialize;
use safetensors::tensor::{Dtype, View};

use crate::error::{Error, Result};

/// Writes tensors and metadata into a safetensors file, replacing one that is there in one step: a
/// reader, or a power cut, finds the old file or the new one, never half of one.
///
/// Equal tensors and metadata give equal bytes.
///
/// Folders that are not there are made. A tensor may be `f32`, `f64`, `u32`, `i64` or `u8`.
///
/// ```
/// use std::collections::BTreeMap;
///
/// use candle_core::{Device, Tensor};
/// use pretext_models::weights;
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("encoder.safetensors");
/// let bias = Tensor::new(&[0.5f32, -1.0], &Device::Cpu)?;
/// let recipe = BTreeMap::from([("task".to_owned(), "grey-blur".to_owned())]);
/// weights::save(&path, &BTreeMap::from([("bias".to_owned(), bias)]), &recipe)?;
/// let (tensors, metadata) = weights::read(&path)?;
/// assert_eq!(tensors["bias"].to_vec1::<f32>()?, [0.5, -1.0]);
/// assert_eq!(metadata, recipe);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`Error::Io`] if the file cannot be written, [`Error::Tensor`] for a tensor of another type; a file
/// that was there is as it was then, and nothing else is left.
pub fn save(
    path: &Path,
    tensors: &BTreeMap<String, Tensor>,
    metadata: &BTreeMap<String, String>,
) -> Result<()> {
    let views = tensors
        .iter()
        .map(|(name, tensor)| Ok((name.clone(), Values::new(tensor)?)))
        .collect::<Result<BTreeMap<_, _>>>()?;
    let failed = |source: io::Error| Error::Io { path: path.to_owned(), source };
    let header: HashMap<String, String> = metadata.clone().into_iter().collect();
    let bytes = serialize(views, Some(header)).map_err(|error| failed(io::Error::other(error)))?;
    let bytes = sorted_metadata(bytes, metadata).map_err(failed)?;
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let write = || -> io::Result<()> {
        fs::create_dir_all(folder)?;
        let mut part = part_in(folder)?;
        io::Write::write_all(&mut part, &bytes)?;
        part.as_file().sync_all()?;
        part.persist(path).map_err(|error| error.error)?;
        // Some file systems refuse to sync folders, and lose nothing by it.
        let _ = File::open(folder).and_then(|folder| folder.sync_all());
        Ok(())
    };
    write().map_err(failed)
}

/// A temporary file that whoever may read other new files may read, as a file of weights is for
/// sharing; left alone, it would be for its owner only.
fn part_in(folder: &Path) -> io::Result<tempfile::NamedTempFile> {
    let mut part = tempfile::Builder::new();
    #[cfg(unix)]
    part.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    part.prefix(".part-").tempfile_in(folder)
}

/// Puts the header's metadata in order: a hash map's order differs from run to run, and equal
/// weights should be equal files.
fn sorted_metadata(bytes: Vec<u8>, metadata: &BTreeMap<String, String>) -> io::Result<Vec<u8>> {
    let length = bytes.first_chunk::<8>().map_or(0, |n| u64::from_le_bytes(*n) as usize);
    let header = bytes.get(8..8 + length).unwrap_or_default();
    let mut header: BTreeMap<String, serde_json::Value> = serde_json::from_slice(header)?;
    header.insert("__metadata__".into(), serde_json::to_value(metadata)?);
    let mut text = serde_json::to_vec(&header)?;
    // The format wants the tensors to begin at a multiple of 8 bytes.
    text.resize(text.len().next_multiple_of(8), b' ');
    let mut out = (text.len() as u64).to_le_bytes().to_vec();
    out.extend(text);
    out.extend(bytes.get(8 + length..).unwrap_or_default());
    Ok(out)
}

/// Reads all tensors, each in the type that the file has it in, and the metadata of a safetensors
/// file. That takes as much memory as the file is long: [`open`] tells what is in it before.
///
/// # Errors
/// [`Error::Io`] if the file cannot be read; [`Error::Format`] if it is cut short, damaged or of
/// another format, which is found out before anything large is allocated.
pub fn read(path: &Path) -> Result<(BTreeMap<String, Tensor>, BTreeMap<String, String>)> {
    let file = open(path)?;
    let mut tensors = BTreeMap::new();
    for name in file.names() {
        tensors.extend(file.tensor(name)?.map(|tensor| (name.to_owned(), tensor)));
    }
    Ok((tensors, file.metadata().clone()))
}

/// A tensor's values as the file holds them.
struct Values {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Values {
    fn new(tensor: &Tensor) -> Result<Self> {
        let flat = tensor.flatten_all()?;
        let (dtype, bytes) = match tensor.dtype() {
            DType::F32 => (Dtype::F32, little_endian(&flat.to_vec1::<f32>()?, f32::to_le_bytes)),
            DType::F64 => (Dtype::F64, little_endian(&flat.to_vec1::<f64>()?, f64::to_le_bytes)),
            DType::U32 => (Dtype::U32, little_endian(&flat.to_vec1::<u32>()?, u32::to_le_bytes)),
            DType::I64 => (Dtype::I64, little_endian(&flat.to_vec1::<i64>()?, i64::to_le_bytes)),
            DType::U8 => (Dtype::U8, flat.to_vec1::<u8>()?),
            other => {
                let message = format!("a weight file cannot hold {other:?}");
                return Err(candle_core::Error::Msg(message).into());
            }
        };
        Ok(Self { dtype, shape: tensor.dims().to_vec(), bytes })
    }
}

fn little_endian<T: Copy, const N: usize>(values: &[T], bytes: fn(T) -> [u8; N]) -> Vec<u8> {
    values.iter().flat_map(|&value| bytes(value)).collect()
}

impl View for Values {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }

    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}
