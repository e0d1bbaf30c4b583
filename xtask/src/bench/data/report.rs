//! What was measured of loading and augmentation, as a section of `docs/benchmarks.md`.

use super::super::report::{Machine, cell, median};

/// Pictures a second in each measured pass, and the threads that it took.
pub(super) struct Speeds {
    pub(super) all: Vec<f64>,
    pub(super) threads: usize,
}

impl Speeds {
    fn per_thread(&self) -> Vec<f64> {
        self.all.iter().map(|speed| speed / self.threads as f64).collect()
    }
}

/// One kind of work.
pub(super) struct Row {
    pub(super) title: &'static str,
    /// Ours with one thread, and with all of them where they share the work.
    pub(super) ours: Speeds,
    pub(super) shared: Option<Speeds>,
    /// Ours in another build, with one thread.
    pub(super) featured: Option<(String, Speeds)>,
    pub(super) peers: Vec<(String, Speeds)>,
}

impl Row {
    fn speedup(&self) -> Option<f64> {
        Some(median(&self.shared.as_ref()?.all) / median(&self.ours.all))
    }

    /// It in short, while others are still measured.
    pub(super) fn line(&self) -> String {
        let mut line = format!("  {:.0} pictures a second", median(&self.ours.all));
        for (title, peer) in &self.peers {
            line += &format!("; {title}: {:.2}x", ratio(&self.ours, peer));
        }
        if let Some((title, ours)) = &self.featured {
            line += &format!("; {title}: {:.0} pictures a second", median(&ours.all));
        }
        if let (Some(speedup), Some(shared)) = (self.speedup(), &self.shared) {
            line += &format!("; {} threads: {speedup:.2}x", shared.threads);
        }
        line
    }
}

/// The section: tables, and below them how they were made.
pub(super) fn section(rows: &[Row], setting: &str, passes: usize, machine: &Machine) -> String {
    let featured = rows.iter().find_map(|row| row.featured.as_ref());
    let features =
        featured.map_or(String::new(), |(title, _)| format!(" {}", title.trim_matches('`')));
    let mut text = format!(
        "## Loading and augmentation\n\n\
         Thousands of pictures a second and thread, {setting}: medians of {passes} passes, all \
         processes taking turns of a few passes (`cargo xtask bench data --against python{features}`). The \
         ratio is ours over the peer's, so that more than 1 is faster than the peer. In brackets: \
         slowest and fastest pass.\n\n\
         | work | ours | peer | peer's | ratio |\n\
         |---|---:|---|---:|---:|\n"
    );
    for row in rows {
        let mut builds = vec![(row.title.to_owned(), &row.ours)];
        let featured = row.featured.as_ref();
        builds.extend(featured.map(|(title, ours)| (format!("The same with {title}"), ours)));
        for (title, ours) in builds {
            let mut cells = format!("| {title} | {}", thousands(&ours.per_thread()));
            if row.peers.is_empty() {
                text += &format!("{cells} | – | – | – |\n");
            }
            for (title, peer) in &row.peers {
                let (theirs, ratio) = (thousands(&peer.per_thread()), ratio(ours, peer));
                text += &format!("{cells} | {title} | {theirs} | {ratio:.2} |\n");
                cells = "| |".into();
            }
        }
    }
    text += "\nEverything comes out as 128 x 128 px; crops are torchvision's (8 to 100% of the area), \
             flips happen to every second picture, SimCLR's jitter is 0.8 x (0.8, 0.8, 0.8, 0.2) \
             with p = 0.8, grey p = 0.2, the blur of 13 taps and sigma 0.1 to 2 p = 0.5. torchvision \
             v2 works on `uint8` tensors, channels last in memory, until it normalises. Ours, \
             torchvision and PIL reduce with antialiasing, albumentations without. RandomGreyBlur's \
             sigma is 2 to 6, the rectangles' sides are 5 to 49 px; all blur a rectangle and its \
             margin alone, PIL by its approximation of a Gaussian. Loaders make batches of 64; a \
             peer's decoded pictures lie in memory, ours in the memory-mapped cache.\n";
    if rows.iter().any(|row| row.shared.is_some()) {
        text += "\n### Threads\n\n\
                 Thousands of pictures a second of one thread and of all together.\n\n\
                 | work | one | all | ratio |\n|---|---:|---:|---:|\n";
    }
    for row in rows {
        if let (Some(shared), Some(speedup)) = (&row.shared, row.speedup()) {
            text += &format!(
                "| {} | {} | {} | {speedup:.2} |\n",
                row.title,
                thousands(&row.ours.all),
                thousands(&shared.all)
            );
        }
    }
    format!("{text}\n{machine}\n")
}

fn ratio(ours: &Speeds, peer: &Speeds) -> f64 {
    median(&ours.per_thread()) / median(&peer.per_thread())
}

fn thousands(speeds: &[f64]) -> String {
    cell(speeds, 1e3, 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speeds_are_those_of_a_thread() {
        let speeds = |all: &[f64], threads| Speeds { all: all.to_vec(), threads };
        let row = Row {
            title: "work",
            ours: speeds(&[4000.0, 6000.0, 5000.0], 1),
            shared: Some(speeds(&[9500.0], 2)),
            featured: Some(("more".into(), speeds(&[8000.0], 1))),
            peers: vec![
                ("slow".into(), speeds(&[1000.0], 1)),
                ("many".into(), speeds(&[2500.0, 7500.0], 2)),
            ],
        };
        assert_eq!(
            row.line(),
            "  5000 pictures a second; slow: 5.00x; many: 2.00x; more: 8000 pictures a second; \
             2 threads: 1.90x"
        );
        let alone = Row {
            title: "other",
            ours: speeds(&[1e4], 1),
            shared: None,
            featured: None,
            peers: Vec::new(),
        };
        let text = section(&[row, alone], "here", 3, &Machine::named("A machine."));
        let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("| ")).collect();
        assert_eq!(
            lines[1..6],
            [
                "| work | 5.00 (4.00–6.00) | slow | 1.00 (1.00–1.00) | 5.00 |",
                "| | | many | 2.50 (1.25–3.75) | 2.00 |",
                "| The same with more | 8.00 (8.00–8.00) | slow | 1.00 (1.00–1.00) | 8.00 |",
                "| | | many | 2.50 (1.25–3.75) | 3.20 |",
                "| other | 10.00 (10.00–10.00) | – | – | – |"
            ]
        );
        assert_eq!(lines[7], "| work | 5.00 (4.00–6.00) | 9.50 (9.50–9.50) | 1.90 |");
        assert!(text.ends_with("\n\nA machine.\n"), "{text}");
    }
}
