//! The right to write into a run's out folder: one process at a time, on whatever machine.
//!
//! The holder keeps `lease.<n>.json` and renews it every [`BEAT`]; `<n>` counts the sittings of the
//! run, so it is also the number of restarts. The highest `<n>` holds. Whoever takes over creates
//! `lease.<n+1>.json`, which the file system lets only one process do, and the former holder sees
//! it before its next write. Nothing is decided by a clock of another machine: a lease is stale
//! when the *watcher's* clock has seen it unchanged for [`STALE`], or at once when its process ran
//! on this machine and is gone.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::control::{Control, Event};
use crate::error::{AtPath as _, Error, Result};
use crate::files;
use crate::ranks::{Watch, Word};
use crate::status::Status;

/// Time between two heartbeats.
pub const BEAT: Duration = Duration::from_secs(5);

/// How long a lease has to stay as it is to count as left behind.
pub const STALE: Duration = Duration::from_secs(60);

/// How often a watcher looks.
const LOOK: Duration = Duration::from_millis(250);

/// What a lease file says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Holder {
    host: String,
    /// The boot and the process namespace in which `process` is a number, where the system tells.
    system: Option<String>,
    process: u32,
    /// When the process started, in the system's own unit: numbers of processes come again.
    process_started: Option<u64>,
    /// The job of a cluster's scheduler.
    job: Option<String>,
    restarts: u32,
    heartbeats: u64,
    /// UTC, RFC 3339, by the holder's clock: for people.
    heartbeat: String,
    /// Whether the holder let go of it.
    released: bool,
}

impl Holder {
    fn this(job: Option<String>, restarts: u32) -> Self {
        let process = std::process::id();
        Self {
            host: host(),
            system: system(),
            process,
            process_started: process_started(process),
            job,
            restarts,
            heartbeats: 0,
            heartbeat: files::now(),
            released: false,
        }
    }

    /// Whether the process is known to have ended: it ran here, and is no more.
    fn is_gone(&self) -> bool {
        self.is_here()
            && self.process_started.is_some()
            && process_started(self.process) != self.process_started
    }

    /// Whether the process is, or was, one of this machine's.
    fn is_here(&self) -> bool {
        self.system.is_some() && self.system == system() && self.host == host()
    }

    fn describe(&self) -> String {
        let job = self.job.as_ref().map_or(String::new(), |job| format!(", job {job}"));
        format!(
            "process {} on {}{job}, which last gave a sign of life at {}",
            self.process, self.host, self.heartbeat
        )
    }
}

/// Holding it is the right to write into the folder; dropping it lets go.
pub(crate) struct Lease {
    folder: PathBuf,
    restarts: u32,
    status: Arc<Mutex<Status>>,
    lost: Arc<AtomicBool>,
    watch: Watch,
    heart: Option<(mpsc::Sender<()>, JoinHandle<()>)>,
}

/// Takes the lease of a folder that is there.
///
/// Waits for another process only if `control` says so. `None`: stopped while waiting, or the run
/// was finished by the other process.
///
/// # Errors
/// [`Error::Busy`] if another process works there; or if the folder cannot be written to.
pub(crate) fn take(out: &Path, control: &mut Control<'_>) -> Result<Option<Lease>> {
    take_after(STALE, out, control)
}

