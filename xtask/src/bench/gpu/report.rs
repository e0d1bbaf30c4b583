//! What was measured on a GPU, as a section of `docs/benchmarks-gpu.md`, with what it should be.

use super::cell::{self, Cell};
use super::kernels::{self, Kernel};
use super::ready::Gpu;
use super::results::Results;
use super::steps::{self, Row};

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

fn goals(measured: &Results) -> Vec<Goal> {
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
        let row = measured.steps.iter().find(|row| row.name == name && row.side == 128);
        goals.push(Goal {
            work: format!("{name} step at 128 px against PyTorch, compiled"),
            must: 0.9,
            aim: 1.2,
            was: row.filter(|row| row.compiled.is_some()).and_then(Row::ratio),
            less: false,
            show: times,
        });
    }
    let ratios: Vec<f64> = measured.epochs.iter().filter_map(Cell::ratio).collect();
    goals.push(Goal {
        work: format!(
            "a whole epoch against PyTorch with a DataLoader, the least of {} networks and sizes",
            ratios.len()
        ),
        must: 3.0,
        aim: 8.0,
        was: ratios.into_iter().min_by(f64::total_cmp),
        less: false,
        show: times,
    });
    goals.push(Goal {
        work: "a run of 5 epochs of 14,669 pictures at 128 px, set-up included".into(),
        must: 60.0,
        aim: 15.0,
        was: measured.epochs.iter().find(|cell| cell.is_goal()).map(|cell| cell.ours.whole),
        less: true,
        show: |seconds| format!("{seconds:.1} s"),
    });
    goals
}

/// The section: goals, tables, and how they were made.
pub(super) fn section(measured: &Results) -> String {
    let Gpu { name, driver } = &measured.gpu;
    let mut text = format!(
        "## On a GPU\n\n{name}, driver {driver}. What is asked for is asked of an H200.\n\n\
         | | must | aim | was | met |\n|---|---:|---:|---:|---|\n"
    );
    for goal in goals(measured) {
        text += &goal.line();
    }
    if !measured.kernels.is_empty() {
        text += &format!("\n{}", kernels::tables(&measured.kernels));
    }
    if !measured.steps.is_empty() {
        text += &format!("\n{}", steps::table(&measured.steps));
    }
    if !measured.epochs.is_empty() {
        text += &format!("\n{}", cell::table(&measured.epochs));
    }
    text += "\n### How it was made\n\n";
    for (command, machine) in &measured.commands {
        text += &format!("- `{command}`: {machine}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goals_are_held_against_what_was_measured() {
        let gpu = Gpu { name: "NVIDIA H200".into(), driver: "580.1".into() };
        let mut results = Results::new(gpu);
        results.kernels = kernels::tests::told();
        results.steps =
            vec![steps::tests::row("xresnet34", 0.01), steps::tests::row("resnet18", 0.03)];
        results.epochs = vec![cell::tests::cell()];
        let command = "cargo xtask bench gpu --parts epochs".to_owned();
        results.commands.insert(command, "A machine.".into());
        let text = section(&results);
        for line in [
            "NVIDIA H200, driver 580.1. What",
            "| RandomGreyBlur: share of a copy's speed | ≥ 50% | ≥ 80% | 75% | must |",
            "| RandomResizedCrop, flip, normalise: share of a copy's speed | ≥ 50% | ≥ 80% | 38% | missed |",
            "| SimCLR, two views of 128 px: views/s | ≥ 100k | ≥ 400k | 256k | must |",
            "| xresnet34 step at 128 px against PyTorch, compiled | ≥ 0.90× | ≥ 1.20× | 2.00× | aim |",
            "| resnet18 step at 128 px against PyTorch, compiled | ≥ 0.90× | ≥ 1.20× | 0.67× | missed |",
            "the least of 1 networks and sizes | ≥ 3.00× | ≥ 8.00× | 6.00× | must |",
            "set-up included | ≤ 60.0 s | ≤ 15.0 s | – | not measured |",
            "- `cargo xtask bench gpu --parts epochs`: A machine.",
        ] {
            assert!(text.contains(line), "{line} is not in {text}");
        }
        results.epochs[0].extent = cell::GOAL;
        assert!(section(&results).contains("| ≤ 60.0 s | ≤ 15.0 s | 14.0 s | aim |"));
        let mut slower = cell::tests::cell();
        (slower.side, slower.ours.epochs) = (192, vec![6.0]);
        results.epochs.push(slower);
        assert!(
            section(&results)
                .contains("2 networks and sizes | ≥ 3.00× | ≥ 8.00× | 2.00× | missed |")
        );
    }
}
