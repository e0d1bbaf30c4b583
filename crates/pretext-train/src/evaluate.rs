//! Scoring on `val/`: one centre crop a picture, no tricks at inference time.

use std::path::Path;

use candle_core::Tensor;
use pretext_augment::{EvalCrop, Transform as _};
use pretext_data::{Buffers, Dataset, Picture};
use pretext_models::{Classifier, Mode};

use crate::batch::{self, NORMALISE};
use crate::control::Control;
use crate::error::{Error, Result};
use crate::lent::lend;
use crate::record::{ClassScore, Score};
use crate::saved::{FileKind, WeightFile};
use crate::{embed, probe, run};

/// Label smoothing plays no part in a score: the loss is plain cross-entropy.
const NO_SMOOTHING: f64 = 0.0;

/// How good weights are, by what the file holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Evaluation {
    /// A classifier's own answers.
    Classifier(Score),
    /// An encoder has no answers; these are of simple classifiers on its frozen features, which
    /// learn from `train/` and are scored on `val/`.
    Encoder {
        /// Of the 20 nearest neighbours (Wu et al., 2018).
        neighbours: Score,
        /// Of a softmax regression.
        linear: Score,
    },
}

/// An answer comes from one view, the centre crop of [`centre_view`]: no test-time augmentation.
const VIEWS: u32 = 1;

/// Scores a weight file on the `val/` of a data set.
///
/// A classifier answers itself. An encoder of ours, or a pretrained one from elsewhere that
/// [`pretext_models::frozen`] knows, is judged by its features.
///
/// # Errors
/// If a file cannot be read, does not fit, or the data set has no `val/`.
pub fn evaluate(weights: &Path, data: &Path, control: &mut Control<'_>) -> Result<Evaluation> {
    let data = Dataset::open(data)?;
    if data.val().is_empty() {
        let problem = "has no val/<class>/ pictures to score on".into();
        return Err(Error::DataSet { path: data.root().to_owned(), problem });
    }
    let file = WeightFile::read(weights)?;
    run::in_pool(control.threads, || match file.kind() {
        FileKind::Classifier => {
            let trained = file.classifier()?;
            let size = trained.recipe.common.size;
            let known = places(data.classes(), &trained.classes);
            let score = score_known(&trained.classifier, &data, size, 64, control, |label| {
                known.get(label as usize).copied().flatten()
            })?;
            Ok(Evaluation::Classifier(score.unwrap_or_default()))
        }
        _ => {
            let encoder = embed::FeatureEncoder::new(&file)?;
            let train = embed::features(&encoder, data.train().pictures(), control)?;
            let val = embed::features(&encoder, data.val().pictures(), control)?;
            let task = probe::Task::new(&data, train, val)?;
            Ok(Evaluation::Encoder {
                neighbours: task.nearest_neighbours()?,
                linear: task.linear()?,
            })
        }
    })
}

/// Where each of the data set's classes is in the classifier's list.
fn places(data: &[String], known: &[String]) -> Vec<Option<u32>> {
    data.iter()
        .map(|class| known.iter().position(|name| name == class).map(|place| place as u32))
        .collect()
}

/// Scores a classifier on `val/`; `None` where there is none.
pub(crate) fn score(
    classifier: &Classifier,
    data: &Dataset,
    size: u32,
    batch_size: usize,
    control: &mut Control<'_>,
) -> Result<Option<Score>> {
    score_known(classifier, data, size, batch_size, control, Some)
}

