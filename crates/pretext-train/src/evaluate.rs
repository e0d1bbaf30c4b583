//! Scoring on `val/`: one centre crop a picture, no tricks at inference time.

use std::path::Path;

use candle_core::Tensor;
use pretext_augment::{EvalCrop, Plan, Size, Transform as _};
use pretext_data::{Buffers, Dataset, Loader, Picture};
use pretext_models::{Classifier, Mode};

use crate::batch::{self, NORMALISE};
use crate::control::Control;
use crate::error::{Error, Result};
use crate::lent::lend;
use crate::precision::Precision;
use crate::ranks::Word;
use crate::record::Score;
use crate::results::Results;
use crate::saved::{FileKind, WeightFile};
use crate::source::{Batches, Source, lent};
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

/// Pictures a step of [`evaluate`]; scores do not depend on it.
const BATCH: usize = 64;

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
    let file = WeightFile::open(weights)?;
    run::in_pool(control.threads, || match file.kind() {
        FileKind::Classifier => {
            let trained = file.classifier(control.device.tensors())?;
            let common = &trained.recipe.common;
            let known = Known { classifier: &trained.classifier, classes: &trained.classes };
            let loader = run::evaluation_loader(BATCH, common.size, control);
            let source = Source::once(control.device.tensors())?;
            let views = (source.as_ref(), &loader);
            let score = score(known, &data, views, (common.size, common.precision), control)?;
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

/// A classifier and the classes that it knows.
pub(crate) struct Known<'a> {
    pub(crate) classifier: &'a Classifier,
    pub(crate) classes: &'a [String],
}

/// Scores a classifier on `val/`, which was trained on pictures of that size in that precision; `None`
/// where there is none. A picture of a class that the classifier does not know counts as wrong. Views
/// come from the source on a GPU, else from the loader.
pub(crate) fn score(
    Known { classifier, classes: known }: Known<'_>,
    data: &Dataset,
    (source, loader): (Option<&Source>, &Loader),
    (size, trained): (u32, Precision),
    control: &mut Control<'_>,
) -> Result<Option<Score>> {
    let val = data.val();
    let place_of = places(data.classes(), known);
    let crop = EvalCrop::fastai(size);
    let mut tally = Tally::new(data.classes(), known);
    let buffers = Buffers::new([batch::numbers(size)]);
    let device = control.device.clone();
    let order: Vec<usize> = (0..val.len()).collect();
    let batches: Batches<'_, (), 1> = match source {
        Some(there) => {
            let view = move |_, size| ([Some(centre(&crop, size))], ());
            let form = batch::seen(device.scores_in(trained));
            there.batches((val.pictures(), loader), &order, [form], view)
        }
        None => {
            let view = move |_: usize, picture: Picture, [view]: [&mut [f32]; 1]| {
                centre_view(&crop, &picture, view);
            };
            lent(loader.rows(&buffers, val.pictures(), order.clone(), view))
        }
    };
    let mut note = |read: Vec<(Tensor, Vec<usize>)>| -> Result<()> {
        for (logits, ids) in read {
            let labels: Vec<u32> = ids.iter().map(|&id| val.label(id)).collect();
            let place = |&label: &u32| place_of.get(label as usize).copied().flatten();
            let places: Vec<Option<u32>> = labels.iter().map(place).collect();
            let name = |id| val.pictures().name(id).ok();
            tally.logits(&logits, &labels, &places, &ids, name)?;
        }
        Ok(())
    };
    let mut answers = Results::new(&device);
    for batch in batches {
        control.ranks.tell(Word::Busy)?;
        let (batch, views) = batch?;
        control.damaged(&batch.damaged);
        if batch.ids.is_empty() {
            continue;
        }
        let logits = lend(views, size, &buffers, device.tensors(), |[input]| {
            classifier.forward(input, Mode::Evaluate)
        })?;
        note(answers.push(&logits, batch.ids)?)?;
    }
    note(answers.read()?)?;
    let score = tally.score();
    Ok(score.map(|score| Score { size: Some(size), views: Some(VIEWS), ..score }))
}

/// One centre crop of a picture of a size, as fastai validates.
pub(crate) fn centre(crop: &EvalCrop, size: Size) -> Plan {
    // The centre crop draws nothing; the trait wants a stream all the same.
    let mut none = crate::streams::stream(0, 0, 0, crate::streams::Purpose::Augment);
    crop.sample(size, &mut none)
}

/// Writes it: normalised `[3, H, W]`.
pub(crate) fn centre_view(crop: &EvalCrop, picture: &Picture, out: &mut [f32]) {
    let plan = centre(crop, batch::size(picture));
    batch::view(batch::borrowed(picture), &plan, &NORMALISE, out);
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;
    use crate::device::Device;
    use crate::ranks::Ranks;
    use crate::recipe::{Common, FinetuneRecipe};
    use crate::saved;
    use crate::source::tests::{SIDE, resident};

    /// Views that a GPU's memory makes are scored as those of the loader.
    #[test]
    fn a_source_and_the_loader_give_one_score() {
        let folder = tempfile::tempdir().unwrap();
        for (i, split) in (0..23_u8).flat_map(|i| ["train", "val"].map(|split| (i, split))) {
            let class = folder.path().join(format!("{split}/{}", i % 3));
            fs::create_dir_all(&class).unwrap();
            let path = class.join(format!("{i:02}.png"));
            if i == 4 {
                fs::write(path, b"no picture").unwrap();
                continue;
            }
            let pixel = |x, y| image::Rgb([(9 * x) as u8, (7 * y) as u8, 11 * i]);
            image::RgbImage::from_fn(20 + u32::from(i), 24, pixel).save(path).unwrap();
        }
        let data = Dataset::open(folder.path()).unwrap();
        let common = Common { encoder: "xresnet18".into(), size: SIDE, ..Common::default() };
        let recipe = FinetuneRecipe { common, ..FinetuneRecipe::default() };
        let (classifier, _) = saved::new_classifier(&recipe, 3, &candle_core::Device::Cpu).unwrap();
        let (ranks, stop) = (Ranks::alone(), AtomicBool::new(false));
        let damaged = AtomicUsize::new(0);
        let mut control = Control {
            device: Device::cpu(),
            threads: 2,
            strict: false,
            resume: false,
            wait: false,
            job: None,
            ranks: &ranks,
            stop: &stop,
            checkpoint_every: Duration::MAX,
            report: &mut |_| {
                damaged.fetch_add(1, Ordering::Relaxed);
            },
        };
        let loader = run::evaluation_loader(5, SIDE, &control);
        let source = resident(data.val().pictures(), &loader);
        let mut score = |source| {
            let known = Known { classifier: &classifier, classes: data.classes() };
            let how = (SIDE, Precision::Bf16);
            score(known, &data, (source, &loader), how, &mut control).unwrap().unwrap()
        };
        let (there, here) = (score(Some(&source)), score(None));
        assert_eq!((there.total, damaged.into_inner()), (Some(22), 2));
        assert!(there.val_loss.is_some_and(|loss| loss > 0.0) && !there.mistakes.is_empty());
        assert_eq!(there, here);
    }

    #[test]
    fn classes_are_matched_by_name() {
        let names = |names: &[&str]| names.iter().map(|&n| n.to_owned()).collect::<Vec<_>>();
        let found = places(&names(&["b", "c"]), &names(&["a", "b"]));
        assert_eq!(found, [Some(1), None]);
    }
}
