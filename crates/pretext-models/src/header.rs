//! The header of a safetensors file, checked before anything that it promises is believed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use safetensors::tensor::{Metadata, TensorInfo};

/// Bytes of the number that opens a file and says how long its header is.
const PREFIX: u64 = 8;

/// Longest header that is read; the format sets the same limit.
const LONGEST_HEADER: u64 = 100_000_000;

/// A file whose header has been read and fits its length.
pub(crate) struct Opened {
    file: Mutex<File>,
    /// Where the tensors' bytes begin.
    start: u64,
    /// Names, types, shapes and places of the tensors, which follow each other without gaps.
    pub(crate) tensors: BTreeMap<String, TensorInfo>,
    /// The file's own words about itself.
    pub(crate) metadata: BTreeMap<String, String>,
}

impl Opened {
    /// Reads the bytes of one tensor; none for a name that is not there.
    ///
    /// # Errors
    /// If the file system refuses, or the file has become shorter.
    pub(crate) fn bytes(&self, name: &str) -> io::Result<Vec<u8>> {
        // Not by a memory map: reading what another program cut off by now is an error, not a signal.
        let (from, to) = self.tensors.get(name).map_or((0, 0), |info| info.data_offsets);
        let mut bytes = vec![0; to - from];
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(self.start + from as u64))?;
        file.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

/// What is wrong with a file.
pub(crate) enum Flaw {
    /// The file system refused.
    Read(io::Error),
    /// It is damaged or of another format, as one line says.
    Format(String),
}

impl From<io::Error> for Flaw {
    fn from(error: io::Error) -> Self {
        Self::Read(error)
    }
}

/// Opens a file and reads its header; nothing is allocated for what the file is too short to hold.
pub(crate) fn open(path: &Path) -> Result<Opened, Flaw> {
    let mut file = File::open(path)?;
    let about = file.metadata()?;
    if about.is_dir() {
        return Err(io::Error::from(io::ErrorKind::IsADirectory).into());
    }
    let length = about.len();
    if length < PREFIX {
        return Err(Flaw::Format(format!("it has {length} bytes")));
    }
    let mut prefix = [0; PREFIX as usize];
    file.read_exact(&mut prefix)?;
    let long = u64::from_le_bytes(prefix);
    if long > LONGEST_HEADER || long > length - PREFIX {
        return Err(Flaw::Format("it does not begin with the length of a header".to_owned()));
    }
    let mut json = vec![0; long as usize];
    file.read_exact(&mut json)?;
    let header: Metadata = serde_json::from_slice(&json).map_err(|error| {
        // The message may quote the file.
        Flaw::Format(error.to_string().lines().next().unwrap_or_default().to_owned())
    })?;
    let start = PREFIX + long;
    let expected = start.saturating_add(header.data_len() as u64);
    if length != expected {
        let reason = format!("it has {length} bytes, its header promises {expected}");
        return Err(Flaw::Format(reason));
    }
    let tensors = header.tensors().into_iter().map(|(name, info)| (name, info.clone())).collect();
    let metadata = header.metadata().clone().unwrap_or_default().into_iter().collect();
    Ok(Opened { file: Mutex::new(file), start, tensors, metadata })
}
