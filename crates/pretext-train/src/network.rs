//! The network of a pretext task, and its loss.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use pretext_augment::{Plan, Size};
use pretext_data::Picture;
use pretext_models::{Builder, Classifier, Mode, Parameters, UNet, UNetOptions};

use crate::batch::{self, NORMALISE};
use crate::error::Result;
use crate::precision::Precision;
use crate::recipe::PretrainRecipe;
use crate::streams::{Purpose, stream};
use crate::tasks::{self, Goal, Puzzle};

/// A puzzle as the network sees it.
pub(crate) struct Posed {
    /// `[3, H, W]`, normalised.
    input: Vec<f32>,
    /// The clean picture in the same form.
    clean: Vec<f32>,
    class: u32,
}

impl Posed {
    /// Crops a picture, and makes a puzzle of what is left.
    pub(crate) fn new(picture: &Picture, crop: &Plan, pose: impl FnOnce(Size) -> Puzzle) -> Self {
        batch::on_canvas(batch::borrowed(picture), |canvas| {
            canvas.apply(crop);
            let clean = batch::numbers(canvas, &NORMALISE);
            let Puzzle { plan, class } = pose(canvas.size());
            canvas.apply(&plan);
            Self { input: batch::numbers(canvas, &NORMALISE), clean, class }
        })
    }
}

/// An encoder with what its pretext task needs on top.
pub(crate) struct PretextNetwork {
    parameters: Parameters,
    kind: Kind,
    size: u32,
    precision: Precision,
}

enum Kind {
    Restore { unet: Box<UNet>, sigmoid: bool },
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
                sigmoid: recipe.sigmoid,
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

    /// The mean loss of a batch.
    pub(crate) fn loss(&self, batch: &[Posed], mode: Mode) -> Result<Tensor> {
        let mut input = self.stack(batch.iter().map(|posed| &posed.input))?;
        if mode == Mode::Train {
            input = self.precision.cast(&input)?;
        }
        match &self.kind {
            Kind::Restore { .. } => {
                let clean = self.stack(batch.iter().map(|posed| &posed.clean))?;
                Ok(pretext_ops::mse_loss(&self.restore(&input, mode)?, &clean)?)
            }
            Kind::Classify(classifier) => {
                let classes = batch::labels(batch.iter().map(|posed| posed.class).collect())?;
                Ok(pretext_ops::cross_entropy(&classifier.forward(&input, mode)?, &classes, 0.0)?)
            }
        }
    }

    /// What the network makes of normalised `[N, 3, H, W]`, in the same form; the input itself for
    /// a task that classifies.
    pub(crate) fn restore(&self, input: &Tensor, mode: Mode) -> Result<Tensor> {
        match &self.kind {
            Kind::Restore { unet, sigmoid } => {
                let output = unet.forward(input, mode)?;
                Ok(if *sigmoid { batch::normalised(&output)? } else { output })
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
                Ok(Some(logits.argmax(1)?.to_vec1()?))
            }
        }
    }

    fn stack<'a>(&self, views: impl Iterator<Item = &'a Vec<f32>>) -> Result<Tensor> {
        Ok(batch::stack(&views.map(Vec::as_slice).collect::<Vec<_>>(), self.size)?)
    }
}
