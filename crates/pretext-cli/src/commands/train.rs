//! What the two kinds of training share on the command line: Ctrl-C, events, the closing words.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::Result;
use pretext_train::control::{Control, Event, Outcome};
use pretext_train::device::{Device, DeviceChoice};
use pretext_train::preview::Preview;
use pretext_train::ranks::Ranks;
use pretext_train::record::Record;

use super::say;
use crate::args::{MachineArgs, RunArgs};
use crate::failure;
use crate::progress::Progress;

/// Runs a training so that a signal stops it with a checkpoint, and says how it ended.
pub(super) fn run(
    args: &RunArgs,
    strict: bool,
    start: impl FnOnce(&mut Control<'_>) -> pretext_train::Result<Outcome>,
    results: &[&str],
) -> Result<ExitCode> {
    let device = open(&args.machine)?;
    let stop = stop_on_signals()?;
    let ranks = Ranks::find(&device)?;
    let mut progress = Progress::new();
    let outcome = {
        let mut report = |event: Event<'_>| progress.show(&event);
        let mut control = Control {
            device,
            threads: args.machine.threads(),
            strict,
            resume: args.resume,
            wait: args.wait,
            job: job(),
            stop: &stop,
            checkpoint_every: Duration::from_secs(args.checkpoint_every),
            ranks: &ranks,
            report: &mut report,
        };
        start(&mut control)
    };
    progress.finish();
    let outcome = outcome?;
    let first = ranks.is_first();
    ranks.leave();
    match outcome {
        Outcome::Stopped if !first => Ok(ExitCode::from(failure::INTERRUPTED)),
        // Process 0 says how it ended.
        Outcome::FinishedByFirst | Outcome::WasFinished(_) if !first => Ok(failure::DONE),
        Outcome::FinishedByFirst => Ok(failure::DONE),
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
            Ok(ExitCode::from(failure::INTERRUPTED))
        }
    }
}

/// Prints what a run would be of.
pub(super) fn print_recipe(preview: &Preview) -> Result<ExitCode> {
    say(serde_json::to_string_pretty(preview)?)?;
    Ok(failure::DONE)
}

/// A flag that signals set; a second Ctrl-C ends the program at once: the last checkpoint will have
/// to do.
pub(super) fn stop_on_signals() -> Result<Arc<AtomicBool>> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    use signal_hook::flag::{register, register_conditional_shutdown};

    let (stop, interrupted) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
    // Only Ctrl-C counts towards ending at once: a launcher passes its own signals on besides.
    register_conditional_shutdown(SIGINT, failure::INTERRUPTED.into(), interrupted.clone())?;
    register(SIGINT, interrupted)?;
    register(SIGINT, stop.clone())?;
    register(SIGTERM, stop.clone())?;
    #[cfg(unix)]
    for signal in [signal_hook::consts::SIGHUP, signal_hook::consts::SIGUSR1] {
        register(signal, stop.clone())?;
    }
    Ok(stop)
}

/// The job of a cluster's scheduler that this process belongs to: Slurm's, or the place in a
/// Kubernetes indexed job.
fn job() -> Option<String> {
    let variable = |name: &str| std::env::var(name).ok();
    match (variable("SLURM_ARRAY_JOB_ID"), variable("SLURM_ARRAY_TASK_ID")) {
        (Some(job), Some(task)) => Some(format!("{job}_{task}")),
        _ => variable("SLURM_JOB_ID").or_else(|| variable("JOB_COMPLETION_INDEX")),
    }
}

/// Runs something short, whose only events are damaged pictures.
pub(super) fn quietly<T>(
    machine: &MachineArgs,
    strict: bool,
    start: impl FnOnce(&mut Control<'_>) -> pretext_train::Result<T>,
) -> Result<T> {
    let device = open(machine)?;
    let mut progress = Progress::new();
    let mut report = |event: Event<'_>| progress.show(&event);
    let mut control = Control {
        device,
        threads: machine.threads(),
        strict,
        resume: false,
        wait: false,
        job: None,
        stop: &AtomicBool::new(false),
        checkpoint_every: Duration::MAX,
        ranks: &Ranks::alone(),
        report: &mut report,
    };
    Ok(start(&mut control)?)
}

/// The device that was asked for; with `auto`, a line says which.
fn open(machine: &MachineArgs) -> Result<Device> {
    let device = Device::open(machine.device)?;
    if machine.device == DeviceChoice::Auto {
        failure::note(&match device.instead() {
            Some(why) => format!("computing on the {}: {why}", device.name()),
            None => format!("computing on {}", device.name()),
        });
    }
    Ok(device)
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
