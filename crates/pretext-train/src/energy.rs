//! What the processor takes, where the system tells it: the energy counters of Linux's power
//! capping framework (RAPL, of Intel and AMD), which often only root may read.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

const COUNTERS: &str = "/sys/class/powercap";

/// How often counters are looked at: the smallest ones overflow after 65 kJ, in minutes.
const EVERY: Duration = Duration::from_secs(20);

/// Adds up what all packages of the processor take, whoever makes them work.
pub(crate) struct Meter {
    counters: Arc<Mutex<Vec<Counter>>>,
    watch: Option<JoinHandle<()>>,
}

impl Meter {
    /// `None` where the system tells nothing, or not of all packages.
    pub(crate) fn start() -> Option<Self> {
        Self::of(Path::new(COUNTERS))
    }

    fn of(folder: &Path) -> Option<Self> {
        let entries = fs::read_dir(folder).ok()?.flatten();
        // `intel-rapl:0` is a package, `intel-rapl:0:0` a part of it.
        let packages = entries.filter(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            name.strip_prefix("intel-rapl:").is_some_and(|number| number.parse::<u32>().is_ok())
        });
        let counters =
            packages.map(|entry| Counter::open(&entry.path())).collect::<Option<Vec<_>>>()?;
        if counters.is_empty() {
            return None;
        }
        let counters = Arc::new(Mutex::new(counters));
        let watched = Arc::downgrade(&counters);
        let watch = thread::Builder::new().name("energy".into()).spawn(move || {
            loop {
                thread::park_timeout(EVERY);
                // The meter is gone when it alone could be asked.
                let Some(counters) = watched.upgrade() else { return };
                read(&counters);
            }
        });
        Some(Self { counters, watch: Some(watch.ok()?) })
    }

    /// Joules since the start.
    pub(crate) fn joules(&self) -> f64 {
        read(&self.counters)
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.counters = Arc::default();
        if let Some(watch) = self.watch.take() {
            watch.thread().unpark();
            // It only reads files: there is nothing to hear from it.
            let _ = watch.join();
        }
    }
}

fn read(counters: &Mutex<Vec<Counter>>) -> f64 {
    let mut counters = counters.lock().unwrap_or_else(PoisonError::into_inner);
    counters.iter_mut().map(|counter| counter.read() as f64 * 1e-6).sum()
}

/// One package's counter, in microjoules.
struct Counter {
    file: PathBuf,
    /// It begins at 0 again behind this.
    range: u64,
    last: u64,
    sum: u64,
}

impl Counter {
    fn open(folder: &Path) -> Option<Self> {
        let file = folder.join("energy_uj");
        let range = number(&folder.join("max_energy_range_uj"))?;
        let last = number(&file)?;
        Some(Self { file, range, last, sum: 0 })
    }

    /// Microjoules since it was opened.
    fn read(&mut self) -> u64 {
        if let Some(now) = number(&self.file) {
            let overflow = if now < self.last { self.range } else { 0 };
            self.sum += (now + overflow).saturating_sub(self.last);
            self.last = now;
        }
        self.sum
    }
}

fn number(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(folder: &Path, package: &str, microjoules: u64) {
        let package = folder.join(package);
        fs::create_dir_all(&package).unwrap();
        fs::write(package.join("max_energy_range_uj"), "1000000\n").unwrap();
        fs::write(package.join("energy_uj"), format!("{microjoules}\n")).unwrap();
    }

    #[test]
    fn packages_are_added_up_over_an_overflow() {
        let folder = tempfile::tempdir().unwrap();
        set(folder.path(), "intel-rapl:0", 900_000);
        set(folder.path(), "intel-rapl:1", 0);
        // A part of the first package, which would count twice, and another view of it.
        set(folder.path(), "intel-rapl:0:0", 0);
        set(folder.path(), "intel-rapl-mmio:0", 0);
        let meter = Meter::of(folder.path()).unwrap();
        assert_eq!(meter.joules(), 0.0);
        set(folder.path(), "intel-rapl:0", 100_000);
        set(folder.path(), "intel-rapl:1", 500_000);
        set(folder.path(), "intel-rapl:0:0", 700_000);
        assert!((meter.joules() - 0.7).abs() < 1e-9);
        assert!((meter.joules() - 0.7).abs() < 1e-9, "nothing was taken in between");
    }

    #[test]
    fn a_package_that_tells_nothing_makes_the_whole_unknown() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Meter::of(folder.path()).is_none());
        set(folder.path(), "intel-rapl:0", 5);
        fs::create_dir(folder.path().join("intel-rapl:1")).unwrap();
        assert!(Meter::of(folder.path()).is_none());
        assert!(Meter::of(&folder.path().join("nowhere")).is_none());
    }
}
