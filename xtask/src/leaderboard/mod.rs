//! `cargo xtask leaderboard`: train what is missing of a matrix, here or on a cluster, then print its
//! table.

mod binary;
mod cells;
mod chart;
mod confusions;
mod data;
mod gains;
mod gpus;
mod holders;
mod html;
mod launch;
mod markdown;
mod memory;
mod plan;
mod published;
mod recipe;
mod records;
mod reproduce;
mod rows;
mod rules;
mod screen;
mod shell;
mod slurm;
mod stats;
mod watch;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::{mistake, say, say_error, short, write_whole};
use binary::Pretext;
use plan::{Matrix, Step};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// `sample` (the embedded one), `imagewang`, or a folder in Image网's layout [default: sample]
    #[arg(long, value_name = "NAME|DIR")]
    data: Option<String>,
    /// Read the recipe from a TOML file, such as the recipe.toml that a leaderboard leaves in its
    /// folder; its keys are named after the flags, and flags win. Its tables pretrain and finetune
    /// take further flags of `pretext`, such as lr and optimiser
    #[arg(long, value_name = "FILE")]
    recipe: Option<PathBuf>,
    /// Sizes in pixels [default: 64; for imagewang 128,192,256]
    #[arg(long, value_delimiter = ',', value_name = "PX,...")]
    sizes: Option<Vec<u32>>,
    /// Epochs of fine-tuning [default: 10; for imagewang 5,20,80,200]
    #[arg(long, value_delimiter = ',', value_name = "N,...")]
    epochs: Option<Vec<u32>>,
    /// Initial weights: random, or pretext tasks [default: random,grey-blur,inpaint]
    #[arg(long, value_delimiter = ',', value_name = "NAME,...")]
    init: Option<Vec<String>>,
    /// Runs of each cell, one number for all epochs or one for each; at most 10,000 in all [default: 3;
    /// for imagewang 5,3,1,1]
    #[arg(long, value_delimiter = ',', value_name = "N,...")]
    runs: Option<Vec<u32>>,
    /// The first run's seed; the others count on from it. Pretraining uses it too [default: 0]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
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
    /// Threads of each run [default: all cores, shared among the runs side by side]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Where runs, tables and pages go [default: runs/NAME of this checkout]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Where cells run
    #[arg(long, value_enum, default_value_t = Launcher::Local, value_name = "NAME")]
    launcher: Launcher,
    /// Where runs compute: with cuda, each of those side by side has a GPU of CUDA_VISIBLE_DEVICES, or
    /// of all that nvidia-smi lists
    #[arg(long, value_enum, default_value_t = gpus::Device::Cpu, value_name = "NAME")]
    device: gpus::Device,
    /// Cells side by side [default: one for every four cores, or every GPU, while memory lasts; with slurm as many as it allows]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    jobs: Option<u16>,
    /// An argument for sbatch, such as --sbatch-arg=--time=4:00:00; may be given again
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    sbatch_arg: Vec<String>,
    /// Run one cell of --out by its index in cells.json: what the jobs of a scheduler do
    #[arg(long, value_name = "INDEX", requires = "out")]
    cell: Option<usize>,
    /// Make the table of what is finished, and say what is missing
    #[arg(long)]
    report: bool,
    /// Show cells, progress and standing while runs go on, here or elsewhere
    #[arg(long, conflicts_with_all = ["cell", "report", "dry_run"])]
    watch: bool,
    /// Print the commands that would run, and nothing else
    #[arg(long)]
    dry_run: bool,
    /// Use this binary instead of building one
    #[arg(long, value_name = "FILE", hide = true)]
    pretext: Option<PathBuf>,
}

