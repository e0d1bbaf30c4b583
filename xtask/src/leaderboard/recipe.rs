//! The leaderboard's recipe as TOML: what `--recipe FILE` reads, and what a leaderboard's folder
//! keeps as `recipe.toml`. Its keys are the flags that decide results.

use std::path::Path;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use super::Args;
use crate::{mistake, short};

/// What the tables `[pretrain]` and `[finetune]` both know: flags of the binary.
const BOTH: &[&str] = &[
    "activation",
    "clip",
    "flip",
    "lr",
    "min-scale",
    "optimiser",
    "pool",
    "precision",
    "schedule",
    "self-attention",
    "shortcut-pool",
    "squeeze-excite",
    "weight-decay",
    "zero-init-residual",
];
const PRETRAIN: &[&str] = &["permutations", "regions", "side", "sigma", "sigmoid", "tiles"];
const FINETUNE: &[&str] = &["label-smoothing", "mixup", "train"];

/// A recipe; what it leaves out has its default.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct Recipe {
    pub(super) data: Option<String>,
    pub(super) sizes: Option<Vec<u32>>,
    pub(super) epochs: Option<Vec<u32>>,
    pub(super) init: Option<Vec<String>>,
    pub(super) runs: Option<Vec<u32>>,
    pub(super) seed: Option<u64>,
    pub(super) pretrain_epochs: Option<u32>,
    pub(super) encoder: Option<String>,
    pub(super) batch_size: Option<usize>,
    pub(super) include_val_pixels: Option<bool>,
    #[serde(skip_serializing_if = "Table::is_empty")]
    pub(super) pretrain: Table,
    #[serde(skip_serializing_if = "Table::is_empty")]
    pub(super) finetune: Table,
}

impl Recipe {
    /// The recipe of a file, under the flags, which win.
    pub(super) fn of(args: &Args) -> Result<Self> {
        let mut recipe = args.recipe.as_deref().map_or(Ok(Self::default()), read)?;
        each_once("--sizes", &args.sizes)?;
        each_once("--epochs", &args.epochs)?;
        each_once("--init", &args.init)?;
        fn over<T: Clone>(flag: &Option<T>, key: &mut Option<T>) {
            if flag.is_some() {
                key.clone_from(flag);
            }
        }
        over(&args.data, &mut recipe.data);
        over(&args.sizes, &mut recipe.sizes);
        over(&args.epochs, &mut recipe.epochs);
        over(&args.init, &mut recipe.init);
        over(&args.runs, &mut recipe.runs);
        over(&args.seed, &mut recipe.seed);
        over(&args.pretrain_epochs, &mut recipe.pretrain_epochs);
        over(&args.encoder, &mut recipe.encoder);
        over(&args.batch_size, &mut recipe.batch_size);
        if args.include_val_pixels {
            recipe.include_val_pixels = Some(true);
        }
        Ok(recipe)
    }
}

/// Refuses a list that asks for nothing, or for the same runs twice: a run counts once.
fn each_once<T: PartialEq + std::fmt::Debug>(name: &str, list: &Option<Vec<T>>) -> Result<()> {
    let Some(list) = list else { return Ok(()) };
    if list.is_empty() {
        return Err(mistake(format!("{name}: the list is empty; name at least one")));
    }
    let again = list.iter().enumerate().find(|(i, one)| list[..*i].contains(one));
    again.map_or(Ok(()), |(_, one)| {
        Err(mistake(format!(
            "{name}: {one:?} is named twice; name it once, and say with --runs how often"
        )))
    })
}

fn read(path: &Path) -> Result<Recipe> {
    let name = short(path);
    let text = std::fs::read_to_string(path).map_err(|error| {
        mistake(format!("{name}: cannot be read; give --recipe a TOML file: {error}"))
    })?;
    let recipe: Recipe = toml::from_str(&text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start.min(text.len()));
        let number = text[..at].matches('\n').count();
        let line = text.lines().nth(number).unwrap_or_default().trim();
        let told = error.message().lines().collect::<Vec<_>>().join(" ");
        mistake(format!("{name}, line {}, `{line}`: {told}; mend that line", number + 1))
    })?;
    each_once(&format!("{name}: sizes"), &recipe.sizes)?;
    each_once(&format!("{name}: epochs"), &recipe.epochs)?;
    each_once(&format!("{name}: init"), &recipe.init)?;
    for (table, keys, more) in
        [("pretrain", &recipe.pretrain, PRETRAIN), ("finetune", &recipe.finetune, FINETUNE)]
    {
        for (key, value) in keys {
            let known: Vec<_> = BOTH.iter().chain(more).copied().collect();
            if !known.contains(&key.as_str()) {
                let known = known.join(", ");
                return Err(mistake(format!(
                    "{name}: [{table}] {key} is unknown; choose of {known}"
                )));
            }
            if matches!(value, Value::Array(_) | Value::Table(_) | Value::Datetime(_)) {
                return Err(mistake(format!(
                    "{name}: [{table}] {key} = {value} is no value of it; give a word, a number or true"
                )));
            }
        }
    }
    Ok(recipe)
}

/// A table's keys as flags of the binary.
pub(super) fn flags(table: &Table) -> Vec<String> {
    let flag = |(key, value): (&String, &Value)| match value {
        Value::Boolean(true) => vec![format!("--{key}")],
        Value::Boolean(false) => Vec::new(),
        Value::String(word) => vec![format!("--{key}"), word.clone()],
        number => vec![format!("--{key}"), number.to_string()],
    };
    table.iter().flat_map(flag).collect()
}