/// [`take`], where a lease that was silent for `stale` counts as left behind.
fn take_after(stale: Duration, out: &Path, control: &mut Control<'_>) -> Result<Option<Lease>> {
    let mut watched: Option<(u32, Vec<u8>, Instant)> = None;
    let mut told = false;
    loop {
        let latest = latest(out)?;
        let Some((number, bytes)) = latest else {
            if let Some(lease) = create(out, 0, control)? {
                return Ok(Some(lease));
            }
            continue;
        };
        // A damaged lease has no holder to ask: it is watched like one from elsewhere.
        let holder: Option<Holder> = serde_json::from_slice(&bytes).ok();
        let since = match &watched {
            Some((n, before, since)) if *n == number && *before == bytes => *since,
            _ => Instant::now(),
        };
        let beats = watched.as_ref().is_some_and(|(_, before, _)| *before != bytes);
        watched = Some((number, bytes, since));
        let free = holder.as_ref().is_some_and(|holder| holder.released || holder.is_gone());
        if free || since.elapsed() >= stale {
            let Some(next) = number.checked_add(1) else {
                let path = path(out, number);
                let problem = "has the last number that there is; delete it".into();
                return Err(Error::File { path, problem });
            };
            if let Some(lease) = create(out, next, control)? {
                return Ok(Some(lease));
            }
            continue;
        }
        let who = holder.as_ref().map_or("a damaged lease".into(), Holder::describe);
        let lives = beats || holder.as_ref().is_some_and(Holder::is_here);
        if lives && !control.wait {
            return Err(Error::Busy { path: out.to_owned(), who });
        }
        if !told {
            (control.report)(Event::Waiting { path: out, who: &who });
            told = true;
        }
        if control.stopped() || out.join(crate::record::FILE).exists() {
            return Ok(None);
        }
        // The other processes of the run wait as long.
        control.ranks.tell(Word::Busy)?;
        thread::sleep(LOOK);
    }
}

/// Creates the lease of that number, which only one process can, and looks whether it is the
/// highest.
fn create(out: &Path, number: u32, control: &Control<'_>) -> Result<Option<Lease>> {
    let holder = Holder::this(control.job.clone(), number);
    let path = path(out, number);
    if !files::create_json(&path, &holder)? {
        return Ok(None);
    }
    let numbers = numbers(out)?;
    if numbers.iter().any(|&other| other > number) {
        // Someone who was slow: the lease went on without it.
        let _ = fs::remove_file(&path);
        return Ok(None);
    }
    for old in numbers.into_iter().filter(|&other| other < number) {
        let _ = fs::remove_file(self::path(out, old));
    }
    Ok(Some(Lease::start(out, holder, control.ranks.watch())))
}

impl Lease {
    fn start(out: &Path, holder: Holder, watch: Watch) -> Self {
        let (status, lost) = (Arc::<Mutex<Status>>::default(), Arc::<AtomicBool>::default());
        let (stop, stopped) = mpsc::channel();
        let restarts = holder.restarts;
        let heart = {
            let (folder, status, lost) = (out.to_owned(), status.clone(), lost.clone());
            thread::spawn(move || beat(&folder, holder, &status, &lost, &stopped))
        };
        Self { folder: out.to_owned(), restarts, status, lost, watch, heart: Some((stop, heart)) }
    }

    /// The folder, for reading and writing.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Asks before a write whether the folder is still this process's.
    ///
    /// # Errors
    /// [`Error::Busy`] if another process took over, because this one gave no sign of life;
    /// [`Error::Peer`] if one that shares the run is gone, without which nothing is worth keeping.
    pub(crate) fn check(&self) -> Result<()> {
        self.watch.check()?;
        let lost = self.lost.load(Ordering::Relaxed) || is_lost(&self.folder, self.restarts);
        if !lost {
            return Ok(());
        }
        let holder =
            latest(&self.folder)?.and_then(|(_, bytes)| serde_json::from_slice(&bytes).ok());
        let who = holder.as_ref().map_or("another process".into(), Holder::describe);
        Err(Error::Busy { path: self.folder.clone(), who })
    }

    /// Hears of everything that happens, for the folder's `progress.json`.
    pub(crate) fn note(&self, event: &Event<'_>) {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).note(event);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some((stop, heart)) = self.heart.take() {
            drop(stop);
            let _ = heart.join();
        }
    }
}

/// Renews the lease and writes the progress until told to stop; then lets go of the lease.
fn beat(
    folder: &Path,
    mut holder: Holder,
    status: &Mutex<Status>,
    lost: &AtomicBool,
    stopped: &mpsc::Receiver<()>,
) {
    loop {
        let stop = !matches!(stopped.recv_timeout(BEAT), Err(RecvTimeoutError::Timeout));
        if is_lost(folder, holder.restarts) {
            lost.store(true, Ordering::Relaxed);
            return;
        }
        holder.heartbeats += 1;
        holder.heartbeat = files::now();
        holder.released = stop;
        // What cannot be written now, on a full disk for one, is written at the next beat.
        let status = status.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let _ = status.write(folder);
        let _ = files::replace_json(&path(folder, holder.restarts), &holder);
        if stop {
            return;
        }
    }
}

