//! Whole runs through the command line, from JPEGs to a record, and PyTorch on the same files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use super::super::data::corpus::Corpus;
use super::super::peer::Peer;
use super::super::report::median;
use super::ready::Libraries;
use super::steps;

/// Classes of the pictures.
const CLASSES: usize = 20;
/// Photographs that differ; all others are copies of them.
const PHOTOGRAPHS: usize = 1000;
/// Pictures a step at 128, 192 and 256 px, of a network that classifies and of one that restores.
const BATCHES: [[usize; 3]; 2] = [[128, 128, 64], [64, 32, 16]];
/// A peer takes no more epochs: all but the first are alike.
const PEERS_EPOCHS: usize = 3;
/// What the whole run that is asked for is of.
const ASKED: (&str, usize) = ("xresnet34", 128);

/// How large a run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Extent {
    /// Pictures to train on.
    pub(super) train: usize,
    /// Pictures to score on, after each epoch.
    pub(super) val: usize,
    pub(super) epochs: usize,
}

/// As many pictures as Image网 has, for as long as the least of its leaderboard's cells.
pub(super) const GOAL: Extent = Extent { train: 14_669, val: 3_929, epochs: 5 };
/// As many, for one epoch that caches are filled in and two more.
pub(super) const EPOCHS: Extent = Extent { epochs: 3, ..GOAL };

impl Extent {
    /// That of a network on pictures of a size.
    pub(super) fn of(name: &str, side: usize) -> Self {
        if (name, side) == ASKED { GOAL } else { EPOCHS }
    }
}

/// Seconds of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Times {
    /// From the start of the process to its end.
    pub(super) whole: f64,
    /// Of each epoch, scoring included.
    pub(super) epochs: Vec<f64>,
}

impl Times {
    /// An epoch after the first, in which caches are filled and networks compiled.
    fn epoch(&self) -> f64 {
        median(self.epochs.get(1..).filter(|later| !later.is_empty()).unwrap_or(&self.epochs))
    }
}

/// A network on pictures of one size.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Cell {
    pub(super) name: String,
    pub(super) side: usize,
    batch: usize,
    pub(super) extent: Extent,
    /// What the pictures are copies of.
    photographs: String,
    /// Cores that both sides had.
    cores: usize,
    pub(super) ours: Times,
    /// Eager and compiled, of whichever ran.
    pub(super) peers: Vec<(String, Times)>,
}

impl Cell {
    /// Whether it is the run that is asked for.
    pub(super) fn is_goal(&self) -> bool {
        (self.name.as_str(), self.side, self.extent) == (ASKED.0, ASKED.1, GOAL)
    }

    /// How many of our epochs fit into one of PyTorch's best.
    pub(super) fn ratio(&self) -> Option<f64> {
        let best = self.peers.iter().map(|(_, times)| times.epoch()).min_by(f64::total_cmp)?;
        Some(best / self.ours.epoch())
    }
}

/// The pictures that both sides train on, and the folder that they lie in.
pub(super) struct Pictures {
    folder: PathBuf,
    photographs: String,
}

impl Pictures {
    /// Lays them out anew.
    pub(super) fn make(bench: &Path, extent: Extent) -> Result<Self> {
        let corpus = Corpus::make(bench, PHOTOGRAPHS.min(extent.train))?;
        let folder = crate::root().join("target/bench-gpu");
        if folder.exists() {
            fs::remove_dir_all(&folder)
                .with_context(|| format!("cannot remove {}", crate::short(&folder)))?;
        }
        let splits = [("train", extent.train), ("val", extent.val)];
        corpus.lay_out(&folder.join("data"), CLASSES, &splits)?;
        Ok(Self { folder, photographs: corpus.describe() })
    }
}

