//! Classes and probabilities of single pictures.

use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{D, Device};
use pretext_augment::EvalCrop;
use pretext_data::Decoder;
use pretext_models::Mode;
use serde::Serialize;

use crate::error::{AtPath as _, Error, Result};
use crate::saved::{FileKind, TrainedClassifier, WeightFile};
use crate::{batch, evaluate, run};

/// A classifier at work on single pictures.
pub struct Predictor {
    trained: TrainedClassifier,
}

/// What the classifier makes of one picture.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Prediction {
    /// The picture's file.
    pub image: PathBuf,
    /// The most probable class.
    pub class: String,
    /// Its probability, `0..=1`.
    pub probability: f32,
    /// The five most probable classes, the best first.
    pub top: Vec<(String, f32)>,
}

/// Classes listed for each picture.
const TOP: usize = 5;

impl Predictor {
    /// The classifier of a weight file.
    ///
    /// # Errors
    /// If the file cannot be read or is of something else.
    pub fn open(weights: &Path) -> Result<Self> {
        let file = WeightFile::open(weights)?;
        if file.kind() != FileKind::Classifier {
            return Err(file.refuse("give the classifier.safetensors of a fine-tuning run"));
        }
        Ok(Self { trained: file.classifier(&Device::Cpu)? })
    }

    /// The class of one picture.
    ///
    /// # Errors
    /// If the file cannot be read or is no picture.
    pub fn predict(&self, image: &Path) -> Result<Prediction> {
        let bytes = fs::read(image).at(image)?;
        let TrainedClassifier { classifier, recipe, classes } = &self.trained;
        let size = recipe.common.size;
        let mut decoder = Decoder::reducing_to(Some(run::evaluation_side(size)));
        let picture = decoder.decode(&bytes).map_err(|error| Error::File {
            path: image.to_owned(),
            problem: format!("is not a picture that can be read ({error})"),
        })?;
        let mut view = vec![0.0; batch::numbers(size)];
        evaluate::centre_view(&EvalCrop::fastai(size), &picture, &mut view);
        let logits = classifier.forward(&batch::tensor(view, size)?, Mode::Evaluate)?;
        let probabilities =
            candle_nn::ops::softmax(&logits, D::Minus1)?.get(0)?.to_vec1::<f32>()?;
        let mut top: Vec<_> = classes.iter().cloned().zip(probabilities).collect();
        top.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        top.truncate(TOP);
        let (class, probability) = top.first().cloned().unwrap_or_default();
        Ok(Prediction { image: image.to_owned(), class, probability, top })
    }
}
