//! What was measured, as a section of `docs/benchmarks.md`.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

/// Seconds of each measured step.
pub(super) struct Times {
    pub(super) ours: Vec<f64>,
    pub(super) eager: Option<Vec<f64>>,
    pub(super) compiled: Option<Vec<f64>>,
    /// Ours with one thread.
    pub(super) alone: Option<Vec<f64>>,
}

impl Times {
    /// How many of our steps fit into one of PyTorch's best.
    fn ratio(&self) -> Option<f64> {
        let peers = [&self.eager, &self.compiled].into_iter().flatten();
        let best = peers.map(|seconds| median(seconds)).min_by(f64::total_cmp)?;
        Some(best / median(&self.ours))
    }
}

/// One network in one precision.
pub(super) struct Row {
    pub(super) title: String,
    pub(super) precision: String,
    pub(super) train: Times,
    pub(super) evaluate: Times,
    /// Of a training process, in MiB: ours and PyTorch's.
    pub(super) peaks: (u64, Option<u64>),
}

impl Row {
    /// It in short, while others are still measured.
    pub(super) fn line(&self) -> String {
        let ratio = |times: &Times| times.ratio().map_or(String::new(), |r| format!(" ({r:.2}x)"));
        format!(
            "  training step {:.0} ms{}, evaluation {:.0} ms{}, peak {} MiB",
            median(&self.train.ours) * 1e3,
            ratio(&self.train),
            median(&self.evaluate.ours) * 1e3,
            ratio(&self.evaluate),
            self.peaks.0
        )
    }
}

/// The middle value, or the mean of the two in the middle; NaN of none.
fn median(seconds: &[f64]) -> f64 {
    let mut sorted = seconds.to_vec();
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
    pub(super) fn this(step: &Path, threads: usize, peer: Option<String>) -> Result<Self> {
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
        // The process says it itself, for it is what picked the instructions.
        let isa =
            Command::new(step).arg("instructions").output().context("cannot run the bench")?;
        let isa = String::from_utf8_lossy(&isa.stdout).trim().to_owned();
        let rustc = output("rustc", &["--version"]).unwrap_or_default();
        let commit = output("git", &["rev-parse", "--short=10", "HEAD"]).unwrap_or_default();
        let mut lines = vec![
            format!("Processor: {processor}; {threads} threads; instructions: {isa}."),
            format!("Ours: commit {commit}, {rustc}."),
        ];
        lines.extend(peer.map(|versions| format!("Peer: {versions}.")));
        Ok(Self { lines })
    }
}

/// The section: tables, and below them how they were made.
pub(super) fn section(rows: &[Row], setting: &str, rounds: usize, machine: &Machine) -> String {
    let mut text = format!(
        "## Training and evaluation of whole networks\n\n\
         Milliseconds a step, {setting}: medians of {rounds} steps, all processes taking turns of a \
         few steps (`cargo xtask bench train --against pytorch`). PyTorch is channels-last, with \
         autocast for bf16; the ratio is its better one over ours, so that more than 1 is faster \
         than PyTorch. In brackets: fastest and slowest step.\n\n"
    );
    for (title, times) in [
        ("Training step: forward, backward, AdamW", (|row| &row.train) as fn(&Row) -> &Times),
        ("Evaluation: forward", |row| &row.evaluate),
    ] {
        text += &format!("### {title}\n\n");
        text += "| network | precision | ours | PyTorch | torch.compile | ratio |\n";
        text += "|---|---|---:|---:|---:|---:|\n";
        for row in rows {
            let times = times(row);
            text += &format!(
                "| {} | {} | {} | {} | {} | {} |\n",
                row.title,
                row.precision,
                cell(Some(&times.ours)),
                cell(times.eager.as_ref()),
                cell(times.compiled.as_ref()),
                times.ratio().map_or("–".into(), |ratio| format!("{ratio:.2}")),
            );
        }
        text += "\n";
    }
    text += "### Memory and threads\n\n\
             Peak memory of the training processes, in MiB, and how much faster a training step is \
             with all threads than with one.\n\n\
             | network | precision | ours | PyTorch | ours / PyTorch | threads |\n\
             |---|---|---:|---:|---:|---:|\n";
    for row in rows {
        let (ours, peer) = row.peaks;
        let speedup = row.train.alone.as_ref().map(|alone| median(alone) / median(&row.train.ours));
        text += &format!(
            "| {} | {} | {ours} | {} | {} | {} |\n",
            row.title,
            row.precision,
            peer.map_or("–".into(), |peer| peer.to_string()),
            peer.map_or("–".into(), |peer| format!("{:.2}", ours as f64 / peer as f64)),
            speedup.map_or("–".into(), |speedup| format!("{speedup:.2}x")),
        );
    }
    format!("{text}\n{}\n", machine.lines.join(" "))
}

fn cell(seconds: Option<&Vec<f64>>) -> String {
    seconds.map_or("–".into(), |seconds| {
        let ends = |start, f: fn(f64, f64) -> f64| seconds.iter().copied().fold(start, f) * 1e3;
        let (least, most) = (ends(f64::INFINITY, f64::min), ends(0.0, f64::max));
        format!("{:.0} ({least:.0}–{most:.0})", median(seconds) * 1e3)
    })
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

    fn row() -> Row {
        let times = || Times {
            ours: vec![0.3, 0.1, 0.2],
            eager: Some(vec![0.5, 0.4]),
            compiled: Some(vec![0.4, 0.4, 0.4]),
            alone: Some(vec![0.38]),
        };
        let (title, precision) = ("net".into(), "f32".into());
        Row { title, precision, train: times(), evaluate: times(), peaks: (50, Some(100)) }
    }

    #[test]
    fn medians_and_ratios() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0]), 2.5);
        assert!(median(&[]).is_nan());
        assert_eq!(row().train.ratio(), Some(2.0));
        let machine = Machine { lines: vec!["A machine.".into()] };
        let text = section(&[row()], "here", 3, &machine);
        assert!(
            text.contains("| net | f32 | 200 (100–300) | 450 (400–500) | 400 (400–400) | 2.00 |")
        );
        assert!(text.contains("| net | f32 | 50 | 100 | 0.50 | 1.90x |"), "{text}");
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
