//! `pretext cache`.

use std::io::IsTerminal as _;
use std::ops::ControlFlow;
use std::process::ExitCode;
use std::sync::atomic::Ordering;

use anyhow::{Result, bail};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use pretext_train::Error;
use pretext_train::data::{Dataset, cache};
use pretext_train::device::DeviceChoice;

use super::{say, train};
use crate::args::CacheArgs;
use crate::failure;

pub(super) fn run(args: &CacheArgs) -> Result<ExitCode> {
    if let DeviceChoice::Gpu(_) | DeviceChoice::OwnGpu = args.machine.device {
        let device = args.machine.device;
        bail!(failure::Mistake(format!("--device {device}: pictures are decoded on the CPU")));
    }
    let data = Dataset::open(&args.data.path).map_err(Error::from)?;
    let options = cache::Options {
        size: args.size,
        threads: args.machine.threads(),
        strict: args.data.strict,
    };
    if cache::is_current(&args.out, &data, &options) {
        say(format_args!("{}: is up to date; nothing was done", args.out.display()))?;
        return Ok(failure::DONE);
    }
    let bar = bar();
    let stop = train::stop_on_signals()?;
    let written = cache::write(&data, &args.out, &options, |progress| {
        bar.set_length(progress.total as u64);
        bar.set_position(progress.done as u64);
        if stop.load(Ordering::Relaxed) {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    bar.finish_and_clear();
    if stop.load(Ordering::Relaxed) && written.is_err() {
        return Ok(ExitCode::from(failure::INTERRUPTED));
    }
    let report = written.map_err(Error::from)?;
    for damaged in &report.damaged {
        failure::warn(&format!("{}: left out ({})", damaged.name, damaged.reason));
    }
    let megabytes = report.bytes as f64 / 1e6;
    say(format_args!("{} pictures, {megabytes:.1} MB", report.pictures))?;
    say(args.out.display())?;
    Ok(failure::DONE)
}

fn bar() -> ProgressBar {
    let target = if std::io::stderr().is_terminal() {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let style = ProgressStyle::with_template("{wide_bar:.cyan} {pos}/{len} pictures  ETA {eta}");
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("━╸─");
    ProgressBar::with_draw_target(Some(0), target).with_style(style)
}
