//! How the program ends: one line, and a code that says whose fault it was.

use std::io::{self, Write as _};
use std::process::ExitCode;

use pretext_train::Error;

/// Everything worked, or had been done before.
pub(crate) const DONE: ExitCode = ExitCode::SUCCESS;

/// Stopped by a signal: 128 and the number of the keyboard's, as shells have it.
pub(crate) const INTERRUPTED: u8 = 130;

/// Another process works on it: `EX_TEMPFAIL`, try again later.
const BUSY: u8 = 75;

/// Prints an error as one line; 2 for the user's mistakes, 75 for what another process works on, 1 for
/// everything else.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    // A reader that closed the pipe has seen what it wanted.
    if error.chain().any(is_broken_pipe) {
        return DONE;
    }
    // A message of several lines would no longer be one to grep for.
    let line = told(error).lines().map(str::trim).collect::<Vec<_>>().join(" ");
    // A closed standard error is no reason to end with a panic's code.
    let _ = writeln!(io::stderr(), "error: {line}");
    let is_busy = |cause: &Error| matches!(cause, Error::Busy { .. });
    if error.downcast_ref::<Error>().is_some_and(is_busy) {
        return ExitCode::from(BUSY);
    }
    let users = error.chain().any(|cause| {
        cause.is::<Mistake>() || cause.downcast_ref::<Error>().is_some_and(Error::is_users_mistake)
    });
    if users { ExitCode::from(2) } else { ExitCode::FAILURE }
}

/// What an error and its causes say; one of ours says by itself what is below it.
fn told(error: &anyhow::Error) -> String {
    let mut said = Vec::new();
    for cause in error.chain() {
        said.push(cause.to_string());
        if cause.is::<Error>() {
            break;
        }
    }
    said.join(": ")
}

/// Prints a mistake in the flags as one line, where clap would print a paragraph.
#[expect(clippy::print_stderr, reason = "the one place where errors are printed")]
pub(crate) fn usage(error: &clap::Error) -> ExitCode {
    let text = error.to_string();
    let told = text.split("\n\n").take_while(|paragraph| !paragraph.starts_with("Usage:"));
    let told = told.filter(|paragraph| !paragraph.starts_with("For more"));
    let lines = told.flat_map(str::lines).map(str::trim).collect::<Vec<_>>();
    eprintln!("{}; --help lists the flags", lines.join(" "));
    ExitCode::from(2)
}

/// Prints a warning as one line.
#[expect(clippy::print_stderr, reason = "the one place where warnings are printed")]
pub(crate) fn warn(line: &str) {
    eprintln!("warning: {line}");
}

/// Prints what a reader of the log wants to know, as one line.
#[expect(clippy::print_stderr, reason = "beside the results, which are on standard output")]
pub(crate) fn note(line: &str) {
    eprintln!("{line}");
}

fn is_broken_pipe(cause: &(dyn std::error::Error + 'static)) -> bool {
    cause.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
}

/// A mistake of the user's that only the command line can know.
#[derive(Debug)]
pub(crate) struct Mistake(pub(crate) String);

impl std::fmt::Display for Mistake {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Mistake {}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn a_cause_is_said_once() {
        let source = || io::Error::from(io::ErrorKind::NotFound);
        let ours = || Error::Io { path: "a".into(), source: source() };
        assert_eq!(told(&ours().into()), "a: entity not found");
        let outer = Err::<(), _>(ours()).context("no record").unwrap_err();
        assert_eq!(told(&outer), "no record: a: entity not found");
        // Others' errors leave their causes to be asked for.
        let others = Err::<(), _>(source()).context("cannot read b").unwrap_err();
        assert_eq!(told(&others), "cannot read b: entity not found");
    }
}
