//! `pretext info`: what a path holds, in the file's own words.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use pretext_train::Error;
use pretext_train::checkpoint;
use pretext_train::data::Dataset;
use pretext_train::device::{self, Device};
use pretext_train::record::{InitialWeights, Machine, Pretrained, Record};
use pretext_train::saved::{FileKind, WeightFile};

use super::say;
use crate::args::InfoArgs;
use crate::failure;
use crate::progress::counted;

pub(super) fn run(args: &InfoArgs) -> Result<ExitCode> {
    let Some(path) = args.path.as_deref() else {
        machine()?;
        return Ok(failure::DONE);
    };
    if path.is_dir() {
        match Record::read(path)? {
            Some(record) => run_folder(&record)?,
            None => say(Dataset::open(path).map_err(Error::from)?.summary())?,
        }
        return Ok(failure::DONE);
    }
    if path.extension().is_some_and(|extension| extension == "tar" || extension == "parquet") {
        say(Dataset::open(path).map_err(Error::from)?.summary())?;
        return Ok(failure::DONE);
    }
    let file = WeightFile::open(path)?;
    if file.metadata().get("format").is_some_and(|format| format == "pretext-cache") {
        say(Dataset::open(path).map_err(Error::from)?.summary())?;
    } else if let Ok(standing) = checkpoint::inspect(path) {
        say(format_args!("checkpoint      {}", standing.recipe))?;
        say(format_args!("data            {}", standing.fingerprint))?;
        let (epochs, step) = (standing.epochs.len(), standing.step);
        let (epochs, steps) = (counted(epochs, "epoch"), counted(step, "step"));
        say(format_args!("stands behind   {epochs} and {steps}"))?;
    } else {
        weight_file(path, &file)?;
    }
    Ok(failure::DONE)
}

fn machine() -> Result<()> {
    let machine = Machine::this(0, 1, &Device::cpu());
    say(format_args!("processor       {}", machine.processor))?;
    say(format_args!("cores           {}", machine.cores))?;
    say(format_args!("system          {}", machine.system))?;
    say(format_args!("instructions    {}", machine.instructions))?;
    match device::gpus() {
        Err(why) => say(format_args!("GPUs            {why}")),
        Ok(names) => names
            .iter()
            .enumerate()
            .try_for_each(|(i, name)| say(format_args!("cuda:{i}          {name}"))),
    }
}

fn run_folder(record: &Record) -> Result<()> {
    let recipe = record.recipe.get("line").and_then(|line| line.as_str()).unwrap_or_default();
    say(format_args!("run             {} of {}", record.kind, record.started))?;
    say(format_args!("recipe          {recipe}"))?;
    say(format_args!("data            {} ({})", record.data.name, record.data.fingerprint))?;
    say(format_args!("trained on      {}", record.data.pretrained_on.join(", ")))?;
    say(format_args!("began with      {}", origin(&record.initial_weights)))?;
    let commit = record.code.commit.as_deref().unwrap_or("no commit known");
    say(format_args!("code            {} ({commit})", record.code.version))?;
    let machine = &record.machine;
    let device = &machine.device;
    let words = (machine.processor.as_str(), machine.threads);
    say(format_args!("machine         {}, {} threads, on {device}", words.0, words.1))?;
    say(format_args!("time            {:.1} s", record.seconds))?;
    match (record.result.accuracy, record.result.val_loss) {
        (Some(accuracy), _) => say(format_args!("val accuracy    {:.2} %", 100.0 * accuracy)),
        (None, Some(loss)) => say(format_args!("val loss        {loss:.4}")),
        (None, None) => Ok(()),
    }
}

fn weight_file(path: &Path, file: &WeightFile) -> Result<()> {
    let kind = match file.kind() {
        FileKind::Encoder => "encoder",
        FileKind::Classifier => "classifier",
        FileKind::Pretext => "whole pretext network",
        FileKind::Foreign => "tensors that no training run of ours saved",
    };
    say(format_args!("file            {}", path.display()))?;
    say(format_args!("holds           {kind}"))?;
    if let Some(encoder) = file.encoder() {
        say(format_args!("encoder         {encoder}"))?;
    }
    if let Some(pretrained) = file.provenance() {
        say(format_args!("trained         {}", history(&pretrained)))?;
    }
    for (key, value) in file.metadata() {
        say(format_args!("{key}  {value}"))?;
    }
    let count: usize = file.shapes().map(|(_, shape)| shape.iter().product::<usize>()).sum();
    say(format_args!("{count} numbers in {} tensors:", file.shapes().count()))?;
    for (name, shape) in file.shapes() {
        say(format_args!("  {name}  {shape:?}"))?;
    }
    Ok(())
}

fn history(pretrained: &Pretrained) -> String {
    let Pretrained { task, epochs, seed, pretrained_on, initial_weights, .. } = pretrained;
    format!(
        "{task}, {} on {}, seed {seed}, from {}",
        counted(*epochs as usize, "epoch"),
        pretrained_on.join(" and "),
        origin(initial_weights)
    )
}

fn origin(weights: &InitialWeights) -> String {
    match weights {
        InitialWeights::Random { seed, .. } => format!("random weights of seed {seed}"),
        InitialWeights::File { path, sha256, pretrained } => {
            let file = path.clone().unwrap_or_else(|| format!("a file of SHA-256 {sha256:.12}…"));
            let history = pretrained.as_ref().map(history);
            format!("{file} ({})", history.as_deref().unwrap_or("which says nothing of its origin"))
        }
    }
}
