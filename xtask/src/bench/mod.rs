//! `cargo xtask bench`: how fast we are beside our peers, measured in one run.

mod peer;
mod report;
mod stepper;
mod train;

use anyhow::Result;
use clap::Subcommand;

/// What is measured.
#[derive(Subcommand)]
pub(crate) enum Bench {
    /// Training and evaluation steps of whole networks
    Train(train::Args),
}

pub(crate) fn run(bench: &Bench) -> Result<()> {
    match bench {
        Bench::Train(args) => train::run(args),
    }
}
