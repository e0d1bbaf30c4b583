#![doc = include_str!("../README.md")]

mod allocator;
#[cfg(test)]
mod allocator_test;
mod args;
mod commands;
mod failure;
mod progress;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    allocator::keep_memory();
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
