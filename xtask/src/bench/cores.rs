//! Processes confined to some of the cores, so that one thread is one thread on both sides, whatever
//! else a library starts behind it.

use std::path::Path;
use std::process::Command;

/// The cores that this process may use; none where processes cannot be confined (it takes Linux and
/// util-linux' `taskset`).
pub(super) struct Cores(Vec<usize>);

impl Cores {
    pub(super) fn of_this_machine() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        let taskset = Command::new("taskset").arg("--version").output();
        match (list, taskset) {
            (Some(list), Ok(_)) => Self(parse(list.trim()).unwrap_or_default()),
            _ => Self(Vec::new()),
        }
    }

    /// Whether processes are confined at all.
    pub(super) fn known(&self) -> bool {
        !self.0.is_empty()
    }

    /// A command on the first `count` cores.
    pub(super) fn command(&self, count: usize, program: &Path) -> Command {
        if !self.known() {
            return Command::new(program);
        }
        let list: Vec<String> = self.0.iter().take(count).map(usize::to_string).collect();
        let mut command = Command::new("taskset");
        command.args(["--cpu-list", &list.join(",")]).arg(program);
        command
    }
}

/// The kernel's notation: `0-3,8`.
fn parse(list: &str) -> Option<Vec<usize>> {
    let mut cores = Vec::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        cores.extend(first.parse::<usize>().ok()?..=last.parse::<usize>().ok()?);
    }
    Some(cores)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_notation() {
        assert_eq!(parse("0-2,8,10-11"), Some(vec![0, 1, 2, 8, 10, 11]));
        assert_eq!(parse("5"), Some(vec![5]));
        assert_eq!(parse("all"), None);
    }

    #[test]
    fn the_first_cores_are_taken() {
        let words = |command: Command| -> Vec<String> {
            let arguments = command.get_args().map(|word| word.display().to_string());
            [command.get_program().display().to_string()].into_iter().chain(arguments).collect()
        };
        let (three, none) = (Cores(vec![4, 6, 7]), Cores(vec![]));
        assert_eq!(
            words(three.command(2, Path::new("python"))),
            ["taskset", "--cpu-list", "4,6", "python"]
        );
        assert_eq!(words(none.command(2, Path::new("python"))), ["python"]);
    }
}
