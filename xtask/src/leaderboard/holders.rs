//! Who works on a run, as its leases tell, and whether they still live.
//!
//! The rule is that of `pretext-train/src/lease.rs`: a lease is left behind when this process has
//! seen it unchanged for [`STALE`], or at once when its process ran on this machine and is gone.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long a lease has to stay as it is to count as left behind.
const STALE: Duration = Duration::from_secs(60);

/// Who works on a run.
#[derive(Debug, PartialEq)]
pub(super) enum Holder {
    /// A process on this host.
    Lives(String),
    /// A process on this host, of which the last sign of life was at this time, by its own clock.
    Silent(String, String),
    /// Nobody: the lease was let go of.
    Nobody,
}

/// The leases, and when each was last seen to change.
#[derive(Default)]
pub(super) struct Leases {
    seen: HashMap<PathBuf, (Vec<u8>, Instant)>,
}

impl Leases {
    /// The holder of the highest lease in a run's directory.
    pub(super) fn holder(&mut self, folder: &Path, now: Instant) -> Holder {
        let bytes = latest(folder).and_then(|path| fs::read(path).ok()).unwrap_or_default();
        let lease: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let text = |key: &str, unknown: &str| lease[key].as_str().unwrap_or(unknown).to_owned();
        let host = text("host", "an unknown host");
        if lease["released"] == true {
            return Holder::Nobody;
        }
        if is_gone(&lease) || self.is_stale(folder, bytes, now) {
            return Holder::Silent(host, text("heartbeat", "an unknown time"));
        }
        Holder::Lives(host)
    }

    fn is_stale(&mut self, folder: &Path, bytes: Vec<u8>, now: Instant) -> bool {
        match self.seen.get(folder) {
            Some((before, since)) if *before == bytes => now.duration_since(*since) >= STALE,
            _ => {
                self.seen.insert(folder.to_owned(), (bytes, now));
                false
            }
        }
    }
}

fn latest(folder: &Path) -> Option<PathBuf> {
    let names = fs::read_dir(folder).ok()?.flatten().map(|entry| entry.file_name());
    let number = |name: std::ffi::OsString| -> Option<u32> {
        name.to_str()?.strip_prefix("lease.")?.strip_suffix(".json")?.parse().ok()
    };
    let number = names.filter_map(number).max()?;
    Some(folder.join(format!("lease.{number}.json")))
}

/// Whether the process is known to have ended: it ran in this boot and process namespace.
fn is_gone(lease: &Value) -> bool {
    let here = lease["system"].as_str().is_some_and(|theirs| system().as_deref() == Some(theirs));
    let (Some(process), Some(started)) =
        (lease["process"].as_u64(), lease["process_started"].as_u64())
    else {
        return false;
    };
    here && process_started(process) != Some(started)
}

fn system() -> Option<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let namespace = fs::read_link("/proc/self/ns/pid").ok()?;
    Some(format!("{} {}", boot.trim(), namespace.display()))
}

/// Clock ticks from boot to the process's start; `None` if there is no such process, or it is dead.
fn process_started(process: u64) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name in brackets may hold anything; what follows it is state, then numbers (proc(5)).
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") { None } else { fields.nth(18)?.parse().ok() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn write(folder: &Path, number: u32, lease: &Value) {
        fs::write(folder.join(format!("lease.{number}.json")), lease.to_string()).unwrap();
    }

    #[test]
    fn silence_is_told_from_life() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let (mut leases, start) = (Leases::default(), Instant::now());
        let mut holder = |seconds| leases.holder(folder, start + Duration::from_secs(seconds));
        let lease = |beats: u32| {
            json!({"host": "node7", "system": "another", "process": 1, "process_started": 1,
                   "heartbeats": beats, "heartbeat": "2026-01-01T00:00:00Z", "released": false})
        };
        let lives = Holder::Lives("node7".into());
        write(folder, 0, &lease(0));
        assert_eq!((holder(0), holder(59)), (lives, Holder::Lives("node7".into())));
        let silent = Holder::Silent("node7".into(), "2026-01-01T00:00:00Z".into());
        assert_eq!(holder(60), silent);
        // A heartbeat, and a minute from there.
        write(folder, 0, &lease(1));
        assert_eq!(holder(61), Holder::Lives("node7".into()));
        assert_eq!(holder(120), Holder::Lives("node7".into()));
        assert_eq!(holder(121), silent);
        let mut released = lease(2);
        released["released"] = true.into();
        write(folder, 1, &released);
        assert_eq!(holder(122), Holder::Nobody);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_process_of_this_machine_that_is_gone_is_seen_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let process = std::process::id();
        let mut lease = json!({"host": "here", "system": system(), "process": process,
            "process_started": process_started(process.into()), "heartbeat": "12:00"});
        write(folder.path(), 0, &lease);
        let mut leases = Leases::default();
        let holder = leases.holder(folder.path(), Instant::now());
        assert_eq!(holder, Holder::Lives("here".into()));
        // The same number, of a process that started at another time.
        lease["process_started"] = 1.into();
        write(folder.path(), 0, &lease);
        let holder = leases.holder(folder.path(), Instant::now());
        assert_eq!(holder, Holder::Silent("here".into(), "12:00".into()));
    }
}
