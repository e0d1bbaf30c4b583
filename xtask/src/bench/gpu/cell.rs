//! A whole run through the command line, from JPEGs to a record, and PyTorch on the same files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use super::super::data::corpus::Corpus;
use super::super::peer::Peer;
use super::super::report::median;

/// Classes of the pictures.
const CLASSES: usize = 20;
/// Photographs that differ; all others are copies of them.
const PHOTOGRAPHS: usize = 1000;
const NETWORK: &str = "xresnet34";
const SIDE: &str = "128";
const BATCH: &str = "128";

/// How large a run.
#[derive(Clone, Copy)]
pub(super) struct Extent {
    /// Pictures to train on.
    pub(super) train: usize,
    /// Pictures to score on, after each epoch.
    pub(super) val: usize,
    pub(super) epochs: usize,
}

/// As many pictures as Image网 has, for as long as the least of its leaderboard's cells.
pub(super) const GOAL: Extent = Extent { train: 14_669, val: 3_929, epochs: 5 };

impl Extent {
    /// Whether it is what is asked for.
    pub(super) fn is_goal(self) -> bool {
        (self.train, self.val, self.epochs) == (GOAL.train, GOAL.val, GOAL.epochs)
    }
}

/// Seconds of a run.
#[derive(Debug, PartialEq)]
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