/// Scores a classifier; `place_of` turns the data set's labels into the classifier's. A picture of
/// a class that the classifier does not know counts as wrong.
fn score_known(
    classifier: &Classifier,
    data: &Dataset,
    size: u32,
    batch_size: usize,
    control: &mut Control<'_>,
    place_of: impl Fn(u32) -> Option<u32>,
) -> Result<Option<Score>> {
    let val = data.val();
    let crop = EvalCrop::fastai(size);
    let view = move |_: usize, picture: Picture, [view]: [&mut [f32]; 1]| {
        centre_view(&crop, &picture, view);
    };
    let loader = run::evaluation_loader(batch_size, size, control);
    let mut tally = Tally::new(data.classes().len());
    let buffers = Buffers::new([batch::numbers(size)]);
    for batch in loader.rows(&buffers, val.pictures(), (0..val.len()).collect(), view) {
        let (batch, views) = batch?;
        control.damaged(&batch.damaged);
        if batch.ids.is_empty() {
            continue;
        }
        let labels: Vec<u32> = batch.ids.iter().map(|&id| val.label(id)).collect();
        let places: Vec<Option<u32>> = labels.iter().map(|&label| place_of(label)).collect();
        lend(views, size, &buffers, |[input]| {
            let logits = classifier.forward(input, Mode::Evaluate)?;
            let answers = logits.argmax(1)?.to_vec1::<u32>()?;
            tally.answers(&labels, &places, &answers);
            tally.losses(&logits, &places)
        })?;
    }
    let score = tally.score(data.classes());
    Ok(score.map(|score| Score { size: Some(size), views: Some(VIEWS), ..score }))
}

/// Writes one centre crop, as fastai validates: normalised `[3, H, W]`.
pub(crate) fn centre_view(crop: &EvalCrop, picture: &Picture, out: &mut [f32]) {
    // The centre crop draws nothing; the trait wants a stream all the same.
    let mut none = crate::streams::stream(0, 0, 0, crate::streams::Purpose::Augment);
    let plan = crop.sample(batch::size(picture), &mut none);
    batch::view(batch::borrowed(picture), &plan, &NORMALISE, out);
}

/// Right and wrong answers, by class.
pub(crate) struct Tally {
    correct: Vec<usize>,
    total: Vec<usize>,
    loss: f64,
    losses: usize,
}

impl Tally {
    pub(crate) fn new(classes: usize) -> Self {
        Self { correct: vec![0; classes], total: vec![0; classes], loss: 0.0, losses: 0 }
    }

    /// Counts answers: `labels` are the data set's classes, `places` what would have been right.
    pub(crate) fn answers(&mut self, labels: &[u32], places: &[Option<u32>], answers: &[u32]) {
        for ((&label, place), &answer) in labels.iter().zip(places).zip(answers) {
            let Some(total) = self.total.get_mut(label as usize) else { continue };
            *total += 1;
            self.correct[label as usize] += usize::from(*place == Some(answer));
        }
    }

    fn losses(&mut self, logits: &Tensor, places: &[Option<u32>]) -> Result<()> {
        // A class that the classifier does not know has no loss.
        if let Some(places) = places.iter().copied().collect::<Option<Vec<u32>>>() {
            let count = places.len();
            let loss = pretext_ops::cross_entropy(logits, &batch::labels(places)?, NO_SMOOTHING)?;
            self.loss += f64::from(loss.to_scalar::<f32>()?) * count as f64;
            self.losses += count;
        }
        Ok(())
    }

    /// The score, or `None` if nothing was counted.
    pub(crate) fn score(&self, classes: &[String]) -> Option<Score> {
        let (correct, total) = (self.correct.iter().sum(), self.total.iter().sum());
        let per_class = classes.iter().zip(self.correct.iter().zip(&self.total));
        (total > 0).then(|| Score {
            val_loss: (self.losses > 0).then(|| self.loss / self.losses as f64),
            accuracy: Some(correct as f64 / total as f64),
            correct: Some(correct),
            total: Some(total),
            size: None,
            views: None,
            per_class: per_class
                .filter(|(_, (_, total))| **total > 0)
                .map(|(class, (&correct, &total))| ClassScore {
                    class: class.clone(),
                    correct,
                    total,
                })
                .collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_class_counts_as_wrong() {
        let mut tally = Tally::new(2);
        tally.answers(&[0, 0, 1], &[Some(5), Some(5), None], &[5, 4, 0]);
        let score = tally.score(&["cat".into(), "dog".into()]).unwrap();
        assert_eq!((score.correct, score.total), (Some(1), Some(3)));
        assert_eq!(score.per_class[1], ClassScore { class: "dog".into(), correct: 0, total: 1 });
    }

    #[test]
    fn classes_are_matched_by_name() {
        let names = |names: &[&str]| names.iter().map(|&n| n.to_owned()).collect::<Vec<_>>();
        let found = places(&names(&["b", "c"]), &names(&["a", "b"]));
        assert_eq!(found, [Some(1), None]);
    }
}
