//! Flags of a recipe: what pretraining and fine-tuning have in common, and a task's parameters.

use std::str::FromStr;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser as _};
use pretext_train::models::{self, Activation, EncoderOptions, ShortcutPool, StemPool};
use pretext_train::optimisers::{self, Rule};
use pretext_train::precision::Precision;
use pretext_train::recipe::Common;
use pretext_train::schedule::{self, Schedule};
use pretext_train::tasks;

/// What pretraining and fine-tuning have in common.
#[derive(clap::Args)]
pub(super) struct CommonArgs {
    /// The network
    #[arg(long, value_name = "NAME", default_value = "xresnet34", value_parser = encoder_names())]
    encoder: String,
    /// Width and height of what the network sees, in pixels
    #[arg(long, value_name = "PX", default_value_t = Common::default().size)]
    size: u32,
    /// Pictures a step
    #[arg(long, value_name = "N", default_value_t = Common::default().batch_size)]
    batch_size: usize,
    /// The highest learning rate
    #[arg(long, value_name = "RATE", default_value_t = Common::default().learning_rate)]
    lr: f64,
    /// Seed of every random stream
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// What the network computes in; weights are f32 always, scores are taken in f32 on the processor. f16
    /// is for GPUs alone, and scales losses
    #[arg(long, value_name = "NAME", default_value = "f32", value_parser = table(Precision::ALL))]
    precision: Precision,
    /// How gradients become steps
    #[arg(long, value_name = "NAME", default_value = optimisers::ALL[0].0, value_parser = table(optimisers::ALL), help_heading = "Recipe")]
    optimiser: Rule,
    /// How the learning rate moves
    #[arg(long, value_name = "NAME", default_value = schedule::ALL[0].0, value_parser = table(schedule::ALL), help_heading = "Recipe")]
    schedule: Schedule,
    /// Decoupled weight decay; norms and biases are spared
    #[arg(long, value_name = "SHARE", default_value_t = Common::default().weight_decay, help_heading = "Recipe")]
    weight_decay: f64,
    /// Largest L2 norm of all gradients together [default: no clipping]
    #[arg(long, value_name = "NORM", help_heading = "Recipe")]
    clip: Option<f64>,
    /// Smallest share of a picture's area that a training crop keeps
    #[arg(long, value_name = "SHARE", default_value_t = Common::default().min_scale, help_heading = "Recipe")]
    min_scale: f64,
    /// Probability of a horizontal flip
    #[arg(long, value_name = "P", default_value_t = Common::default().flip, help_heading = "Recipe")]
    flip: f64,
    /// The encoder's activation
    #[arg(long, value_name = "NAME", default_value = "relu", value_parser = table(ACTIVATIONS), help_heading = "Recipe")]
    activation: Activation,
    /// How an xresnet's stem is halved
    #[arg(long, value_name = "NAME", default_value = "max", value_parser = table(STEM_POOLS), help_heading = "Recipe")]
    pool: StemPool,
    /// How an xresnet's shortcuts halve a picture
    #[arg(long, value_name = "NAME", default_value = "avg", value_parser = table(SHORTCUT_POOLS), help_heading = "Recipe")]
    shortcut_pool: ShortcutPool,
    /// Give the encoder self-attention (xresnet)
    #[arg(long, help_heading = "Recipe")]
    self_attention: bool,
    /// Give the encoder squeeze-and-excitation (xresnet)
    #[arg(long, help_heading = "Recipe")]
    squeeze_excite: bool,
    /// Where several processes share the run, normalise over their whole batch, as one would, and
    /// not over the part of each
    #[arg(long, help_heading = "Recipe")]
    sync_batch_norm: bool,
    /// Begin a resnet's blocks as their shortcuts; xresnets always do
    #[arg(long, help_heading = "Recipe")]
    zero_init_residual: bool,
}

const ACTIVATIONS: &[(&str, Activation)] =
    &[("relu", Activation::Relu), ("mish", Activation::Mish)];
