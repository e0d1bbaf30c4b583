//! What can go wrong with networks and weight files.

use std::path::{Path, PathBuf};

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a network could not be built, or weights not be read or written. Every message is one line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The caller asked for an encoder that is not in [`crate::ENCODERS`].
    #[error("no encoder is called {name:?}; choose one of: {}", known())]
    UnknownEncoder {
        /// The name as given.
        name: String,
    },
    /// The encoder has no such variant.
    #[error("{encoder} has no {option}; only xresnets have it")]
    Option {
        /// The encoder.
        encoder: &'static str,
        /// What was asked for.
        option: &'static str,
    },
    /// Weights of another network.
    #[error("{}the weights do not fit: {mismatch}", prefix(path.as_ref()))]
    Mismatch {
        /// The file they came from, if any.
        path: Option<PathBuf>,
        /// The keys at fault.
        mismatch: Mismatch,
    },
    /// Weights that are quantised or otherwise not floating point.
    #[error("{}{name} is {dtype}; give weights in floating point", prefix(path.as_ref()))]
    Type {
        /// The file they came from, if any.
        path: Option<PathBuf>,
        /// The first such key.
        name: String,
        /// Its type.
        dtype: &'static str,
    },
    /// A file that is damaged or no safetensors file.
    #[error("{}: not a whole safetensors file ({reason}); give a file of weights that pretext saved, or save it again", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The file system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A tensor operation failed, for example because a batch has four channels.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

/// The keys that keep weights from fitting a network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mismatch {
    /// Names that the network has and the weights lack.
    pub missing: Vec<String>,
    /// Names that the weights have and the network lacks.
    pub unexpected: Vec<String>,
    /// Names with the network's shape and the weights'.
    pub misshaped: Vec<(String, Vec<usize>, Vec<usize>)>,
}

impl Mismatch {
    /// Whether everything fits.
    pub fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.unexpected.is_empty() && self.misshaped.is_empty()
    }
}

/// Keys that a message names before it counts the rest.
const NAMED: usize = 3;

impl std::fmt::Display for Mismatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shapes: Vec<String> = self
            .misshaped
            .iter()
            .map(|(name, want, got)| format!("{name} (is {got:?}, should be {want:?})"))
            .collect();
        let groups =
            [("missing", &self.missing), ("unexpected", &self.unexpected), ("mis-shaped", &shapes)];
        let mut separator = "";
        for (what, names) in groups {
            if names.is_empty() {
                continue;
            }
            let shown = names[..names.len().min(NAMED)].join(", ");
            write!(f, "{separator}{} {what}: {shown}", names.len())?;
            if names.len() > NAMED {
                f.write_str(", …")?;
            }
            separator = "; ";
        }
        Ok(())
    }
}

impl std::error::Error for Mismatch {}

impl Error {
    /// The same error about weights, naming the file they came from.
    pub fn about(self, file: &Path) -> Self {
        let path = Some(file.to_owned());
        match self {
            Self::Mismatch { mismatch, .. } => Self::Mismatch { path, mismatch },
            Self::Type { name, dtype, .. } => Self::Type { path, name, dtype },
            other => other,
        }
    }
}

fn known() -> String {
    crate::ENCODERS.iter().map(|spec| spec.name).collect::<Vec<_>>().join(", ")
}

fn prefix(path: Option<&PathBuf>) -> String {
    path.map(|path| format!("{}: ", path.display())).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_are_counted() {
        let mismatch = Mismatch {
            missing: ["a", "b", "c", "d"].map(str::to_owned).into(),
            unexpected: vec![],
            misshaped: vec![("e".into(), vec![2, 3], vec![3])],
        };
        assert_eq!(
            mismatch.to_string(),
            "4 missing: a, b, c, …; 1 mis-shaped: e (is [3], should be [2, 3])"
        );
    }
}
