//! What every report has: medians, the machine, and a section of `docs/benchmarks.md`.

use std::process::Command;

/// The middle value, or the mean of the two in the middle; NaN of none.
pub(super) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match (sorted.get(middle.wrapping_sub(1)), sorted.get(middle)) {
        (Some(a), Some(b)) if sorted.len().is_multiple_of(2) => (a + b) / 2.0,
        (_, Some(b)) => *b,
        _ => f64::NAN,
    }
}

/// Where it was measured.
pub(super) struct Machine {
    lines: Vec<String>,
}

impl Machine {
    /// `instructions` are those of our side, if it picks them by itself; `peer` has versions.
    pub(super) fn this(threads: usize, instructions: Option<String>, peer: Option<String>) -> Self {
        let output = |program: &str, arguments: &[&str]| {
            let output = Command::new(program).current_dir(crate::root()).args(arguments).output();
            let text = output.ok().filter(|output| output.status.success())?.stdout;
            Some(String::from_utf8_lossy(&text).trim().to_owned())
        };
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let field = |name: &str| {
            let line =
                cpuinfo.lines().find(|line| line.split(':').next().map(str::trim) == Some(name));
            Some(line?.split_once(':')?.1.trim().to_owned())
        };
        let processor = match (field("model name"), field("cpu family"), field("model")) {
            (Some(name), Some(family), Some(model)) => {
                format!("{name} (family {family}, model {model})")
            }
            _ => output("sysctl", &["-n", "machdep.cpu.brand_string"])
                .unwrap_or_else(|| std::env::consts::ARCH.into()),
        };
        let rustc = output("rustc", &["--version"]).unwrap_or_default();
        let commit = output("git", &["rev-parse", "--short=10", "HEAD"]).unwrap_or_default();
        let instructions =
            instructions.map_or(String::new(), |isa| format!("; instructions: {isa}"));
        let mut lines = vec![
            format!("Processor: {processor}; {threads} threads{instructions}."),
            format!("Ours: commit {commit}, {rustc}."),
        ];
        lines.extend(peer.map(|versions| format!("Peer: {versions}.")));
        Self { lines }
    }

    #[cfg(test)]
    pub(super) fn named(name: &str) -> Self {
        Self { lines: vec![name.into()] }
    }
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.lines.join(" "))
    }
}

/// Median, least and most, in multiples of `unit`.
pub(super) fn cell(values: &[f64], unit: f64, decimals: usize) -> String {
    let end = |start, f: fn(f64, f64) -> f64| values.iter().copied().fold(start, f) / unit;
    let (least, most) = (end(f64::INFINITY, f64::min), end(0.0, f64::max));
    let middle = median(values) / unit;
    format!("{middle:.decimals$} ({least:.decimals$}–{most:.decimals$})")
}

/// The file with one section put in, in the place of its predecessor if there is one.
pub(super) fn replaced(file: &str, name: &str, section: &str) -> String {
    let (begin, end) =
        (format!("<!-- bench {name}: begin -->"), format!("<!-- bench {name}: end -->"));
    let new = format!("{begin}\n{section}{end}");
    if let Some((before, rest)) = file.split_once(&begin)
        && let Some((_, after)) = rest.split_once(&end)
    {
        return format!("{before}{new}{after}");
    }
    let before = if file.is_empty() {
        "# Benchmarks\n\nEach section is written by the command that it names; ratios count, for \
         they were measured side by side.\n"
    } else {
        file
    };
    format!("{}\n\n{new}\n", before.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_their_range() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0]), 2.5);
        assert!(median(&[]).is_nan());
        assert_eq!(cell(&[3000.0, 1000.0, 2500.0], 1e3, 1), "2.5 (1.0–3.0)");
    }

    #[test]
    fn a_section_takes_its_predecessors_place() {
        let first = replaced("", "train", "old\n");
        assert!(
            first.starts_with("# Benchmarks\n") && first.contains("old\n<!-- bench train: end")
        );
        let both = replaced(&first, "data", "other\n");
        let again = replaced(&both, "train", "new\n");
        assert!(!again.contains("old") && again.contains("new") && again.contains("other"));
        assert_eq!(replaced(&again, "train", "new\n"), again);
    }
}
