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
    /// The GPU's memory does not hold a training step.
    #[error("the GPU's memory does not hold a step of {tried} pictures: {}", remedy(*fits))]
    FullMemory {
        /// Pictures in the batch that did not fit.
        tried: usize,
        /// About how many would; `None` if that is not known, or too few to train with.
        fits: Option<usize>,
    },
    /// Gradients are no finite numbers in `f16`, however small the loss is scaled.
    #[error(
        "gradients overflow f16 even where the loss is not scaled: give --precision bf16, or lower --lr"
    )]
    Overflow,
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
    Data(pretext_data::Error),
    /// A network cannot be built, or weights do not fit it.
    #[error(transparent)]
    Model(pretext_models::Error),
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
    #[error("{}: {}", path.display(), refusal(source))]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl From<pretext_data::Error> for Error {
    /// A full disk is one whoever writes to it.
    fn from(error: pretext_data::Error) -> Self {
        match error {
            pretext_data::Error::Write { path, source } => Self::Io { path, source },
            other => Self::Data(other),
        }
    }
}

impl From<pretext_models::Error> for Error {
    /// A tensor operation that failed in a network is one that failed, and a full disk is one whoever
    /// writes to it.
    fn from(error: pretext_models::Error) -> Self {
        match error {
            pretext_models::Error::Tensor(error) => Self::Tensor(error),
            pretext_models::Error::Io { path, source } => Self::Io { path, source },
            other => Self::Model(other),
        }
    }
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
            | Self::Model(_)
            | Self::Frozen(_)
            | Self::Augment(_) => true,
            Self::Io { source, .. } => matches!(
                source.kind(),
                std::io::ErrorKind::NotFound
                    | std::io::ErrorKind::NotADirectory
                    | std::io::ErrorKind::IsADirectory
                    | std::io::ErrorKind::AlreadyExists
                    | std::io::ErrorKind::PermissionDenied
                    | std::io::ErrorKind::ReadOnlyFilesystem
            ),
            Self::Busy { .. }
            | Self::Peer { .. }
            | Self::FullMemory { .. }
            | Self::Diverged { .. }
            | Self::Overflow
            | Self::Tensor(_) => false,
        }
    }

    /// Whether a GPU has no memory left for what was to be done.
    pub(crate) fn is_full_memory(&self) -> bool {
        match self {
            Self::Tensor(error) => says_full(&error.to_string()),
            Self::FullMemory { .. } => true,
            _ => false,
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
    if says_full(&text) {
        return format!("the GPU's memory is full: {}", remedy(None));
    }
    text.lines().next().unwrap_or_default().to_owned()
}

/// Whether an error, whatever it is wrapped in, is one of full memory: the words of the driver, of
/// cuDNN and of cuBLAS.
fn says_full(text: &str) -> bool {
    ["ERROR_OUT_OF_MEMORY", "ALLOCATION_FAILED", "ALLOC_FAILED"]
        .iter()
        .any(|word| text.contains(word))
}

/// What the system said of a file, and the remedy where there is one.
fn refusal(error: &std::io::Error) -> String {
    use std::io::ErrorKind;
    match error.kind() {
        full @ (ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge) => {
            format!("{full}; free some space and run it again, a training run with --resume")
        }
        _ => error.to_string(),
    }
}

/// What to do about a GPU whose memory is full.
fn remedy(fits: Option<usize>) -> String {
    match fits {
        Some(fits) => format!(
            "about {fits} would fit; give --batch-size {fits}, or a smaller --size, or --precision bf16"
        ),
        None => "give a smaller --batch-size or --size, or --precision bf16".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_gpu_is_told_by_the_remedy() {
        use candle_core::Error as Tensors;
        // As the driver, cuDNN 9 and cuBLAS spell it.
        for says in [
            "DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")",
            "cuDNN answers CudnnError(CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED)",
            "CublasError(CUBLAS_STATUS_ALLOC_FAILED)",
        ] {
            let plain = || Tensors::Msg(says.into());
            for full in [
                plain(),
                Tensors::Cuda(Box::new(std::io::Error::other(says))),
                Tensors::wrap(says),
                plain().context("in a layer"),
                plain().with_path("a file"),
                plain().bt().context("in a layer").context("in a network"),
            ] {
                let error = Error::from(full);
                assert!(error.is_full_memory() && !error.is_users_mistake(), "{error}");
                assert_eq!(error.to_string().lines().count(), 1);
                assert!(error.to_string().contains("--batch-size"), "{error}");
            }
            let inside = Error::from(pretext_models::Error::Tensor(plain()));
            assert!(inside.is_full_memory());
        }
        let other = Error::from(Tensors::Msg("shapes\n   0: a trace".into()));
        assert_eq!(other.to_string(), "shapes");
        assert!(!other.is_full_memory());
    }

    #[test]
    fn a_full_disk_is_told_by_the_remedy_and_nobodys_mistake() {
        use std::io::{self, ErrorKind};
        let path = || PathBuf::from("out/checkpoint.safetensors");
        for (kind, says) in [
            (ErrorKind::StorageFull, "no storage space"),
            (ErrorKind::QuotaExceeded, "quota exceeded"),
            (ErrorKind::FileTooLarge, "file too large"),
        ] {
            // A temporary file adds its own path to what the system says.
            let source = || io::Error::new(kind, "No space left on device at path \"out/.part-a\"");
            let io = Error::Io { path: path(), source: source() };
            let model = Error::from(pretext_models::Error::Io { path: path(), source: source() });
            for error in [io, model] {
                assert!(!error.is_users_mistake());
                assert_eq!(
                    error.to_string(),
                    format!(
                        "out/checkpoint.safetensors: {says}; free some space and run it again, a \
                         training run with --resume"
                    )
                );
            }
        }
        let missing =
            pretext_models::Error::Io { path: path(), source: ErrorKind::NotFound.into() };
        assert!(Error::from(missing).is_users_mistake());
    }

    #[test]
    fn the_batch_size_that_would_fit_is_named() {
        let error = Error::FullMemory { tried: 64, fits: Some(40) };
        assert_eq!(
            error.to_string(),
            "the GPU's memory does not hold a step of 64 pictures: about 40 would fit; give \
             --batch-size 40, or a smaller --size, or --precision bf16"
        );
        let error = Error::FullMemory { tried: 2, fits: None };
        assert_eq!(
            error.to_string(),
            "the GPU's memory does not hold a step of 2 pictures: give a smaller --batch-size or \
             --size, or --precision bf16"
        );
    }
}