fn is_lost(folder: &Path, number: u32) -> bool {
    numbers(folder).is_ok_and(|numbers| numbers.iter().any(|&other| other > number))
}

fn path(out: &Path, number: u32) -> PathBuf {
    out.join(format!("lease.{number}.json"))
}

/// The numbers of the leases that are there.
fn numbers(out: &Path) -> Result<Vec<u32>> {
    let names = fs::read_dir(out).at(out)?.flatten().map(|entry| entry.file_name());
    let number = |name: std::ffi::OsString| {
        name.to_str()?.strip_prefix("lease.")?.strip_suffix(".json")?.parse().ok()
    };
    Ok(names.filter_map(number).collect())
}

/// The highest lease and its bytes.
fn latest(out: &Path) -> Result<Option<(u32, Vec<u8>)>> {
    let Some(number) = numbers(out)?.into_iter().max() else { return Ok(None) };
    let path = path(out, number);
    match fs::read(&path) {
        Ok(bytes) => Ok(Some((number, bytes))),
        // Its successor deleted it between the two looks; the next look finds that one.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Ok(Some((number, Vec::new())))
        }
        Err(error) => Err(error).at(&path),
    }
}

fn host() -> String {
    let told = fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let told = told.or_else(|| std::env::var("HOSTNAME").ok());
    told.map_or("unknown".into(), |name| name.trim().to_owned())
}

fn system() -> Option<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let namespace = fs::read_link("/proc/self/ns/pid").ok()?;
    Some(format!("{} {}", boot.trim(), namespace.display()))
}

