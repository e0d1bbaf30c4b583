//! Recipes: everything that decides a result, as plain data that prints as one line.

use pretext_models::EncoderOptions;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::optimisers::{self, Rule};
use crate::precision::Precision;
use crate::schedule::{self, Schedule};
use crate::tasks;

/// What pretraining and fine-tuning have in common.
///
/// The defaults are the published in-painting recipe for Image网 (Varty, 2020): xresnet34, Ranger
/// at 8e-3, flat then cosine, weight decay 1e-2, batches of 64, crops of at least 0.35, flips.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Common {
    /// A name of [`pretext_models::ENCODERS`].
    pub encoder: String,
    /// Variants of that encoder.
    pub encoder_options: EncoderOptions,
    /// Width and height of what the network sees, in pixels.
    pub size: u32,
    /// What the network computes in.
    #[serde(default)]
    pub precision: Precision,
    /// Passes over the pictures.
    pub epochs: u32,
    /// Pictures a step.
    pub batch_size: usize,
    /// The highest learning rate.
    pub learning_rate: f64,
    /// How the rate moves.
    pub schedule: Schedule,
    /// How gradients become steps.
    pub optimiser: Rule,
    /// Decoupled; not on norms and biases.
    pub weight_decay: f64,
    /// The largest L2 norm of all gradients together; `None` does not clip.
    pub clip: Option<f64>,
    /// The smallest share of a picture's area that a training crop keeps.
    pub min_scale: f64,
    /// The probability of a horizontal flip.
    pub flip: f64,
    /// The seed of every random stream.
    pub seed: u64,
    /// Whether several processes normalise over their whole batch, as one process would, instead of
    /// each over its part. One process alone always does.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sync_batch_norm: bool,
}

impl Default for Common {
    fn default() -> Self {
        Self {
            encoder: "xresnet34".into(),
            encoder_options: EncoderOptions::default(),
            size: 128,
            precision: Precision::F32,
            epochs: 15,
            batch_size: 64,
            learning_rate: 8e-3,
            schedule: schedule::ALL[0].1,
            optimiser: optimisers::ALL[0].1,
            weight_decay: 1e-2,
            clip: None,
            min_scale: 0.35,
            flip: 0.5,
            seed: 0,
            sync_batch_norm: false,
        }
    }
}

/// A self-supervised pretraining run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PretrainRecipe {
    /// A name of [`tasks::ALL`].
    pub task: String,
    /// What the two kinds of run share.
    #[serde(flatten)]
    pub common: Common,
    /// The task's parameters.
    pub puzzle: tasks::Options,
    /// Whether a restoring network ends in a sigmoid.
    pub sigmoid: bool,
    /// Whether the pixels (never the labels) of `val/` are trained on, as every standing row of
    /// the public leaderboard did.
    pub include_val_pixels: bool,
}

impl Default for PretrainRecipe {
    fn default() -> Self {
        Self {
            task: "grey-blur".into(),
            common: Common::default(),
            puzzle: tasks::Options::default(),
            sigmoid: false,
            include_val_pixels: false,
        }
    }
}

/// A supervised training run, from random or pretrained weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FinetuneRecipe {
    /// What the two kinds of run share.
    #[serde(flatten)]
    pub common: Common,
    /// How much of the target is spread over all classes, `0..1`.
    pub label_smoothing: f64,
    /// Which layers learn.
    pub train: Layers,
    /// The alpha of mixup (Zhang et al., 2018); 0 does not mix.
    pub mixup: f64,
}

impl Default for FinetuneRecipe {
    fn default() -> Self {
        Self {
            common: Common { epochs: 5, ..Common::default() },
            label_smoothing: 0.1,
            train: Layers::All,
            mixup: 0.0,
        }
    }
}

/// Which layers fine-tuning trains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layers {
    /// All of them, at one learning rate: the published 5-epoch recipe.
    All,
    /// The head alone, on features that stay as they were pretrained (a linear probe).
    Head,
    /// All of them, the earlier the slower (Howard and Ruder, 2018): layer groups between a
    /// hundredth of the rate and the rate, evenly in the logarithm.
    Discriminative,
}