/// Where cells run.
#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
enum Launcher {
    /// On this machine, side by side
    Local,
    /// As job arrays of Slurm, and the table behind them
    Slurm,
    /// Nowhere: print the commands, for another scheduler or an indexed job of Kubernetes
    Print,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    if let (Some(index), Some(out)) = (args.cell, &args.out) {
        return one_cell(args, index, &std::path::absolute(out)?);
    }
    let mut matrix = Matrix::new(args)?;
    if args.watch {
        return watch::run(&matrix.out);
    }
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
    let mut pretext = Pretext::new(args.pretext.clone(), args.device);
    let wanted = cells::freeze(&mut matrix, &mut pretext)?;
    let recipe =
        toml::to_string(&matrix.recipe()).context("the recipe cannot be written as TOML")?;
    write_whole(&matrix.out.join("recipe.toml"), recipe.as_bytes())?;
    for former in ["pretrain", "cells"].map(|name| matrix.out.join(name)) {
        if former.is_dir() {
            say_error(&format!(
                "{} holds runs of an earlier version, which do not say what code made them: they do \
                 not count; delete it",
                short(&former)
            ));
        }
    }
    let cells = cells::read(&matrix.out)?;
    if !args.report {
        for step in &steps {
            // A record of something else is told before the first hour too.
            records::check(step, &matrix)?;
        }
        let binary = pretext.path()?;
        let base = slurm::base(&matrix.out, &binary, args.threads, args.device)?;
        let mut report = base.clone();
        let kept = matrix.out.join("recipe.toml").display().to_string();
        report.extend(["--report".into(), "--recipe".into(), kept]);
        let open: Vec<_> = wanted
            .iter()
            .map(|&index| &cells[index])
            .filter(|cell| !cell.is_done(&matrix.out))
            .collect();
        let jobs = args.jobs.map(usize::from);
        match args.launcher {
            Launcher::Local => {
                let (out, cells) = (&matrix.out, &cells[..]);
                let (threads, device) = (args.threads, args.device);
                launch::Local { out, cells, binary, jobs, threads, device }.run(&wanted)?;
            }
            Launcher::Print => {
                slurm::print(&base, &open, &report);
                return Ok(());
            }
            Launcher::Slurm => {
                let more = &args.sbatch_arg;
                return slurm::submit(&matrix.out, &base, &report, &open, jobs, more);
            }
        }
    }
    let (mut done, mut missing) = (Vec::new(), Vec::new());
    for (step, index) in steps.iter().zip(&wanted) {
        if records::counts(step, &matrix)? {
            done.push(step.clone());
        } else {
            missing.push(format!("{index} ({})", cells[*index].name));
        }
    }
    pictures(&mut pretext, &matrix, &done)?;
    let board = records::read(&done, &matrix)?;
    confusions::draw(&mut pretext, &matrix, &board)?;
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
    if !missing.is_empty() {
        bail!("{} of {} cells are missing: {}", missing.len(), wanted.len(), missing.join(", "))
    }
    Ok(())
}

/// Runs one frozen cell, unless data or code are no longer those it was frozen with.
fn one_cell(args: &Args, index: usize, out: &Path) -> Result<()> {
    let cells = cells::read(out)?;
    if cells.is_empty() {
        return Err(mistake(format!(
            "{} holds no cells.json; start a leaderboard with this --out first",
            short(out)
        )));
    }
    let mut pretext = Pretext::new(args.pretext.clone(), args.device);
    if let Some(cell) = cells.get(index).filter(|cell| !cell.is_done(out)) {
        let now = pretext.preview(&cell.arguments)?;
        if now["code"] != cell.code {
            bail!(
                "cell {index} was frozen with pretext {}, this is {}; start the leaderboard again",
                cell.code,
                now["code"]
            )
        }
        if now["fingerprint"] != cell.fingerprint.as_str() {
            bail!("cell {index}: the data changed since it was frozen; start the leaderboard again")
        }
    }
    let (cells, binary) = (&cells[..], pretext.path()?);
    let (threads, device) = (args.threads, args.device);
    launch::Local { out, cells, binary, jobs: Some(1), threads, device }.run_one(index)
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
