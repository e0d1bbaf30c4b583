//! The photographs that the benchmarks read.

use std::{env, path::PathBuf};

/// The folder in PRETEXT_BENCH_FOLDER, or the sample of this repository.
pub(crate) fn folder() -> PathBuf {
    let sample = || [env!("CARGO_MANIFEST_DIR"), "../../data/sample"].iter().collect();
    env::var_os("PRETEXT_BENCH_FOLDER").map_or_else(sample, PathBuf::from)
}
