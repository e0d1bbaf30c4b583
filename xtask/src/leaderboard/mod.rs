//! `cargo xtask leaderboard`: train what is missing of a matrix, then print its table.

mod binary;
mod chart;
mod data;
mod gains;
mod html;
mod markdown;
mod plan;
mod published;
mod records;
mod reproduce;
mod rows;
mod rules;
mod shell;
mod stats;

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

use crate::{say, say_error, short, write_whole};
use binary::Pretext;
use plan::{Matrix, Step};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// `sample` (the embedded one), `imagewang`, or a folder in Image网's layout
    #[arg(long, value_name = "NAME|DIR", default_value = "sample")]
    data: String,
    /// Sizes in pixels [default: 64; for imagewang 128,192,256]
    #[arg(long, value_delimiter = ',', value_name = "PX,...")]
    sizes: Option<Vec<u32>>,
    /// Epochs of fine-tuning [default: 10; for imagewang 5,20,80,200]
    #[arg(long, value_delimiter = ',', value_name = "N,...")]
    epochs: Option<Vec<u32>>,
    /// Initial weights: random, or pretext tasks [default: random,grey-blur,inpaint]
    #[arg(long, value_delimiter = ',', value_name = "NAME,...")]
    init: Option<Vec<String>>,
    /// Runs of each cell, one number for all epochs or one for each [default: 3; for imagewang
    /// 5,3,1,1]
    #[arg(long, value_delimiter = ',', value_name = "N,...")]
    runs: Option<Vec<u32>>,
    /// The first run's seed; the others count on from it. Pretraining uses it too
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,
    /// Epochs of pretraining [default: 15; for the sample fewer]
    #[arg(long, value_name = "N")]
    pretrain_epochs: Option<u32>,
    /// The encoder [default: xresnet34; for the sample xresnet18]
    #[arg(long, value_name = "NAME")]
    encoder: Option<String>,
    /// Pictures a step, pretraining and fine-tuning [default: 64; for the sample 32]
    #[arg(long, value_name = "N")]
    batch_size: Option<usize>,
    /// Also pretrain on the pixels (never the labels) of val/
    #[arg(long)]
    include_val_pixels: bool,
    /// Threads [default: all cores]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Where runs, tables and pages go [default: runs/NAME of this checkout]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print the commands that would run, and nothing else
    #[arg(long)]
    dry_run: bool,
    /// Use this binary instead of building one
    #[arg(long, value_name = "FILE", hide = true)]
    pretext: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let matrix = Matrix::new(args)?;
    let steps = matrix.steps();
    if args.dry_run {
        for step in &steps {
            say(step.command_line(&matrix));
        }
        return Ok(());
    }
    for step in &steps {
        // A missing archive is told before the first hour, not after the last.
        matrix.data_for(step.size())?;
    }
    let mut pretext = Pretext::new(args.pretext.clone());
    for (i, step) in steps.iter().enumerate() {
        if records::finished(step, &matrix)? {
            continue;
        }
        say_error(&format!("[{}/{}] {}", i + 1, steps.len(), step.describe()));
        train(&mut pretext, step, &matrix)
            .with_context(|| format!("{} did not finish", short(&step.out(&matrix))))?;
        if !records::finished(step, &matrix)? {
            bail!("{} holds no record after its run", short(&step.out(&matrix)))
        }
    }
    pictures(&mut pretext, &matrix, &steps)?;
    let board = records::read(&steps, &matrix)?;
    let rows = rows::rows(&board, matrix.is_imagewang());
    let table = markdown::document(&rows, &board, &matrix);
    let json = serde_json::to_vec_pretty(&data::json(&rows, &board, &matrix))?;
    say(&table);
    for (name, bytes) in [
        ("leaderboard.md", table.into_bytes()),
        ("leaderboard.csv", data::csv(&rows).into_bytes()),
        ("leaderboard.json", json),
        ("leaderboard.html", html::page(&rows, &board, &matrix)?.into_bytes()),
    ] {
        write_whole(&matrix.out.join(name), &bytes)?;
    }
    say(short(&matrix.out.join("leaderboard.html")));
    Ok(())
}

fn train(pretext: &mut Pretext, step: &Step, matrix: &Matrix) -> Result<()> {
    let mut arguments = step.arguments(matrix);
    arguments.push("--resume".into());
    pretext.run(&arguments)
}

/// Draws input, target and prediction of each pretraining, where that is not done yet.
fn pictures(pretext: &mut Pretext, matrix: &Matrix, steps: &[Step]) -> Result<()> {
    for step in steps {
        let Step::Pretrain { task, size } = step else { continue };
        let (folder, png) = (step.out(matrix), step.out(matrix).join("show.png"));
        if png.exists() {
            continue;
        }
        let text = |path: PathBuf| path.display().to_string();
        pretext.run(&[
            "show".into(),
            "--data".into(),
            matrix.data_for(*size)?.display().to_string(),
            "--task".into(),
            task.clone(),
            "--weights".into(),
            text(folder.join("pretext.safetensors")),
            "--count".into(),
            "4".into(),
            "--out".into(),
            text(png),
        ])?;
    }
    Ok(())
}
