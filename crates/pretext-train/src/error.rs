//! What can go wrong, by whose fault it is.

use std::path::{Path, PathBuf};

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong; [`is_users_mistake`](Error::is_users_mistake) says whose fault it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A name that is in none of our tables.
    #[error("{what} {name:?} is unknown; choose one of: {known}")]
    Unknown {
        /// What was named, such as `task`.
        what: &'static str,
        /// The name that was given.
        name: String,
        /// The names that would have done.
        known: String,
    },
    /// A GPU that was asked for cannot be used.
    #[error("--device {device}: {problem}")]
    Device {
        /// What was asked for.
        device: String,
        /// Why there is none.
        problem: String,
    },
    /// A number of the recipe that makes no sense.
    #[error("{field}: {problem}")]
    Recipe {
        /// The recipe's field, spelt as the flag.
        field: &'static str,
        /// What is wrong with it, and what would do.
        problem: String,
    },
    /// The processes that were started for one run do not fit together.
    #[error("{problem}")]
    Processes {
        /// What does not fit, and what would do.
        problem: String,
    },
    /// Another process of the run is gone.
    #[error("{problem}")]
    Peer {
        /// How that was noticed, and what would do.
        problem: String,
    },
    /// The data set lacks what this job needs.
    #[error("{}: {problem}", path.display())]
    DataSet {
        /// The data set's folder or cache.
        path: PathBuf,
        /// What is missing, and what would do.
        problem: String,
    },
    /// The out folder already holds a run.
    #[error("{}: {problem}", path.display())]
    Out {
        /// The folder.
        path: PathBuf,
        /// What is in the way, and the remedy.
        problem: String,
    },
    /// Another process works on the out folder.
    #[error(
        "{}: {who} works on it; give --wait to wait for it, or choose another --out",
        path.display()
    )]
    Busy {
        /// The folder.
        path: PathBuf,
        /// The process, its host and its last sign of life, in words.
        who: String,
    },
    /// A file of ours that is damaged, foreign, or made for something else.
    #[error("{}: {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and what would do.
        problem: String,
    },
    /// The loss is no longer a number.
    #[error(
        "the loss became {loss} in epoch {epoch}, step {step}: lower --lr or set --clip 1, and start again"
    )]
    Diverged {
        /// The loss: infinite or not a number.
        loss: f32,
        /// The epoch, from 1.
        epoch: u32,
        /// The step in the epoch, from 1.
        step: usize,
    },
    /// The data set or one of its pictures cannot be read.
    #[error(transparent)]
    Data(#[from] pretext_data::Error),
    /// A network cannot be built, or weights do not fit it.
    #[error(transparent)]
    Model(#[from] pretext_models::Error),
    /// A pretrained encoder from elsewhere cannot be opened or used.
    #[error(transparent)]
    Frozen(Box<pretext_models::frozen::Error>),
    /// A puzzle that cannot be.
    #[error(transparent)]
    Augment(#[from] pretext_augment::Error),
    /// A tensor operation failed.
    #[error("{}", one_line(.0))]
    Tensor(#[from] candle_core::Error),
    /// A file or folder cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl From<pretext_models::frozen::Error> for Error {
    fn from(error: pretext_models::frozen::Error) -> Self {
        Self::Frozen(Box::new(error))
    }
}

impl Error {
    /// Whether the caller asked for something impossible, rather than the machine failing.
    pub fn is_users_mistake(&self) -> bool {
        match self {
            Self::Unknown { .. }
            | Self::Recipe { .. }
            | Self::Processes { .. }
            | Self::Device { .. }
            | Self::DataSet { .. }
            | Self::Out { .. }
            | Self::File { .. }
            | Self::Data(_)
            | Self::Frozen(_)
            | Self::Augment(_) => true,
            // A tensor operation that failed in a network, for one because another process is gone.
            Self::Model(error) => !matches!(error, pretext_models::Error::Tensor(_)),
            Self::Io { source, .. } => matches!(
                source.kind(),
                std::io::ErrorKind::NotFound
                    | std::io::ErrorKind::NotADirectory
                    | std::io::ErrorKind::IsADirectory
                    | std::io::ErrorKind::AlreadyExists
                    | std::io::ErrorKind::PermissionDenied
                    | std::io::ErrorKind::ReadOnlyFilesystem
            ),
            Self::Busy { .. } | Self::Peer { .. } | Self::Diverged { .. } | Self::Tensor(_) => {
                false
            }
        }
    }
}

/// Adds the path to what the system says.
pub(crate) trait AtPath<T> {
    fn at(self, path: &Path) -> Result<T>;
}

impl<T> AtPath<T> for std::io::Result<T> {
    fn at(self, path: &Path) -> Result<T> {
        self.map_err(|source| Error::Io { path: path.to_owned(), source })
    }
}

/// candle appends a stack trace where `RUST_BACKTRACE` is set; a message is its first line.
pub(crate) fn one_line(error: &candle_core::Error) -> String {
    let text = error.to_string();
    // The driver's word for it, and cuDNN's.
    if ["ERROR_OUT_OF_MEMORY", "ALLOCATION_FAILED"].iter().any(|word| text.contains(word)) {
        return "the GPU's memory does not hold a step: lower --batch-size or --size, or give \
                --precision bf16"
            .into();
    }
    text.lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_gpu_is_told_by_the_remedy() {
        // As the driver and cuDNN 9 spell it.
        for says in ["CUDA_ERROR_OUT_OF_MEMORY", "INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"] {
            let full = candle_core::Error::Msg(format!("DriverError({says}, \"..\")"));
            assert!(Error::from(full).to_string().contains("--batch-size"));
        }
        let other = candle_core::Error::Msg("shapes\n   0: a trace".into());
        assert_eq!(Error::from(other).to_string(), "shapes");
    }
}
