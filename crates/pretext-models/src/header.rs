//! The header of a safetensors file, checked before anything that it promises is believed.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use safetensors::tensor::Metadata;

/// Bytes of the number that opens a file and says how long its header is.
const PREFIX: u64 = 8;

/// Longest header that is read; the format sets the same limit.
const LONGEST_HEADER: u64 = 100_000_000;

/// A file whose header has been read and fits its length.
pub(crate) struct Opened {
    /// Stands where the tensors' bytes begin.
    pub(crate) file: File,
    /// Where the tensors' bytes begin.
    pub(crate) start: u64,
    /// Names, types, shapes and places of the tensors, which follow each other without gaps.
    pub(crate) metadata: Metadata,
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
    let header = u64::from_le_bytes(prefix);
    if header > LONGEST_HEADER || header > length - PREFIX {
        return Err(Flaw::Format("it does not begin with the length of a header".to_owned()));
    }
    let mut json = vec![0; header as usize];
    file.read_exact(&mut json)?;
    let metadata: Metadata = serde_json::from_slice(&json).map_err(|error| {
        // The message may quote the file.
        Flaw::Format(error.to_string().lines().next().unwrap_or_default().to_owned())
    })?;
    let start = PREFIX + header;
    let expected = start.saturating_add(metadata.data_len() as u64);
    if length != expected {
        let reason = format!("it has {length} bytes, its header promises {expected}");
        return Err(Flaw::Format(reason));
    }
    Ok(Opened { file, start, metadata })
}
