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
//! Metadata: `format` (`pretext-cache`), `version` (2), `classes` (a JSON list), `fingerprint` (of
//! the data set), `source` (its path), `stamp` (SHA-256 over names, sizes and times of change of
//! its files), `train`, `val`, `unsup` (rows), `damaged` (pictures left out), `ignored` (files
//! passed over), `size` (shorter side in pixels, or `full`).
//!
//! [`crate::Dataset::open`] refuses a cache whose source is still at its path and no longer has
//! that stamp; [`is_current`] tells whether writing one anew would change anything.
//!
//! In Python, row `i` is
//! `pixels[offsets[i]:offsets[i + 1]].reshape(sizes[i][1], sizes[i][0], 3)`.

mod header;
mod reader;
mod writer;

use std::path::Path;

use crate::Dataset;

pub(crate) use reader::Reader;
pub use writer::{Options, Progress, Report, write};

/// The label of rows that have none.
const NO_LABEL: u32 = u32::MAX;

/// Whether a path is named as caches are.
pub(crate) fn has_cache_name(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "safetensors")
}

/// Whether `path` is a whole cache of just this data set, as it is now, and of these options: then
/// [`write()`] would write the same again.
#[must_use]
pub fn is_current(path: &Path, dataset: &Dataset, options: &Options) -> bool {
    Reader::open(path).is_ok_and(|cache| {
        let header = cache.header();
        let complete = !options.strict || header.damaged == 0;
        header.stamp == dataset.stamp() && header.size == options.size && complete
    })
}