impl Layers {
    /// Every choice by its name on the command line.
    pub const ALL: &[(&str, Self)] =
        &[("all", Self::All), ("head", Self::Head), ("discriminative", Self::Discriminative)];

    /// The share of the learning rate that layer group `group` of `groups` gets; `None`: frozen.
    pub fn share(self, group: usize, groups: usize) -> Option<f64> {
        match self {
            Self::All => Some(1.0),
            Self::Head => (group + 1 == groups).then_some(1.0),
            Self::Discriminative => {
                let before_last = groups.saturating_sub(1 + group) as f64;
                Some(0.01_f64.powf(before_last / groups.saturating_sub(1).max(1) as f64))
            }
        }
    }
}

impl Common {
    /// Refuses numbers that make no sense.
    ///
    /// # Errors
    /// [`Error::Recipe`] or [`Error::Unknown`] naming the flag.
    pub fn check(&self) -> Result<()> {
        if !pretext_models::ENCODERS.iter().any(|spec| spec.name == self.encoder) {
            return Err(Error::Unknown {
                what: "encoder",
                name: self.encoder.clone(),
                known: names(pretext_models::ENCODERS.iter().map(|spec| spec.name)),
            });
        }
        at_least("--size", self.size as usize, 16)?;
        at_most("--size", self.size as usize, 2048)?;
        at_least("--epochs", self.epochs as usize, 1)?;
        at_least("--batch-size", self.batch_size, 2)?;
        let rate = self.learning_rate;
        require("--lr", rate > 0.0 && rate.is_finite(), || format!("{rate} is not above 0"))?;
        let decay = self.weight_decay;
        require("--weight-decay", decay >= 0.0 && decay.is_finite(), || {
            format!("{decay} is below 0")
        })?;
        let scale = self.min_scale;
        require("--min-scale", scale > 0.0 && scale <= 1.0, || {
            format!("{scale} is not above 0 and at most 1")
        })?;
        let flip = self.flip;
        require("--flip", (0.0..=1.0).contains(&flip), || format!("{flip} is not within 0..=1"))?;
        let clip = self.clip.unwrap_or(1.0);
        require("--clip", clip > 0.0 && clip.is_finite(), || format!("{clip} is not above 0"))
    }
}

impl PretrainRecipe {
    /// Refuses what makes no sense.
    ///
    /// # Errors
    /// [`Error::Recipe`] or [`Error::Unknown`] naming the flag.
    pub fn check(&self) -> Result<()> {
        tasks::by_name(&self.task)?;
        self.puzzle.check()?;
        self.common.check()
    }

    /// The recipe as one line.
    pub fn line(&self) -> String {
        let val = if self.include_val_pixels { ", with val pixels" } else { "" };
        format!("{} pretraining{val}, {}", self.task, self.common.line())
    }
}

impl FinetuneRecipe {
    /// Refuses what makes no sense.
    ///
    /// # Errors
    /// [`Error::Recipe`] or [`Error::Unknown`] naming the flag.
    pub fn check(&self) -> Result<()> {
        let smoothing = self.label_smoothing;
        require("--label-smoothing", (0.0..1.0).contains(&smoothing), || {
            format!("{smoothing} is not at least 0 and below 1")
        })?;
        let mixup = self.mixup;
        require("--mixup", mixup >= 0.0 && mixup.is_finite(), || format!("{mixup} is below 0"))?;
        self.common.check()
    }

    /// The recipe as one line.
    pub fn line(&self) -> String {
        let layers = Layers::ALL.iter().find(|(_, layers)| *layers == self.train);
        let mixup =
            if self.mixup > 0.0 { format!(", mixup {}", self.mixup) } else { String::new() };
        format!(
            "fine-tuning of {} layers, smoothing {}{mixup}, {}",
            layers.map_or("all", |(name, _)| name),
            self.label_smoothing,
            self.common.line()
        )
    }
}

