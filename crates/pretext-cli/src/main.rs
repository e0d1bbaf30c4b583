#![doc = include_str!("../README.md")]

mod args;
mod commands;
mod failure;
mod progress;

use std::process::ExitCode;

use clap::Parser as _;

/// Large tensors come and go with each step: this allocator keeps their memory where the system's
/// would give it back and pay for each page anew.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let args = match args::Args::try_parse() {
        Ok(args) => args,
        Err(error) if error.use_stderr() => return failure::usage(&error),
        Err(help) => help.exit(),
    };
    match commands::run(args.command) {
        Ok(code) => code,
        Err(error) => failure::report(&error),
    }
}