const STEM_POOLS: &[(&str, StemPool)] =
    &[("max", StemPool::Max), ("avg", StemPool::Avg), ("max-blur", StemPool::MaxBlur)];
const SHORTCUT_POOLS: &[(&str, ShortcutPool)] =
    &[("avg", ShortcutPool::Avg), ("max", ShortcutPool::Max), ("max-blur", ShortcutPool::MaxBlur)];

/// A task's parameters.
#[derive(clap::Args)]
pub(super) struct PuzzleArgs {
    /// Rectangles of grey-blur, grey and inpaint: fewest..most
    #[arg(long, value_name = "A..B", default_value = "5..9", help_heading = "Task")]
    regions: Span<u32>,
    /// Their sides, in pixels of a 128 px picture, scaled to --size: shortest..longest
    #[arg(long, value_name = "A..B", default_value = "5..49", help_heading = "Task")]
    side: Span<u32>,
    /// Standard deviation of grey-blur's blur, in pixels of a 128 px picture: smallest..largest
    #[arg(long, value_name = "A..B", default_value = "2..6", help_heading = "Task")]
    sigma: Span<f32>,
    /// Tiles a side of jigsaw, 2 or 3
    #[arg(long, value_name = "N", default_value_t = 3, help_heading = "Task")]
    tiles: u32,
    /// Orders of tiles that jigsaw tells apart
    #[arg(long, value_name = "N", default_value_t = 30, help_heading = "Task")]
    permutations: usize,
}

impl PuzzleArgs {
    pub(super) fn options(&self) -> tasks::Options {
        tasks::Options {
            regions: (self.regions.0, self.regions.1),
            side: (self.side.0, self.side.1),
            sigma: (self.sigma.0, self.sigma.1),
            tiles: self.tiles,
            permutations: self.permutations,
        }
    }
}

impl CommonArgs {
    pub(super) fn recipe(&self, epochs: u32) -> Common {
        Common {
            encoder: self.encoder.clone(),
            encoder_options: EncoderOptions {
                activation: self.activation,
                pool: self.pool,
                shortcut_pool: self.shortcut_pool,
                self_attention: self.self_attention,
                squeeze_excite: self.squeeze_excite,
                zero_init_residual: self.zero_init_residual,
            },
            size: self.size,
            precision: self.precision,
            epochs,
            batch_size: self.batch_size,
            learning_rate: self.lr,
            schedule: self.schedule,
            optimiser: self.optimiser,
            weight_decay: self.weight_decay,
            clip: self.clip,
            min_scale: self.min_scale,
            flip: self.flip,
            seed: self.seed,
            sync_batch_norm: self.sync_batch_norm,
        }
    }
}

/// An inclusive range, spelt `A..B` or `A`.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Span<T>(T, T);

impl<T: FromStr + Copy> FromStr for Span<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (low, high) = text.split_once("..").unwrap_or((text, text));
        let number = |text: &str| {
            text.trim().parse().map_err(|_| format!("{text:?} is no such number; give A..B"))
        };
        Ok(Self(number(low)?, number(high)?))
    }
}

fn encoder_names() -> PossibleValuesParser {
    models::ENCODERS.iter().map(|spec| PossibleValue::new(spec.name).help(spec.about)).into()
}

/// A flag that names an entry of a table.
pub(super) fn table<T: Clone + Send + Sync + 'static>(
    table: &'static [(&'static str, T)],
) -> impl clap::builder::TypedValueParser<Value = T> {
    PossibleValuesParser::from(table.iter().map(|(name, _)| PossibleValue::new(*name))).try_map(
        move |name: String| {
            let entry = table.iter().find(|(entry, _)| *entry == name);
            entry.map(|(_, value)| value.clone()).ok_or("unknown")
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        assert_eq!("5..9".parse(), Ok(Span(5, 9)));
        assert_eq!("4".parse(), Ok(Span(4, 4)));
        assert!("a..b".parse::<Span<u32>>().is_err());
    }
}
