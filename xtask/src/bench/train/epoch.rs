//! What a whole epoch through the command line costs beside the bare steps: files are read, pictures
//! decoded and augmented, losses gathered.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use super::super::data::corpus::Corpus;
use super::super::report::{cell, median};
use super::super::stepper::Stepper;

/// Steps of an epoch.
pub(super) const STEPS: usize = 16;
/// Epochs of a run. The first, in which memory is not yet as it is later, does not count.
const EPOCHS: usize = 3;
/// Classes of the pictures.
const CLASSES: usize = 8;

/// What is measured, and in what.
pub(super) struct Setting<'a> {
    pub(super) network: &'a str,
    pub(super) title: &'a str,
    pub(super) precision: &'a str,
    pub(super) batch: usize,
    pub(super) size: usize,
    pub(super) threads: usize,
}

/// Seconds a step.
pub(super) struct Row {
    title: String,
    precision: String,
    bare: Vec<f64>,
    /// Those of an epoch, over its steps.
    epoch: Vec<f64>,
}

impl Row {
    /// The share of an epoch that is not in its bare steps.
    fn lost(&self) -> f64 {
        1.0 - median(&self.bare) / median(&self.epoch)
    }

    /// It in short, while others are still measured.
    pub(super) fn line(&self) -> String {
        format!("  an epoch through the command line loses {:.1} %", 100.0 * self.lost())
    }
}

/// `train/CLASS/` and `val/CLASS/` of photographs, in a folder under `target/`.
pub(super) fn lay_out(corpus: &Corpus, batch: usize) -> Result<PathBuf> {
    let data = crate::root().join("target/bench-epoch/data");
    if data.exists() {
        fs::remove_dir_all(&data)
            .with_context(|| format!("cannot remove {}", crate::short(&data)))?;
    }
    corpus.lay_out(&data, CLASSES, &[("train", STEPS * batch), ("val", CLASSES)])?;
    Ok(data)
}

/// Runs of `pretext finetune` and bare steps, in turns.
pub(super) fn measure(
    pretext: &Path,
    stepper: &mut Stepper,
    data: &Path,
    setting: &Setting<'_>,
    rounds: usize,
) -> Result<Row> {
    let (title, precision) = (setting.title.to_owned(), setting.precision.to_owned());
    let mut row = Row { title, precision, bare: vec![], epoch: vec![] };
    let out = crate::root().join("target/bench-epoch/run");
    stepper.tell("train")?;
    for _ in 0..rounds {
        row.bare.extend(stepper.steps(1 + STEPS / 2)?.split_off(1));
        if out.exists() {
            fs::remove_dir_all(&out)?;
        }
        let mut command = Command::new(pretext);
        command.args(["finetune", "--init", "random", "--encoder", setting.network]);
        command.args(["--size", &setting.size.to_string(), "--optimiser", "adamw"]);
        command.args(["--batch-size", &setting.batch.to_string()]);
        command.args(["--epochs", &EPOCHS.to_string(), "--precision", setting.precision]);
        command.args(["--device", "cpu"]).arg("--data").arg(data).arg("--out").arg(&out);
        command.env("RAYON_NUM_THREADS", setting.threads.to_string()).stdout(Stdio::null());
        if !command.status().context("cannot run pretext")?.success() {
            bail!("pretext finetune failed; what it said stands above")
        }
        let record = fs::read_to_string(out.join("record.json")).context("there is no record")?;
        row.epoch.extend(steps(&record, setting.batch)?);
        // As warm as the command line's steps were.
        stepper.steps(1)?;
        row.bare.extend(stepper.steps(STEPS / 2)?);
    }
    Ok(row)
}

/// Seconds a step, of each of a record's epochs but the first.
fn steps(record: &str, batch: usize) -> Result<Vec<f64>> {
    let record: serde_json::Value = serde_json::from_str(record)?;
    let epochs = record["epochs"].as_array().context("a record has epochs")?;
    let pictures = |epoch: &serde_json::Value| epoch["images_per_second"].as_f64();
    let later = epochs.iter().skip(1);
    later.map(|epoch| Ok(batch as f64 / pictures(epoch).context("an epoch has a pace")?)).collect()
}

/// A table of them.
pub(super) fn table(rows: &[Row], setting: &str, corpus: &Corpus) -> String {
    let mut text = format!(
        "### A whole epoch through the command line\n\n\
         `pretext finetune` from {}, {setting}, beside the bare steps of the same network, in turns: \
         milliseconds a step, files, decoding and augmentation included, and the share that the epoch \
         loses. Medians of epochs after the first, of {STEPS} steps each; scoring is left out.\n\n\
         | network | precision | bare step | a step of an epoch | lost |\n|---|---|---:|---:|---:|\n",
        corpus.describe()
    );
    for row in rows {
        text += &format!(
            "| {} | {} | {} | {} | {:.1} % |\n",
            row.title,
            row.precision,
            cell(&row.bare, 1e-3, 0),
            cell(&row.epoch, 1e-3, 0),
            100.0 * row.lost(),
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_epoch_does_not_count() {
        let record = r#"{"epochs": [
            {"images_per_second": 1.0}, {"images_per_second": 32.0}, {"images_per_second": 64.0}
        ]}"#;
        let epoch = steps(record, 32).unwrap();
        assert_eq!(epoch, [1.0, 0.5]);
        assert!(steps("{}", 32).is_err());
        let row = Row { title: "net".into(), precision: "f32".into(), bare: vec![0.72], epoch };
        assert!((row.lost() - 0.04).abs() < 1e-9, "{}", row.lost());
        assert_eq!(row.line(), "  an epoch through the command line loses 4.0 %");
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.jpg"), [0; 3000]).unwrap();
        let text = table(&[row], "here", &Corpus::open(folder.path()).unwrap());
        assert!(text.contains("| net | f32 | 720 (720–720) | 750 (500–1000) | 4.0 % |"), "{text}");
    }
}
