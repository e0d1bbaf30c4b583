//! What the two kinds of training share on the command line: Ctrl-C, events, the closing words.

use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Result;
use pretext_train::control::{Control, Event, Outcome};
use pretext_train::record::Record;

use super::say;
use crate::args::{MachineArgs, RunArgs};
use crate::failure;
use crate::progress::Progress;

/// The longest time between two checkpoints.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(300);

/// Set by Ctrl-C.
static STOP: AtomicBool = AtomicBool::new(false);

/// Runs a training so that Ctrl-C stops it with a checkpoint, and says how it ended.
pub(super) fn run(
    args: &RunArgs,
    strict: bool,
    start: impl FnOnce(&mut Control<'_>) -> pretext_train::Result<Outcome>,
    results: &[&str],
) -> Result<ExitCode> {
    let stop = stop_on_interrupt()?;
    let mut progress = Progress::new();
    let outcome = {
        let mut report = |event: Event<'_>| progress.show(&event);
        let mut control = Control {
            threads: args.machine.threads(),
            strict,
            resume: args.resume,
            stop,
            checkpoint_every: CHECKPOINT_EVERY,
            report: &mut report,
        };
        start(&mut control)
    };
    progress.finish();
    match outcome? {
        Outcome::Finished(record) => closing(&record, &args.out, results),
        Outcome::WasFinished(record) => {
            progress.line("this run was finished before; nothing was done");
            closing(&record, &args.out, results)
        }
        Outcome::Stopped => {
            progress.line(&format!(
                "stopped; a checkpoint is in {}: give the same command with --resume to go on",
                args.out.display()
            ));
            Ok(failure::interrupted())
        }
    }
}

/// A flag that Ctrl-C sets; a second Ctrl-C ends the program at once.
pub(super) fn stop_on_interrupt() -> Result<&'static AtomicBool> {
    ctrlc::set_handler(|| {
        if STOP.swap(true, Ordering::Relaxed) {
            // Asked twice: the last checkpoint will have to do.
            std::process::exit(130);
        }
    })?;
    Ok(&STOP)
}

/// Runs something short, whose only events are damaged pictures.
pub(super) fn quietly<T>(
    machine: &MachineArgs,
    strict: bool,
    start: impl FnOnce(&mut Control<'_>) -> pretext_train::Result<T>,
) -> Result<T> {
    let mut progress = Progress::new();
    let mut report = |event: Event<'_>| progress.show(&event);
    let mut control = Control {
        threads: machine.threads(),
        strict,
        resume: false,
        stop: &AtomicBool::new(false),
        checkpoint_every: CHECKPOINT_EVERY,
        report: &mut report,
    };
    Ok(start(&mut control)?)
}

fn closing(record: &Record, out: &Path, results: &[&str]) -> Result<ExitCode> {
    let result = &record.result;
    match (result.accuracy, result.correct, result.total, result.val_loss) {
        (Some(accuracy), Some(correct), Some(total), _) => {
            say(format_args!("val accuracy {:.2} % ({correct} of {total})", 100.0 * accuracy))?;
        }
        (_, _, _, Some(loss)) => say(format_args!("val loss {loss:.4}"))?,
        _ => {}
    }
    for name in results {
        say(out.join(name).display())?;
    }
    Ok(failure::DONE)
}
