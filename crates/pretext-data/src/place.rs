//! Where the bytes of one encoded picture lie, and how they are read.

use std::{
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::Arc,
};

#[cfg(feature = "parquet")]
use crate::shards::parquet::Table;
use crate::{DecodeError, Decoder, Error, Picture, decode::MAX_BYTES, shards::tar::Archive};

/// One encoded picture.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    File(PathBuf),
    /// A member of a tar archive.
    Member {
        archive: Arc<Archive>,
        member: usize,
    },
    /// A row of a Parquet file.
    #[cfg(feature = "parquet")]
    Row {
        table: Arc<Table>,
        row: usize,
    },
}

impl Place {
    /// The picture.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Read`] and [`Error::Missing`] name the file.
    pub(crate) fn decode(&self, decoder: &mut Decoder) -> Result<Picture, Error> {
        self.with_bytes(decoder, |bytes, decoder| decoder.decode(bytes))
    }

    /// The bytes of the picture once it is decoded, without decoding it.
    ///
    /// # Errors
    /// As [`Place::decode`], but for damage behind what the file says of its size.
    pub(crate) fn announced(&self, decoder: &mut Decoder) -> Result<u64, Error> {
        self.with_bytes(decoder, |bytes, decoder| decoder.announced(bytes))
    }

    /// Reads the file for `f`.
    fn with_bytes<R>(
        &self,
        decoder: &mut Decoder,
        f: impl FnOnce(&[u8], &mut Decoder) -> Result<R, DecodeError>,
    ) -> Result<R, Error> {
        let f = |bytes: &[u8], decoder: &mut Decoder| {
            if bytes.len() as u64 > MAX_BYTES {
                return Err(DecodeError::TooManyBytes);
            }
            f(bytes, decoder)
        };
        let result = match self {
            Self::File(path) => {
                // Lent, so that the decoder can be used while its buffer is.
                let mut bytes = std::mem::take(&mut decoder.file);
                let read = read(path, &mut bytes).map_err(|error| Error::from_io(path, error));
                let result = read.map(|()| f(&bytes, decoder));
                decoder.file = bytes;
                result?
            }
            Self::Member { archive, member } => f(archive.bytes(*member), decoder),
            #[cfg(feature = "parquet")]
            Self::Row { table, row } => table
                .with_bytes(*row, |bytes| f(bytes, decoder))
                .unwrap_or_else(|problem| Err(DecodeError::Corrupt(problem))),
        };
        result.map_err(|reason| Error::Damaged { path: self.path(), reason })
    }

    /// The file, and inside of an archive or table the member or row.
    fn path(&self) -> PathBuf {
        match self {
            Self::File(path) => path.clone(),
            Self::Member { archive, member } => archive.path().join(archive.name(*member)),
            #[cfg(feature = "parquet")]
            Self::Row { table, row } => table.path().join(format!("row {row}")),
        }
    }
}

/// A whole file, up to one byte more than is allowed.
fn read(path: &Path, bytes: &mut Vec<u8>) -> io::Result<()> {
    let file = fs::File::open(path)?;
    let length = file.metadata()?.len().min(MAX_BYTES + 1);
    bytes.clear();
    // One more, so that the end is seen without growing.
    bytes.reserve(length as usize + 1);
    file.take(MAX_BYTES + 1).read_to_end(bytes)?;
    Ok(())
}
