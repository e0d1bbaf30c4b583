//! What each command does: call `pretext-train`, say what came out.

mod cache;
mod embed;
mod evaluate;
mod finetune;
mod info;
mod predict;
mod pretrain;
mod show;
mod train;

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Result;

use crate::args::Command;

pub(crate) fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Pretrain(args) => pretrain::run(&args),
        Command::Finetune(args) => finetune::run(&args),
        Command::Evaluate(args) => evaluate::run(&args),
        Command::Predict(args) => predict::run(&args),
        Command::Embed(args) => embed::run(&args),
        Command::Show(args) => show::run(&args),
        Command::Cache(args) => cache::run(&args),
        Command::Info(args) => info::run(&args),
    }
}

/// One line on standard output.
fn say(line: impl std::fmt::Display) -> Result<()> {
    Ok(writeln!(std::io::stdout(), "{line}")?)
}
