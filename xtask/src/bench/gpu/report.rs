//! What was measured on a GPU, as a section of `docs/benchmarks-gpu.md`, with what it should be.

use super::super::data::corpus::Corpus;
use super::super::report::Machine;
use super::cell::{self, Cell};
use super::kernels::{self, Kernel};
use super::ready::Gpu;
use super::steps::{self, Effort, Row};

/// Everything that was measured.
pub(super) struct Measured<'a> {
    pub(super) gpu: &'a Gpu,
    pub(super) kernels: &'a [Kernel],
    pub(super) rows: &'a [Row],
    pub(super) effort: Effort,
    pub(super) cell: Option<(&'a Cell, &'a Corpus)>,
    pub(super) command: &'a str,
    pub(super) machine: &'a Machine,
}

/// What is asked for, on an H200.
struct Goal {
    work: String,
    must: f64,
    aim: f64,
    /// What it was; none if it was not measured.
    was: Option<f64>,
    /// Whether less is better.
    less: bool,
    show: fn(f64) -> String,
}

impl Goal {
    fn verdict(&self) -> &'static str {
        let meets = |goal: f64, was: f64| if self.less { was <= goal } else { was >= goal };
        match self.was {
            None => "not measured",
            Some(was) if meets(self.aim, was) => "aim",
            Some(was) if meets(self.must, was) => "must",
            Some(_) => "missed",
        }
    }

    fn line(&self) -> String {
        let sign = if self.less { "≤" } else { "≥" };
        let was = self.was.map_or("–".into(), self.show);
        let (must, aim) = ((self.show)(self.must), (self.show)(self.aim));
        format!("| {} | {sign} {must} | {sign} {aim} | {was} | {} |\n", self.work, self.verdict())
    }
}

fn percent(share: f64) -> String {
    format!("{:.0}%", 100.0 * share)
}

fn times(ratio: f64) -> String {
    format!("{ratio:.2}×")
}

fn goals(measured: &Measured<'_>) -> Vec<Goal> {
    let kernel = |name: &str| measured.kernels.iter().find(|kernel| kernel.name == name);
    let copy = measured.kernels.iter().find(|kernel| kernel.part == "copy");
    let mut goals = vec![];
    for name in ["RandomGreyBlur", "RandomResizedCrop, flip, normalise"] {
        goals.push(Goal {
            work: format!("{name}: share of a copy's speed"),
            must: 0.5,
            aim: 0.8,
            was: kernel(name).zip(copy).map(|(kernel, copy)| kernel.share(copy)),
            less: false,
            show: percent,
        });
    }
    goals.push(Goal {
        work: "SimCLR, two views of 128 px: views/s".into(),
        must: 1e5,
        aim: 4e5,
        was: kernel("SimCLR, two views").map(Kernel::views),
        less: false,
        show: |views| format!("{:.0}k", views / 1e3),
    });
    for name in ["xresnet34", "resnet18"] {
        let row = measured.rows.iter().find(|row| row.name == name && row.side == 128);
        goals.push(Goal {
            work: format!("{name} step at 128 px against PyTorch, compiled"),
            must: 0.9,
            aim: 1.2,
            was: row.filter(|row| row.compiled.is_some()).and_then(Row::ratio),
            less: false,
            show: times,
        });
    }
    let cell = measured.cell.map(|(cell, _)| cell);
    goals.push(Goal {
        work: "a whole epoch against PyTorch with a DataLoader".into(),
        must: 3.0,
        aim: 8.0,
        was: cell.and_then(Cell::ratio),
        less: false,
        show: times,
    });
    goals.push(Goal {
        work: "a run of 5 epochs of 14,669 pictures at 128 px, set-up included".into(),
        must: 60.0,
        aim: 15.0,
        was: cell.filter(|cell| cell.extent.is_goal()).map(|cell| cell.ours.whole),
        less: true,
        show: |seconds| format!("{seconds:.1} s"),
    });
    goals
}

/// The section: goals, tables, and how they were made.
pub(super) fn section(measured: &Measured<'_>) -> String {
    let Gpu { name, driver } = measured.gpu;
    let mut text = format!(
        "## On a GPU\n\n{name}, driver {driver}; `{}`. What is asked for is asked of an H200.\n\n\
         | | must | aim | was | met |\n|---|---:|---:|---:|---|\n",
        measured.command
    );
    for goal in goals(measured) {
        text += &goal.line();
    }
    text += &format!("\n{}", kernels::tables(measured.kernels));
    if !measured.rows.is_empty() {
        text += &format!("\n{}", steps::table(measured.rows, measured.effort));
    }
    if let Some((cell, corpus)) = measured.cell {
        text += &format!("\n{}", cell::table(cell, corpus));
    }
    format!("{text}\n{}\n", measured.machine)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goals_are_held_against_what_was_measured() {
        let kernels: Vec<Kernel> = kernels::tests::TOLD
            .trim()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let gpu = Gpu { name: "NVIDIA H200".into(), driver: "580.1".into() };
        let machine = Machine::named("A machine.");
        let rows = [steps::tests::row("xresnet34", 0.01), steps::tests::row("resnet18", 0.03)];
        let mut cell = cell::tests::cell();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.jpg"), [0]).unwrap();
        let corpus = Corpus::open(folder.path()).unwrap();
        let told = |cell: &Cell| {
            section(&Measured {
                gpu: &gpu,
                kernels: &kernels,
                rows: &rows,
                effort: Effort { group: 20, rounds: 2 },
                cell: Some((cell, &corpus)),
                command: "cargo xtask bench gpu",
                machine: &machine,
            })
        };
        let text = told(&cell);
        for line in [
            "NVIDIA H200, driver 580.1; `cargo xtask bench gpu`.",
            "| RandomGreyBlur: share of a copy's speed | ≥ 50% | ≥ 80% | 75% | must |",
            "| RandomResizedCrop, flip, normalise: share of a copy's speed | ≥ 50% | ≥ 80% | 38% | missed |",
            "| SimCLR, two views of 128 px: views/s | ≥ 100k | ≥ 400k | 256k | must |",
            "| xresnet34 step at 128 px against PyTorch, compiled | ≥ 0.90× | ≥ 1.20× | 2.00× | aim |",
            "| resnet18 step at 128 px against PyTorch, compiled | ≥ 0.90× | ≥ 1.20× | 0.67× | missed |",
            "| a whole epoch against PyTorch with a DataLoader | ≥ 3.00× | ≥ 8.00× | 6.00× | must |",
            "set-up included | ≤ 60.0 s | ≤ 15.0 s | – | not measured |",
            "A machine.",
        ] {
            assert!(text.contains(line), "{line} is not in {text}");
        }
        cell.extent = cell::GOAL;
        assert!(told(&cell).contains("| ≤ 60.0 s | ≤ 15.0 s | 14.0 s | aim |"));
    }
}