/// Clock ticks from boot to the process's start; `None` if there is no such process, or it is dead
/// and only waits for its parent to notice.
fn process_started(process: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name in brackets may hold anything; what follows it is state, then numbers (proc(5)).
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") { None } else { fields.nth(18)?.parse().ok() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ranks::Ranks;

    fn control<'a>(
        stop: &'a AtomicBool,
        ranks: &'a Ranks,
        report: &'a mut (dyn FnMut(Event<'_>) + Send),
    ) -> Control<'a> {
        Control {
            threads: 1,
            strict: false,
            resume: true,
            wait: false,
            job: Some("7_3".into()),
            stop,
            checkpoint_every: Duration::from_secs(120),
            ranks,
            device: crate::device::Device::cpu(),
            report,
        }
    }

    fn taken(out: &Path) -> Result<Option<Lease>> {
        take(out, &mut control(&AtomicBool::new(false), &Ranks::alone(), &mut |_| {}))
    }

    fn write(out: &Path, number: u32, change: impl Fn(&mut Holder)) {
        let mut holder = Holder::this(None, number);
        change(&mut holder);
        files::replace_json(&path(out, number), &holder).unwrap();
    }

    #[test]
    fn one_holder_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let lease = taken(folder.path()).unwrap().unwrap();
        let refused = taken(folder.path()).err().unwrap().to_string();
        assert!(refused.contains(&host()) && refused.contains("job 7_3"), "{refused}");
        assert!(refused.contains("--wait"), "{refused}");
        lease.check().unwrap();
        drop(lease);
        let next = taken(folder.path()).unwrap().unwrap();
        assert_eq!((next.restarts, numbers(folder.path()).unwrap()), (1, vec![1]));
    }

    #[test]
    fn a_process_that_is_gone_holds_nothing() {
        let folder = tempfile::tempdir().unwrap();
        // The number of this process, but of one that started at another time.
        write(folder.path(), 4, |holder| holder.process_started = Some(1));
        assert_eq!(taken(folder.path()).unwrap().unwrap().restarts, 5);
    }

    #[test]
    fn only_one_of_many_takes_over() {
        for _ in 0..20 {
            let folder = tempfile::tempdir().unwrap();
            write(folder.path(), 0, |holder| holder.process_started = Some(1));
            let (begin, end) = (std::sync::Barrier::new(8), std::sync::Barrier::new(8));
            let won: usize = thread::scope(|scope| {
                let contend = || {
                    begin.wait();
                    let lease = taken(folder.path());
                    end.wait();
                    usize::from(lease.is_ok())
                };
                let threads: Vec<_> = (0..8).map(|_| scope.spawn(contend)).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).sum()
            });
            assert_eq!(won, 1);
        }
    }

    #[test]
    fn whoever_was_taken_over_must_not_write() {
        let folder = tempfile::tempdir().unwrap();
        let lease = taken(folder.path()).unwrap().unwrap();
        write(folder.path(), 1, |holder| holder.host = "elsewhere".into());
        let refused = lease.check().unwrap_err().to_string();
        assert!(refused.contains("elsewhere"), "{refused}");
    }

    #[test]
    fn a_lease_from_elsewhere_or_damaged_is_waited_for() {
        for damaged in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            write(folder.path(), 2, |holder| holder.host = "elsewhere".into());
            if damaged {
                fs::write(path(folder.path(), 2), "{").unwrap();
            }
            // Its silence is watched; then a heartbeat shows that it lives.
            let refused = thread::scope(|scope| {
                let taking = scope.spawn(|| taken(folder.path()).err().unwrap().to_string());
                thread::sleep(4 * LOOK);
                write(folder.path(), 2, |holder| {
                    (holder.host, holder.heartbeats) = ("elsewhere".into(), 1);
                });
                taking.join().unwrap()
            });
            assert!(refused.contains("elsewhere"), "{refused}");
            // One that says nothing is let go of with the stop flag, not taken.
            let mut waiting = String::new();
            let mut report = |event: Event<'_>| waiting = format!("{event:?}");
            let stop = AtomicBool::new(true);
            let ranks = Ranks::alone();
            let mut control = Control { wait: true, ..control(&stop, &ranks, &mut report) };
            assert!(take(folder.path(), &mut control).unwrap().is_none());
            assert!(waiting.contains("elsewhere"), "{waiting}");
        }
    }

    #[test]
    fn silence_from_elsewhere_is_a_lease_left_behind_and_nothing_sooner_is() {
        const STALE: Duration = Duration::from_millis(1500);
        let folder = tempfile::tempdir().unwrap();
        let beat = |heartbeats| {
            write(folder.path(), 2, |holder| {
                (holder.host, holder.heartbeats) = ("elsewhere".into(), heartbeats);
                // Its clock is wrong, which is nothing to us.
                holder.heartbeat = "1999-12-31T23:59:59Z".into();
            });
        };
        beat(0);
        let (last, taken, lease) = thread::scope(|scope| {
            let taking = scope.spawn(|| {
                let (stop, ranks) = (AtomicBool::new(false), Ranks::alone());
                let mut report = |_: Event<'_>| {};
                let mut control = Control { wait: true, ..control(&stop, &ranks, &mut report) };
                let lease = take_after(STALE, folder.path(), &mut control).unwrap().unwrap();
                (Instant::now(), lease)
            });
            // Twice as long as a silence may be, with a sign of life now and then.
            for heartbeats in 1..=6 {
                thread::sleep(STALE / 3);
                beat(heartbeats);
            }
            let last = Instant::now();
            assert!(!taking.is_finished(), "it was taken from somebody who lives");
            let (taken, lease) = taking.join().unwrap();
            (last, taken, lease)
        });
        let silent = taken - last;
        assert!(silent >= STALE - LOOK && silent < STALE + 8 * LOOK, "{silent:?}");
        assert_eq!((lease.restarts, numbers(folder.path()).unwrap()), (3, vec![3]));
    }

    #[test]
    fn no_number_is_beyond_the_last() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), u32::MAX, |holder| holder.released = true);
        fs::write(folder.path().join("lease.99999999999.json"), "").unwrap();
        assert!(taken(folder.path()).err().unwrap().to_string().contains("delete it"));
    }
}
