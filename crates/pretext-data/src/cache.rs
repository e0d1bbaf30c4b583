//! The decoded cache: a data set as one memory-mapped safetensors file, so that an epoch decodes
//! nothing.
//!
//! Rows stand in the order of the data set: all of `train`, then `val`, then `unsup`. Tensors, for
//! `n` rows:
//!
//! | name | dtype, shape | content |
//! | - | - | - |
//! | `pixels` | u8 `[p]` | RGB of row `i`: `pixels[offsets[i]..offsets[i + 1]]`, as `[height, width, 3]`; up to 7 zeros at the very end |
//! | `offsets` | i64 `[n + 1]` | where each row starts in `pixels`, and where the last one ends |
//! | `sizes` | u32 `[n, 2]` | width, height |
//! | `labels` | u32 `[n]` | index of the class; 4294967295 in `unsup` |
//! | `split` | u8 `[n]` | 0 `train`, 1 `val`, 2 `unsup` |
//! | `names` | u8 | names joined by zero bytes; those of `unsup` are hashes, for their files' names tell the class |
//!
//! Metadata: `format` (`pretext-cache`), `version` (1), `classes` (a JSON list), `fingerprint` (of
//! the folder), `train`, `val`, `unsup` (rows), `damaged` (pictures left out), `ignored` (files
//! passed over), `size` (shorter side in pixels, or `full`).
//!
//! In Python, row `i` is
//! `pixels[offsets[i]:offsets[i + 1]].reshape(sizes[i][1], sizes[i][0], 3)`.

mod header;
mod reader;
mod writer;

use std::path::Path;

use crate::{Dataset, Error};

pub(crate) use reader::Reader;
pub use writer::{Options, Progress, Report, write};

/// The label of rows that have none.
const NO_LABEL: u32 = u32::MAX;

/// Whether a path is named as caches are.
pub(crate) fn has_cache_name(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "safetensors")
}

/// Whether a cache still matches the folder it was made from: names and sizes of all picture files
/// are what they were.
///
/// # Errors
/// If the cache or the folder cannot be opened.
pub fn is_current(cache: &Path, folder: &Path) -> Result<bool, Error> {
    let cache = Reader::open(cache)?;
    Ok(cache.header().fingerprint == Dataset::open(folder)?.fingerprint())
}
