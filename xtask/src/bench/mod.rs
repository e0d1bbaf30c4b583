//! `cargo xtask bench`: how fast we are beside our peers, measured in one run.

mod cores;
mod data;
mod gpu;
mod ours;
mod peer;
mod report;
mod stepper;
mod train;

use anyhow::Result;
use clap::Subcommand;

/// What is measured.
#[derive(Subcommand)]
pub(crate) enum Bench {
    /// Loading and augmentation, from files to normalised tensors
    Data(data::Args),
    /// Kernels, training steps and whole runs on a GPU
    Gpu(gpu::Args),
    /// Training and evaluation steps of whole networks
    Train(train::Args),
}

pub(crate) fn run(bench: &Bench) -> Result<()> {
    match bench {
        Bench::Data(args) => data::run(args),
        Bench::Gpu(args) => gpu::run(args),
        Bench::Train(args) => train::run(args),
    }
}