pub(super) struct Cell {
    pub(super) extent: Extent,
    pub(super) ours: Times,
    /// Eager and compiled, of whichever ran.
    pub(super) peers: Vec<(&'static str, Times)>,
}

impl Cell {
    /// How many of our epochs fit into one of PyTorch's best.
    pub(super) fn ratio(&self) -> Option<f64> {
        let best = self.peers.iter().map(|(_, times)| times.epoch()).min_by(f64::total_cmp)?;
        Some(best / self.ours.epoch())
    }
}

/// Trains on the same pictures, ours and PyTorch.
pub(super) fn measure(
    pretext: &Path,
    corpus: &Corpus,
    peer: Option<&Peer>,
    extent: Extent,
) -> Result<Cell> {
    let folder = crate::root().join("target/bench-gpu");
    if folder.exists() {
        fs::remove_dir_all(&folder)
            .with_context(|| format!("cannot remove {}", crate::short(&folder)))?;
    }
    let data = folder.join("data");
    lay_out(&corpus.folder, &data, extent)?;
    let ours = train(pretext, &data, &folder.join("run"), extent)?;
    let mut peers = vec![];
    for how in ["eager", "compile"] {
        let Some(peer) = peer else { break };
        let mut command = peer.command();
        command.args(["epochs", NETWORK, BATCH, SIDE]).arg(&data);
        command.args([&extent.epochs.to_string(), "cuda", how]);
        match (timed(command, how == "compile"), how) {
            (Ok((whole, said)), _) => peers.push((how, Times { whole, epochs: seconds(&said)? })),
            (Err(_), "compile") => crate::say("torch.compile fails here; eager alone is measured"),
            (Err(error), _) => return Err(error.context("PyTorch")),
        }
    }
    Ok(Cell { extent, ours, peers })
}

fn train(pretext: &Path, data: &Path, out: &Path, extent: Extent) -> Result<Times> {
    let mut command = Command::new(pretext);
    command.args(["finetune", "--init", "random", "--encoder", NETWORK, "--size", SIDE]);
    command.args(["--batch-size", BATCH, "--optimiser", "adamw", "--precision", "bf16"]);
    command.args(["--device", "cuda:0", "--epochs", &extent.epochs.to_string()]);
    command.arg("--data").arg(data).arg("--out").arg(out);
    let (whole, _) = timed(command, false).context("pretext finetune")?;
    let record = fs::read_to_string(out.join("record.json")).context("the run left no record")?;
    Ok(Times { whole, epochs: of_record(&record)? })
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

/// Copies of a corpus' pictures, in `train/CLASS/` and `val/CLASS/`.
fn lay_out(corpus: &Path, data: &Path, extent: Extent) -> Result<()> {
    let entries =
        fs::read_dir(corpus).with_context(|| format!("cannot read {}", corpus.display()))?;
    let mut files: Vec<PathBuf> =
        entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    files.sort();
    if files.is_empty() {
        bail!("{} is empty", corpus.display())
    }
    for (split, count) in [("train", extent.train), ("val", extent.val)] {
        for i in 0..count {
            let folder = data.join(split).join(format!("{:02}", i % CLASSES));
            if i < CLASSES {
                fs::create_dir_all(&folder)?;
            }
            fs::copy(&files[i % files.len()], folder.join(format!("{i:05}.jpg")))?;
        }
    }
    Ok(())
}

/// The photographs that the copies are of.
pub(super) fn corpus(bench: &Path, extent: Extent) -> Result<Corpus> {
    Corpus::make(bench, PHOTOGRAPHS.min(extent.train))
}

/// A table of it.
pub(super) fn table(cell: &Cell, corpus: &Corpus) -> String {
    let Extent { train, val, epochs } = cell.extent;
    let mut text = format!(
        "### A whole run\n\n\
         {NETWORK} from random weights at {SIDE} px in `bf16`, batches of {BATCH}, {epochs} epochs of {train} JPEGs \
         with {val} scored after each (copies of {}): `pretext finetune --device cuda:0` and PyTorch with \
         `ImageFolder` and a DataLoader of as many workers as there are cores. Seconds; an epoch is the \
         median of those after the first. Set-up is in the whole: opening the GPU, decoding, compiling.\n\n\
         | | whole run | first epoch | an epoch | pictures/s |\n|---|---:|---:|---:|---:|\n",
        corpus.describe()
    );
    let ours = [("ours", &cell.ours)].into_iter();
    for (name, times) in ours.chain(cell.peers.iter().map(|(how, times)| (title(how), times))) {
        text += &format!(
            "| {name} | {:.1} | {:.1} | {:.2} | {:.0} |\n",
            times.whole,
            times.epochs.first().copied().unwrap_or(f64::NAN),
            times.epoch(),
            train as f64 / times.epoch(),
        );
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
            ("eager", Times { whole: 70.0, epochs: vec![20.0, 18.0, 18.0] }),
            ("compile", Times { whole: 90.0, epochs: vec![60.0, 12.0, 12.0] }),
        ];
        Cell { extent, ours, peers }
    }

    #[test]
    fn the_first_epoch_does_not_count() {
        assert_eq!(cell().ratio(), Some(6.0));
        assert_eq!(Times { whole: 9.0, epochs: vec![4.0, 1.0, 2.0] }.epoch(), 1.5);
        assert_eq!(Times { whole: 1.0, epochs: vec![0.5] }.epoch(), 0.5);
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.jpg"), [0; 3000]).unwrap();
        let corpus = Corpus::open(folder.path()).unwrap();
        let text = table(&cell(), &corpus);
        assert!(text.contains("| ours | 14.0 | 5.0 | 2.00 | 50 |"), "{text}");
        assert!(text.contains("| torch.compile | 90.0 | 60.0 | 12.00 | 8 |"), "{text}");
    }

    #[test]
    fn copies_are_laid_out_by_class() {
        let folder = tempfile::tempdir().unwrap();
        let (corpus, data) = (folder.path().join("corpus"), folder.path().join("data"));
        fs::create_dir(&corpus).unwrap();
        for (name, byte) in [("b.jpg", 2), ("a.jpg", 1), ("c.jpg", 3)] {
            fs::write(corpus.join(name), [byte]).unwrap();
        }
        lay_out(&corpus, &data, Extent { train: 45, val: 20, epochs: 1 }).unwrap();
        let count = |split: &str| -> usize {
            let classes = fs::read_dir(data.join(split)).unwrap();
            classes.map(|class| fs::read_dir(class.unwrap().path()).unwrap().count()).sum()
        };
        assert_eq!((count("train"), count("val")), (45, 20));
        assert_eq!(fs::read(data.join("train/04/00044.jpg")).unwrap(), [3]);
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
