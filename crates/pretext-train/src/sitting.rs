//! A sitting of a run: who may write into its folder, and where it begins.

use std::path::Path;

use crate::checkpoint::{self, Before};
use crate::control::{Control, Event, Outcome};
use crate::error::{AtPath as _, Error, Result};
use crate::lease::{self, Lease};
use crate::ranks::Word;
use crate::record::Record;

/// Runs `work` as the only run that works on `out`, unless it is finished. Of the processes that
/// share a run only the first has a lease: the others write nothing.
///
/// # Errors
/// If another run or process is there, the folder cannot be written to, or `work` fails.
pub(crate) fn hold(
    out: &Path,
    control: &mut Control<'_>,
    work: impl FnOnce(Option<&Lease>, Before, &mut Control<'_>) -> Result<Outcome>,
) -> Result<Outcome> {
    let ranks = control.ranks;
    if !ranks.is_first() {
        return follow(out, control, work);
    }
    let begun = begin(out, control);
    ranks.tell(match &begun {
        Ok(Begun::Now(_, Before::Checkpoint(_))) => Word::Checkpoint,
        Ok(Begun::Now(..)) => Word::Fresh,
        Ok(Begun::Over(_)) => Word::Done,
        Err(_) => Word::Failed,
    })?;
    let (lease, before) = match begun? {
        Begun::Now(lease, before) => (lease, before),
        Begun::Over(outcome) => return Ok(outcome),
    };
    let hear = |event: Event<'_>, report: &mut dyn FnMut(Event<'_>)| {
        lease.note(&event);
        report(event);
    };
    control.heard(hear, |control| work(Some(&lease), before, control))
}

/// How a sitting begins.
enum Begun {
    Now(Lease, Before),
    /// There is nothing to do.
    Over(Outcome),
}

fn begin(out: &Path, control: &mut Control<'_>) -> Result<Begun> {
    std::fs::create_dir_all(out).at(out)?;
    let Some(lease) = lease::take(out, control)? else {
        return Ok(Begun::Over(match Record::read(out)? {
            Some(record) => Outcome::WasFinished(Box::new(record)),
            None => Outcome::Stopped,
        }));
    };
    // Until now another process may have worked here.
    Ok(match checkpoint::look(out, control.resume)? {
        Before::Finished(record) => Begun::Over(Outcome::WasFinished(record)),
        before => Begun::Now(lease, before),
    })
}

/// [`hold`] in another process than the first.
fn follow(
    out: &Path,
    control: &mut Control<'_>,
    work: impl FnOnce(Option<&Lease>, Before, &mut Control<'_>) -> Result<Outcome>,
) -> Result<Outcome> {
    let before = loop {
        match control.ranks.tell(Word::Busy)? {
            // It waits for another run's lease.
            Word::Busy => {}
            Word::Fresh => break Before::Fresh,
            Word::Checkpoint => break Before::Checkpoint(out.join(checkpoint::FILE)),
            Word::Done => return Ok(Outcome::FinishedByFirst),
            Word::Failed => {
                let problem = "process 0 could not begin; it says why".into();
                return Err(Error::Peer { problem });
            }
        }
    };
    let hear = |event: Event<'_>, report: &mut dyn FnMut(Event<'_>)| {
        if let Event::Damaged { .. } = event {
            report(event);
        }
    };
    control.heard(hear, |control| work(None, before, control))
}

/// Writes the record, which makes the run finished, and drops the checkpoint.
pub(crate) fn finish(lease: &Lease, record: Record) -> Result<Outcome> {
    lease.check()?;
    record.write(lease.folder())?;
    // A checkpoint that cannot be deleted does no harm: the record comes first.
    let _ = std::fs::remove_file(lease.folder().join(checkpoint::FILE));
    Ok(Outcome::Finished(Box::new(record)))
}