/// Trains a network on them, ours and PyTorch; `size` is which of [`steps::SIDES`]. What is known so far
/// is `kept` after each run.
pub(super) fn measure(
    (pretext, libraries): (&Path, &Libraries),
    pictures: &Pictures,
    peer: Option<&Peer>,
    (name, size): (&str, usize),
    extent: Extent,
    mut keep: impl FnMut(&Cell) -> Result<()>,
) -> Result<()> {
    let (side, batch) = (steps::SIDES[size], BATCHES[usize::from(restores(name))][size]);
    let (data, out) = (pictures.folder.join("data"), pictures.folder.join("run"));
    if out.exists() {
        fs::remove_dir_all(&out)?;
    }
    let mut command = libraries.command(pretext);
    command.args(ours(name, [side, batch, extent.epochs]));
    command.arg("--data").arg(&data).arg("--out").arg(&out);
    let (whole, _) = timed(command, false).context("pretext")?;
    let record = fs::read_to_string(out.join("record.json")).context("the run left no record")?;
    let ours = Times { whole, epochs: of_record(&record)? };
    let mut cell = Cell {
        name: name.to_owned(),
        side,
        batch,
        extent,
        photographs: pictures.photographs.clone(),
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        ours,
        peers: vec![],
    };
    keep(&cell)?;
    for how in ["eager", "compile"] {
        let Some(peer) = peer else { break };
        let mut command = peer.command();
        command.args(["epochs", name, &batch.to_string(), &side.to_string()]).arg(&data);
        command.args([&extent.epochs.min(PEERS_EPOCHS).to_string(), "cuda", how]);
        match (timed(command, how == "compile"), how) {
            (Ok((whole, said)), _) => {
                cell.peers.push((how.to_owned(), Times { whole, epochs: seconds(&said)? }));
                keep(&cell)?;
            }
            (Err(_), "compile") => crate::say("torch.compile fails here; eager alone is measured"),
            (Err(error), _) => return Err(error.context("PyTorch")),
        }
    }
    Ok(())
}

/// Whether a network restores pictures, and is pretrained; else it classifies, and is fine-tuned.
fn restores(name: &str) -> bool {
    name.starts_with("unet-")
}

/// How `pretext` trains a network; data and out folder are still to come.
fn ours(name: &str, [side, batch, epochs]: [usize; 3]) -> Vec<String> {
    let mut words = match name.strip_prefix("unet-") {
        Some(encoder) => vec!["pretrain", "--task", "grey-blur", "--encoder", encoder],
        None => vec!["finetune", "--init", "random", "--encoder", name],
    };
    words.extend(["--optimiser", "adamw", "--precision", "bf16", "--device", "cuda:0"]);
    let numbers = [("--size", side), ("--batch-size", batch), ("--epochs", epochs)];
    let numbers = numbers.map(|(flag, number)| [flag.to_owned(), number.to_string()]);
    words.into_iter().map(str::to_owned).chain(numbers.into_iter().flatten()).collect()
}

/// Seconds until a command has ended well, and what it said.
fn timed(mut command: Command, quiet: bool) -> Result<(f64, String)> {
    let errors = if quiet { Stdio::null() } else { Stdio::inherit() };
    let start = Instant::now();
    let output = command.stderr(errors).output()?;
    if !output.status.success() {
        bail!("it failed; what it said stands above")
    }
    Ok((start.elapsed().as_secs_f64(), String::from_utf8_lossy(&output.stdout).into_owned()))
}

/// The seconds of a record's epochs.
fn of_record(record: &str) -> Result<Vec<f64>> {
    let record: serde_json::Value = serde_json::from_str(record)?;
    let epochs = record["epochs"].as_array().context("a record has epochs")?;
    epochs.iter().map(|epoch| epoch["seconds"].as_f64().context("an epoch has seconds")).collect()
}

fn seconds(said: &str) -> Result<Vec<f64>> {
    let seconds: Result<Vec<f64>, _> = said.split_whitespace().map(str::parse).collect();
    seconds.with_context(|| format!("the seconds of epochs are {said:?}"))
}

