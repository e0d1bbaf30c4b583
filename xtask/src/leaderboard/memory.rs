//! Whether there is memory for one more run beside those that go on.
//!
//! Linux alone tells; elsewhere cores are the only limit.

use std::fs;

/// What a run may take before any has shown it, in bytes.
const LEAST: u64 = 1 << 30;

/// What runs were seen to take.
#[derive(Default)]
pub(super) struct Memory {
    /// The most that any run took, in bytes.
    most: u64,
}

impl Memory {
    /// Whether another run fits beside those of these processes.
    pub(super) fn has_room(&mut self, running: impl Iterator<Item = u32>) -> bool {
        let taken: Vec<u64> = running
            .map(|id| {
                let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
                self.most = self.most.max(bytes(&status, "VmHWM:").unwrap_or(0));
                bytes(&status, "VmRSS:").unwrap_or(0)
            })
            .collect();
        taken.is_empty() || available().is_none_or(|available| fits(available, self.most, &taken))
    }
}

/// Whether one more run fits into what is available, given the most that one took and what each of
/// those takes that go on: they may grow to the same.
fn fits(available: u64, most: u64, taken: &[u64]) -> bool {
    let needed = LEAST.max(most + most / 4);
    let growth: u64 = taken.iter().map(|taken| needed.saturating_sub(*taken)).sum();
    available >= needed + growth
}

/// What the system, and the container that we are in, can still give.
fn available() -> Option<u64> {
    let of_machine = bytes(&fs::read_to_string("/proc/meminfo").ok()?, "MemAvailable:")?;
    Some(of_container().map_or(of_machine, |container| container.min(of_machine)))
}

/// The rest of a limit that a container or a scheduler set (control groups, version 2).
fn of_container() -> Option<u64> {
    let group = fs::read_to_string("/proc/self/cgroup").ok()?;
    let group = group.lines().find_map(|line| line.strip_prefix("0::"))?;
    let folder = std::path::Path::new("/sys/fs/cgroup").join(group.trim_start_matches('/'));
    let number = |name: &str| fs::read_to_string(folder.join(name)).ok()?.trim().parse().ok();
    let (limit, taken): (u64, u64) = (number("memory.max")?, number("memory.current")?);
    Some(limit.saturating_sub(taken))
}

/// A line of kilobytes in a file of the system's, in bytes.
fn bytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kilobytes| kilobytes << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_more_run_fits_if_all_may_grow_to_the_largest() {
        const GIB: u64 = 1 << 30;
        // Nothing is known yet: a gibibyte for it, and what the first has not taken of one.
        assert!(fits(2 * GIB, 0, &[0]));
        assert!(!fits(2 * GIB - 1, 0, &[0]));
        // A run took 4: the next may take 5, and one that goes on grows from 3 to 5.
        assert!(fits(7 * GIB, 4 * GIB, &[3 * GIB]));
        assert!(!fits(7 * GIB - 1, 4 * GIB, &[3 * GIB]));
        assert!(!fits(7 * GIB, 4 * GIB, &[3 * GIB, 4 * GIB]));
    }

    #[test]
    fn the_first_run_always_starts() {
        assert!(Memory { most: u64::MAX / 2 }.has_room(std::iter::empty()));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_system_tells_what_a_process_takes() {
        let mut memory = Memory::default();
        memory.has_room(std::iter::once(std::process::id()));
        assert!(memory.most > 1 << 20, "{} bytes", memory.most);
        assert!(available().is_some_and(|bytes| bytes > 1 << 20));
        memory.most = u64::MAX / 8;
        assert!(!memory.has_room(std::iter::once(std::process::id())));
    }

    #[test]
    fn lines_of_the_system() {
        let text = "VmPeak:\t  99 kB\nVmHWM:\t   12 kB\n";
        assert_eq!(bytes(text, "VmHWM:"), Some(12 << 10));
        assert_eq!(bytes(text, "VmRSS:"), None);
        assert_eq!(bytes("VmHWM: many kB", "VmHWM:"), None);
    }
}