impl Common {
    fn line(&self) -> String {
        format!(
            "{} at {} px{}, {} of batches of {}, {} at {} ({}), weight decay {}, crops from {}, seed {}",
            self.encoder,
            self.size,
            self.precision.words(),
            counted(self.epochs, "epoch"),
            self.batch_size,
            optimisers::ALL
                .iter()
                .find(|(_, rule)| {
                    std::mem::discriminant(rule) == std::mem::discriminant(&self.optimiser)
                })
                .map_or("", |(name, _)| name),
            self.learning_rate,
            schedule::ALL
                .iter()
                .find(|(_, schedule)| {
                    std::mem::discriminant(schedule) == std::mem::discriminant(&self.schedule)
                })
                .map_or("", |(name, _)| name),
            self.weight_decay,
            self.min_scale,
            self.seed,
        )
    }
}

/// `1 epoch`, `2 epochs`.
fn counted(count: u32, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// Names as a list for an error message.
pub(crate) fn names<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.collect::<Vec<_>>().join(", ")
}

/// [`Error::Recipe`] unless `fine`.
pub(crate) fn require(
    field: &'static str,
    fine: bool,
    problem: impl FnOnce() -> String,
) -> Result<()> {
    if fine { Ok(()) } else { Err(Error::Recipe { field, problem: problem() }) }
}

fn at_least(field: &'static str, value: usize, least: usize) -> Result<()> {
    require(field, value >= least, || format!("{value} is too small; give at least {least}"))
}

fn at_most(field: &'static str, value: usize, most: usize) -> Result<()> {
    require(field, value <= most, || format!("{value} is too large; give at most {most}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn discriminative_rates_are_even_in_the_logarithm() {
        let shares: Vec<_> =
            (0..3).map(|group| Layers::Discriminative.share(group, 3).unwrap()).collect();
        for (share, want) in shares.iter().zip([0.01, 0.1, 1.0]) {
            assert!((share - want).abs() < 1e-12, "{shares:?}");
        }
    }

    #[test]
    fn one_epoch_is_one() {
        let line = |epochs| {
            let common = Common { epochs, ..Common::default() };
            FinetuneRecipe { common, ..FinetuneRecipe::default() }.line()
        };
        assert!(line(1).contains(" px, 1 epoch of batches of "), "{}", line(1));
        assert!(line(20).contains(" px, 20 epochs of batches of "), "{}", line(20));
    }

    #[test]
    fn a_recipe_survives_json() {
        let recipe = PretrainRecipe::default();
        let text = serde_json::to_string(&recipe).unwrap();
        assert_eq!(serde_json::from_str::<PretrainRecipe>(&text).unwrap(), recipe);
    }

    #[track_caller]
    fn refused(change: impl Fn(&mut FinetuneRecipe), want: &str) {
        let mut recipe = FinetuneRecipe::default();
        change(&mut recipe);
        let error = recipe.check().unwrap_err();
        assert!(error.is_users_mistake());
        assert!(error.to_string().starts_with(want), "{error}");
    }

    #[test]
    fn nonsense_is_refused_by_flag() {
        refused(|r| r.common.size = 8, "--size: 8 is too small");
        refused(|r| r.common.epochs = 0, "--epochs: 0 is too small");
        refused(|r| r.common.batch_size = 1, "--batch-size: 1 is too small");
        refused(|r| r.common.learning_rate = f64::NAN, "--lr: NaN");
        refused(|r| r.common.min_scale = 0.0, "--min-scale: 0");
        refused(|r| r.common.flip = 1.5, "--flip: 1.5");
        refused(|r| r.common.clip = Some(0.0), "--clip: 0");
        refused(|r| r.label_smoothing = 1.0, "--label-smoothing: 1");
        refused(|r| r.mixup = -1.0, "--mixup: -1");
        refused(|r| r.common.encoder = "vgg".into(), "encoder \"vgg\" is unknown");
    }
}
