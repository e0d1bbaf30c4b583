#![doc = include_str!("../README.md")]

mod args;
mod commands;
mod failure;
mod progress;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let args = args::Args::parse();
    match commands::run(args.command) {
        Ok(code) => code,
        Err(error) => failure::report(&error),
    }
}
