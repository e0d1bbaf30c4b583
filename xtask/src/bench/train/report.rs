//! What was measured of networks, as a section of `docs/benchmarks.md`.

use super::super::report::{cell, median};

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

/// The tables.
pub(super) fn section(rows: &[Row], setting: &str, rounds: usize) -> String {
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
                milliseconds(Some(&times.ours)),
                milliseconds(times.eager.as_ref()),
                milliseconds(times.compiled.as_ref()),
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
    text + "\n"
}

fn milliseconds(seconds: Option<&Vec<f64>>) -> String {
    seconds.map_or("–".into(), |seconds| cell(seconds, 1e-3, 0))
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
    fn ratios_and_cells() {
        assert_eq!(row().train.ratio(), Some(2.0));
        let text = section(&[row()], "here", 3);
        assert!(
            text.contains("| net | f32 | 200 (100–300) | 450 (400–500) | 400 (400–400) | 2.00 |")
        );
        assert!(text.contains("| net | f32 | 50 | 100 | 0.50 | 1.90x |"), "{text}");
    }
}
