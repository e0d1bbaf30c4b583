//! The network of a pretext task, and its loss.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};
use pretext_augment::{Plan, Size};
use pretext_data::{Buffers, Picture};
use pretext_models::{Builder, Classifier, Mode, Parameters, UNet, UNetOptions};

use crate::batch::{self, Form, NORMALISE, Normalising};
use crate::error::Result;
use crate::precision::Precision;
use crate::recipe::PretrainRecipe;
use crate::streams::{Purpose, stream};
use crate::tally;
use crate::tasks::{self, Goal, Puzzle};

/// Crops a picture, makes a puzzle of what is left, and writes both as the network sees them,
/// normalised `[3, H, W]`: the puzzle to `input`, the clean picture to `clean` if that has room.
/// Returns the puzzle's class.
pub(crate) fn pose(
    picture: &Picture,
    crop: &Plan,
    [input, clean]: [&mut [f32]; 2],
    pose: impl FnOnce(Size) -> Puzzle,
) -> u32 {
    batch::on_canvas(batch::borrowed(picture), |canvas| {
        canvas.apply(crop);
        if !clean.is_empty() {
            batch::write(canvas, &NORMALISE, clean);
        }
        let Puzzle { plan, class } = pose(canvas.size());
        canvas.apply(&plan);
        batch::write(canvas, &NORMALISE, input);
        class
    })
}

/// An encoder with what its pretext task needs on top.
pub(crate) struct PretextNetwork {
    parameters: Parameters,
    kind: Kind,
    size: u32,
    precision: Precision,
}

enum Kind {
    Restore {
        unet: Box<UNet>,
        /// If it ends in a sigmoid.
        sigmoid: Option<Normalising>,
    },
    Classify(Box<Classifier>),
}

impl PretextNetwork {
    /// The recipe's network with random weights from the recipe's seed.
    pub(crate) fn new(recipe: &PretrainRecipe, device: &Device) -> Result<Self> {
        let common = &recipe.common;
        let parameters = Parameters::new(device);
        let mut rng = stream(common.seed, 0, 0, Purpose::Weights);
        let builder = Builder::new(&parameters, &mut rng);
        let options = &common.encoder_options;
        let kind = match tasks::by_name(&recipe.task)?.goal(&recipe.puzzle) {
            Goal::Restore => Kind::Restore {
                unet: Box::new(UNet::new(
                    &common.encoder,
                    options,
                    common.size as usize,
                    &UNetOptions { sigmoid: recipe.sigmoid, ..UNetOptions::default() },
                    builder,
                )?),
                sigmoid: recipe.sigmoid.then(|| Normalising::on(device)).transpose()?,
            },
            Goal::Classify(classes) => Kind::Classify(Box::new(Classifier::new(
                &common.encoder,
                options,
                classes,
                builder,
            )?)),
        };
        Ok(Self { parameters, kind, size: common.size, precision: common.precision })
    }

    pub(crate) fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// The encoder's tensors under the encoder's own names.
    pub(crate) fn encoder_tensors(&self) -> BTreeMap<String, Tensor> {
        match &self.kind {
            Kind::Restore { unet, .. } => unet.encoder_tensors(&self.parameters),
            Kind::Classify(classifier) => classifier.encoder_tensors(&self.parameters),
        }
    }

    /// Whether clean pictures are what it should give.
    pub(crate) fn restores(&self) -> bool {
        matches!(self.kind, Kind::Restore { .. })
    }

    /// Memory for batches of [`pose`]: the puzzles, and, where there is something to restore, the
    /// clean pictures.
    pub(crate) fn buffers(&self) -> Buffers<f32, 2> {
        let numbers = batch::numbers(self.size);
        Buffers::new([numbers, if self.restores() { numbers } else { 0 }])
    }

    /// How a GPU writes the puzzles and the clean pictures for a network that computes in a precision.
    pub(crate) fn forms(precision: Precision) -> [Form; 2] {
        [batch::seen(precision), batch::CLEAN]
    }

    /// The mean loss of a batch of puzzles, `[N, 3, H, W]` and normalised, with the clean pictures
    /// (none for a task that classifies) and the class of each.
    pub(crate) fn loss(
        &self,
        [input, clean]: &[Tensor; 2],
        classes: &[u32],
        mode: Mode,
    ) -> Result<Tensor> {
        let mut input = input.clone();
        if mode == Mode::Train {
            input = self.precision.cast(&input)?;
        }
        match &self.kind {
            Kind::Restore { .. } => Ok(pretext_ops::mse_loss(&self.restore(&input, mode)?, clean)?),
            Kind::Classify(classifier) => {
                let classes = batch::labels(classes.to_vec())?;
                Ok(pretext_ops::cross_entropy(&classifier.forward(&input, mode)?, &classes, 0.0)?)
            }
        }
    }

    /// Computes the gradients of a batch of so many blank pictures, and forgets them.
    pub(crate) fn try_step(&self, count: usize) -> Result<()> {
        let (side, device) = (self.size as usize, self.parameters.device());
        let puzzles = batch::blank(count, self.size, self.precision, device)?;
        let clean = Tensor::zeros((count, 3, side, side), DType::F32, device)?;
        let loss = self.loss(&[puzzles, clean], &vec![0; count], Mode::Train)?;
        pretext_ops::backward(&loss)?;
        Ok(())
    }

    /// What the network makes of normalised `[N, 3, H, W]`, in the same form; the input itself for
    /// a task that classifies.
    pub(crate) fn restore(&self, input: &Tensor, mode: Mode) -> Result<Tensor> {
        match &self.kind {
            Kind::Restore { unet, sigmoid } => {
                let output = unet.forward(input, mode)?;
                Ok(match sigmoid {
                    Some(normalising) => normalising.of(&output)?,
                    None => output,
                })
            }
            Kind::Classify(_) => Ok(input.clone()),
        }
    }

    /// The class of each picture, for a task that classifies.
    pub(crate) fn classes(&self, input: &Tensor) -> Result<Option<Vec<u32>>> {
        match &self.kind {
            Kind::Restore { .. } => Ok(None),
            Kind::Classify(classifier) => {
                let logits = classifier.forward(input, Mode::Evaluate)?;
                Ok(Some(tally::answers(&logits)?))
            }
        }
    }
}