/// A table of them.
pub(super) fn table(cells: &[Cell]) -> String {
    let mut text = "### Whole runs\n\n\
         From random weights in `bf16`, with scoring after each epoch: `pretext finetune --device cuda:0` and \
         PyTorch with `ImageFolder` and a DataLoader of as many workers as there are cores; the U-Net by \
         `pretext pretrain --task grey-blur`, and in PyTorch with the same rectangles by torchvision. Seconds; \
         an epoch is the median of those after the first, the ratio PyTorch's over ours. Set-up is in the \
         whole: opening the GPU, decoding, compiling.\n"
        .to_owned();
    for (i, cell) in cells.iter().enumerate() {
        let Extent { train, val, .. } = cell.extent;
        let before = i.checked_sub(1).and_then(|before| cells.get(before));
        let alike = |a: &Cell, b: &Cell| {
            (a.extent.train, a.extent.val, a.cores, &a.photographs)
                == (b.extent.train, b.extent.val, b.cores, &b.photographs)
        };
        if !before.is_some_and(|before| alike(before, cell)) {
            text += &format!(
                "\n{train} JPEGs and {val} to score (copies of {}); {} cores.\n\n\
                 | network | px | batch | | epochs | whole run | first epoch | an epoch | pictures/s | ratio |\n\
                 |---|---:|---:|---|---:|---:|---:|---:|---:|---:|\n",
                cell.photographs, cell.cores
            );
        }
        let ours = [("ours", &cell.ours)].into_iter();
        for (name, times) in ours.chain(cell.peers.iter().map(|(how, times)| (title(how), times))) {
            text += &format!(
                "| {} | {} | {} | {name} | {} | {:.1} | {:.1} | {:.2} | {:.0} | {:.2} |\n",
                steps::title(&cell.name),
                cell.side,
                cell.batch,
                times.epochs.len(),
                times.whole,
                times.epochs.first().copied().unwrap_or(f64::NAN),
                times.epoch(),
                train as f64 / times.epoch(),
                times.epoch() / cell.ours.epoch(),
            );
        }
    }
    text
}

fn title(how: &str) -> &'static str {
    if how == "compile" { "torch.compile" } else { "PyTorch" }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn cell() -> Cell {
        let extent = Extent { train: 100, val: 10, epochs: 3 };
        let ours = Times { whole: 14.0, epochs: vec![5.0, 2.0, 2.0] };
        let peers = vec![
            ("eager".to_owned(), Times { whole: 70.0, epochs: vec![20.0, 18.0, 18.0] }),
            ("compile".to_owned(), Times { whole: 90.0, epochs: vec![60.0, 12.0, 12.0] }),
        ];
        Cell {
            name: "xresnet34".into(),
            side: 128,
            batch: 64,
            extent,
            photographs: "7 photographs".into(),
            cores: 16,
            ours,
            peers,
        }
    }

    #[test]
    fn the_first_epoch_does_not_count() {
        assert_eq!(cell().ratio(), Some(6.0));
        assert_eq!(Times { whole: 9.0, epochs: vec![4.0, 1.0, 2.0] }.epoch(), 1.5);
        assert_eq!(Times { whole: 1.0, epochs: vec![0.5] }.epoch(), 0.5);
        let other = Cell { cores: 4, ..cell() };
        let text = table(&[cell(), cell(), other]);
        let ours = "| xresnet34 | 128 | 64 | ours | 3 | 14.0 | 5.0 | 2.00 | 50 | 1.00 |";
        assert!(text.contains(ours), "{text}");
        let compiled =
            "| xresnet34 | 128 | 64 | torch.compile | 3 | 90.0 | 60.0 | 12.00 | 8 | 6.00 |";
        assert!(text.contains(compiled), "{text}");
        let heads = text.lines().filter(|line| line.ends_with("cores.")).collect::<Vec<_>>();
        let head =
            |cores| format!("100 JPEGs and 10 to score (copies of 7 photographs); {cores} cores.");
        assert_eq!(heads, [head(16), head(4)]);
    }

    #[test]
    fn the_run_that_is_asked_for_is_known() {
        assert_eq!(Extent::of("xresnet34", 128).epochs, 5);
        assert_eq!(Extent::of("xresnet34", 192), Extent::of("resnet18", 128));
        assert!(!cell().is_goal() && Cell { extent: GOAL, ..cell() }.is_goal());
        assert!(!Cell { extent: GOAL, side: 192, ..cell() }.is_goal());
    }

    #[test]
    fn networks_are_trained_by_the_command_that_is_for_them() {
        let unet = ours("unet-xresnet34", [192, 32, 3]).join(" ");
        assert!(unet.starts_with("pretrain --task grey-blur --encoder xresnet34 "), "{unet}");
        assert!(unet.ends_with(" --size 192 --batch-size 32 --epochs 3"), "{unet}");
        assert!(
            ours("resnet18", [128; 3])
                .join(" ")
                .starts_with("finetune --init random --encoder resnet18 ")
        );
    }

    #[test]
    fn records_and_answers_are_read() {
        let record = r#"{"epochs": [{"seconds": 2.5}, {"seconds": 2}]}"#;
        assert_eq!(of_record(record).unwrap(), [2.5, 2.0]);
        assert!(of_record("{}").is_err());
        assert_eq!(seconds("1.5\n2.5\n").unwrap(), [1.5, 2.5]);
        assert!(seconds("soon").is_err());
    }
}
