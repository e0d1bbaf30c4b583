//! The watch over NCCL's sums: one that fails or does not come is a process that is gone, and then
//! nothing waits for it any more.

#![allow(unsafe_code)]

use std::ffi::c_int;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use super::comm::Comm;
use crate::error::{Error, Result};
use crate::ranks::meeting::Meeting;

/// The time between two looks.
const LOOK: Duration = Duration::from_millis(100);

/// How long a process may take to hear that another is gone. What waits in a driver is let go of, as far
/// as drivers and NCCL keep their word.
const GRACE: Duration = Duration::from_secs(10);

/// Starts it; it ends with the communicator.
pub(super) fn start(comm: &Arc<Comm>, meeting: &Arc<Meeting>, patience: Duration) -> Result<()> {
    let (weak, met) = (Arc::downgrade(comm), Arc::downgrade(meeting));
    let (alarmed, lost) = (weak.clone(), met.clone());
    meeting.on_loss(move || {
        let lost = lost.clone();
        thread::spawn(move || end_at_last(&lost));
        if let Some(comm) = alarmed.upgrade() {
            comm.end();
        }
    });
    let watch = thread::Builder::new().name("nccl".into());
    let watch = watch.spawn(move || look(&weak, &met, patience));
    watch.map(drop).map_err(|error| Error::Processes {
        problem: format!("the system gives no thread to watch NCCL ({error})"),
    })
}

fn look(comm: &Weak<Comm>, meeting: &Weak<Meeting>, patience: Duration) {
    let mut last = Instant::now();
    loop {
        thread::sleep(LOOK);
        let (Some(comm), Some(meeting)) = (comm.upgrade(), meeting.upgrade()) else { return };
        if meeting.loss().0 {
            return;
        }
        if let Some(trouble) = comm.trouble() {
            return meeting.lose(format!("NCCL, in process {}: {trouble}", meeting.rank()));
        }
        let Some((begun, moved)) = comm.oldest() else { continue };
        // A GPU may have much to do before its next sum, but not for ever.
        last = if moved { Instant::now() } else { last.max(begun) };
        if last.elapsed() > patience {
            return meeting.lose(format!(
                "a sum over the processes' GPUs did not come for {} s (set {} to more seconds)",
                patience.as_secs_f64(),
                crate::ranks::PATIENCE
            ));
        }
    }
}

/// Ends the process if it does not even come to hear that another is gone.
#[expect(clippy::print_stderr, reason = "nobody else is left to say it")]
fn end_at_last(meeting: &Weak<Meeting>) {
    unsafe extern "C" {
        fn _exit(code: c_int) -> !;
    }
    thread::sleep(GRACE);
    if meeting.upgrade().is_some_and(|meeting| meeting.loss() == (true, false)) {
        eprintln!("error: another process of this run is gone, and the GPU's driver hangs");
        // SAFETY: it ends the process without more ado, from any thread.
        unsafe { _exit(1) }
    }
}
