//! What can go wrong with folders, files and caches: one line each, with the thing and the remedy.

use std::{io, path::PathBuf};

use crate::DecodeError;

/// Why a data set, a picture or a cache cannot be used.
///
/// The first group is about layouts and shards, the second about single files, the third about
/// decoded caches, the last about the caller.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is nothing at this path.
    #[error("{}: no such folder or file; check the path", .path.display())]
    Missing {
        /// The path as given.
        path: PathBuf,
    },
    /// A file lies where a folder belongs.
    #[error(
        "{}: is a file, but a folder of pictures is needed here (or, as the whole data set, a decoded \
         cache, *.safetensors, or shards, *.tar or *.parquet)",
        .path.display()
    )]
    NotAFolder {
        /// The file.
        path: PathBuf,
    },
    /// A folder holds no pictures at all.
    #[error(
        "{}: holds no pictures (looked for {}); fill the folder or remove it",
        .path.display(),
        crate::catalog::EXTENSIONS.join(", ")
    )]
    Empty {
        /// The folder.
        path: PathBuf,
    },
    /// `val/` is there, but nothing to train on.
    #[error("{}: has a val/ folder but no train/ folder; add train/<class>/ folders", .path.display())]
    NoTrain {
        /// The root.
        path: PathBuf,
    },
    /// A class of `train/` without pictures.
    #[error(
        "{}: the class folder {class:?} holds no pictures; fill it or remove it",
        .path.display()
    )]
    EmptyClass {
        /// The folder of the class.
        path: PathBuf,
        /// Its name.
        class: String,
    },
    /// A class of `val/` that cannot be learnt.
    #[error(
        "{}: the class {class:?} is in val/ but not in train/; add train/{class}/ or remove it from \
         val/",
        .path.display()
    )]
    UnknownClass {
        /// The folder of the class in `val/`.
        path: PathBuf,
        /// Its name.
        class: String,
    },
    /// Pictures without a class beside class folders.
    #[error(
        "{}: lies loose beside class folders; move it into a class folder, or into unsup/ beside \
         train/ if it has no label",
        .path.display()
    )]
    LoosePicture {
        /// The first loose picture.
        path: PathBuf,
    },
    /// A class name that is not text.
    #[error("{}: the name of a class folder must be UTF-8; rename it", .path.display())]
    NotUtf8 {
        /// The folder.
        path: PathBuf,
    },
    /// Symbolic links that lead back to a folder above them.
    #[error("{}: links back to a folder above it; remove the link", .path.display())]
    LinkLoop {
        /// The link.
        path: PathBuf,
    },
    /// The file system refused to list or read something.
    #[error("{}: cannot be read: {source}; check that you may read it", .path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },

    /// An archive or table of pictures that cannot be used.
    #[error("{}: {problem}", .path.display())]
    Shard {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and the remedy.
        problem: String,
    },

    /// A file that should be a picture cannot be decoded.
    #[error("{}: damaged picture: {reason}; replace or remove the file", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with its content.
        reason: DecodeError,
    },

    /// A file with the name of a cache that is none, or no whole one.
    #[error("{}: not a usable decoded cache: {problem}; make it again from the pictures", .path.display())]
    Cache {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The pictures that a cache was made from have changed.
    #[error(
        "{0}: made from {1}, where pictures were added, removed or changed since; make the cache \
         again (pretext cache --data {1} --out {0})",
        .path.display(), .source_path.display()
    )]
    StaleCache {
        /// The cache.
        path: PathBuf,
        /// The folder or shards.
        source_path: PathBuf,
    },
    /// A cache by this name would not be recognised as one.
    #[error("{}: a decoded cache is named *.safetensors; choose such a name", .path.display())]
    CacheName {
        /// The name as given.
        path: PathBuf,
    },
    /// A cache cannot be cached again.
    #[error("{}: is a decoded cache already; give what it was made from", .path.display())]
    AlreadyCached {
        /// The cache.
        path: PathBuf,
    },
    /// Every picture of the folder is damaged.
    #[error("{}: none of its {count} pictures can be decoded; nothing was written", .path.display())]
    AllDamaged {
        /// The folder.
        path: PathBuf,
        /// How many were tried.
        count: usize,
    },
    /// The progress callback asked to stop.
    #[error("{}: stopped before it was whole; nothing was written", .path.display())]
    Stopped {
        /// The cache that was to be written.
        path: PathBuf,
    },
    /// The system refused to write a cache.
    #[error("{}: cannot be written: {source}; check the folder and the space left", .path.display())]
    Write {
        /// The cache that was to be written.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },

    /// An index beyond the end.
    #[error("there is no picture {index}: the set holds {len}")]
    NoSuchPicture {
        /// The index asked for.
        index: usize,
        /// The number of pictures.
        len: usize,
    },
}

impl Error {
    pub(crate) fn from_io(path: &std::path::Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::NotFound => Self::Missing { path },
            io::ErrorKind::NotADirectory => Self::NotAFolder { path },
            _ => Self::Read { path, source },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(kind: io::ErrorKind, message: &str) {
        let error = Error::from_io("some/where".as_ref(), kind.into());
        assert_eq!(error.to_string(), format!("some/where: {message}"));
    }

    #[test]
    fn the_system_is_quoted_and_the_remedy_added() {
        check(io::ErrorKind::NotFound, "no such folder or file; check the path");
        check(
            io::ErrorKind::PermissionDenied,
            "cannot be read: permission denied; check that you may read it",
        );
        check(
            io::ErrorKind::NotADirectory,
            "is a file, but a folder of pictures is needed here (or, as the whole data set, a \
             decoded cache, *.safetensors, or shards, *.tar or *.parquet)",
        );
    }
}
