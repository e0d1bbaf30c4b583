//! Scoring on `val/`: one centre crop a picture, no tricks at inference time.

use std::path::Path;

use pretext_augment::{EvalCrop, Transform as _};
use pretext_data::{Buffers, Dataset, Picture};
use pretext_models::{Classifier, Mode};

use crate::batch::{self, NORMALISE};
use crate::control::Control;
use crate::error::{Error, Result};
use crate::lent::lend;
use crate::ranks::Word;
use crate::record::Score;
use crate::saved::{FileKind, WeightFile};
use crate::tally::Tally;
use crate::{embed, probe, run};

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
            let trained = file.classifier(control.device.tensors())?;
            let size = trained.recipe.common.size;
            let score = score(&trained.classifier, &trained.classes, &data, size, 64, control)?;
            Ok(Evaluation::Classifier(score.unwrap_or_default()))
        }
        _ => {
            let encoder = embed::FeatureEncoder::new(&file, control)?;
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

/// Scores a classifier of the `known` classes on `val/`; `None` where there is none. A picture of a
/// class that the classifier does not know counts as wrong.
pub(crate) fn score(
    classifier: &Classifier,
    known: &[String],
    data: &Dataset,
    size: u32,
    batch_size: usize,
    control: &mut Control<'_>,
) -> Result<Option<Score>> {
    let val = data.val();
    let place_of = places(data.classes(), known);
    let crop = EvalCrop::fastai(size);
    let view = move |_: usize, picture: Picture, [view]: [&mut [f32]; 1]| {
        centre_view(&crop, &picture, view);
    };
    let loader = run::evaluation_loader(batch_size, size, control);
    let mut tally = Tally::new(data.classes(), known);
    let buffers = Buffers::new([batch::numbers(size)]);
    let device = control.device.clone();
    for batch in loader.rows(&buffers, val.pictures(), (0..val.len()).collect(), view) {
        control.ranks.tell(Word::Busy)?;
        let (batch, views) = batch?;
        control.damaged(&batch.damaged);
        if batch.ids.is_empty() {
            continue;
        }
        let labels: Vec<u32> = batch.ids.iter().map(|&id| val.label(id)).collect();
        let place = |&label: &u32| place_of.get(label as usize).copied().flatten();
        let places: Vec<Option<u32>> = labels.iter().map(place).collect();
        lend(views, size, &buffers, device.tensors(), |[input]| {
            let logits = classifier.forward(input, Mode::Evaluate)?;
            let name = |id| val.pictures().name(id).ok();
            tally.logits(&logits, &labels, &places, &batch.ids, name)
        })?;
    }
    let score = tally.score();
    Ok(score.map(|score| Score { size: Some(size), views: Some(VIEWS), ..score }))
}

/// Writes one centre crop, as fastai validates: normalised `[3, H, W]`.
pub(crate) fn centre_view(crop: &EvalCrop, picture: &Picture, out: &mut [f32]) {
    // The centre crop draws nothing; the trait wants a stream all the same.
    let mut none = crate::streams::stream(0, 0, 0, crate::streams::Purpose::Augment);
    let plan = crop.sample(batch::size(picture), &mut none);
    batch::view(batch::borrowed(picture), &plan, &NORMALISE, out);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_matched_by_name() {
        let names = |names: &[&str]| names.iter().map(|&n| n.to_owned()).collect::<Vec<_>>();
        let found = places(&names(&["b", "c"]), &names(&["a", "b"]));
        assert_eq!(found, [Some(1), None]);
    }
}
