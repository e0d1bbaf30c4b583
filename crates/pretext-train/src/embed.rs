//! Features of pictures, from an encoder that stays as it is.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{Device, Tensor};
use pretext_augment::{EvalCrop, Normalise};
use pretext_data::{Buffers, Dataset, Picture, Pictures};
use pretext_models::frozen::FrozenEncoder;
use pretext_models::{Classifier, Mode, weights};

use crate::control::{Control, Event};
use crate::error::{Error, Result};
use crate::lent::lend;
use crate::precision::Precision;
use crate::recipe::{Common, FinetuneRecipe, PretrainRecipe};
use crate::results::Results;
use crate::saved::{self, FileKind, WeightFile};
use crate::source::{Batches, Source, lent};
use crate::{batch, evaluate, run};

/// Pictures a step; features do not depend on it.
const BATCH: usize = 64;

/// An encoder of any origin, for its features alone.
pub(crate) struct FeatureEncoder {
    kind: Kind,
    /// Where it lies.
    device: Device,
    size: u32,
    normalise: Normalise,
}

enum Kind {
    Ours(Box<Classifier>),
    Frozen(Box<FrozenEncoder>),
}

impl FeatureEncoder {
    /// The encoder in a weight file: our own kinds, or one that [`pretext_models::frozen`] knows.
    ///
    /// # Errors
    /// If the file is of no encoder, or of one that a GPU was asked for in vain.
    pub(crate) fn new(file: &WeightFile, control: &mut Control<'_>) -> Result<Self> {
        let device = control.device.tensors();
        let ours = |classifier, common: &Common| Self {
            kind: Kind::Ours(Box::new(classifier)),
            device: device.clone(),
            size: common.size,
            normalise: batch::NORMALISE,
        };
        match file.kind() {
            FileKind::Classifier => {
                let trained = file.classifier(device)?;
                Ok(ours(trained.classifier, &trained.recipe.common))
            }
            FileKind::Encoder => {
                let recipe: PretrainRecipe = file.recipe()?;
                let common = recipe.common;
                // The head is never used: one output keeps it small.
                let recipe = FinetuneRecipe { common, ..FinetuneRecipe::default() };
                let (classifier, parameters) = saved::new_classifier(&recipe, 1, device)?;
                classifier.load_encoder(&parameters, &file.weights, file.path())?;
                Ok(ours(classifier, &recipe.common))
            }
            FileKind::Pretext => Err(file.refuse("give the encoder.safetensors beside it")),
            FileKind::Foreign => {
                let Some(processor) = control.device.or_processor() else {
                    let want =
                        "pretrained encoders from elsewhere run on the CPU: give --device cpu";
                    return Err(file.refuse(want));
                };
                if control.device.is_gpu() {
                    let why = "pretrained encoders from elsewhere have no kernels for a GPU here";
                    (control.report)(Event::Processor { why });
                }
                let device = processor.tensors().clone();
                let spec = pretext_models::frozen::detect(file.path())?;
                let encoder = FrozenEncoder::open(spec.name, file.path(), &device)?;
                let normalise = Normalise { mean: encoder.mean(), std: encoder.std() };
                let size = encoder.input_size() as u32;
                Ok(Self { kind: Kind::Frozen(Box::new(encoder)), device, size, normalise })
            }
        }
    }

    /// `[N, 3, size, size]` to `[N, D]`, which has no graph.
    fn forward(&self, input: &Tensor) -> Result<Tensor> {
        match &self.kind {
            Kind::Ours(classifier) => Ok(classifier.embed(input, Mode::Evaluate)?),
            Kind::Frozen(encoder) => Ok(encoder.embed(input)?.detach()),
        }
    }
}

/// The features of pictures, and which pictures they are of (damaged ones have none).
pub(crate) struct Features {
    /// Places in the pictures' order.
    pub(crate) ids: Vec<usize>,
    /// `[ids.len(), D]`.
    pub(crate) values: Tensor,
}

/// The features of all pictures, of one centre crop each, in `f32` on any device.
pub(crate) fn features(
    encoder: &FeatureEncoder,
    pictures: &Pictures,
    control: &mut Control<'_>,
) -> Result<Features> {
    let (size, normalise) = (encoder.size, encoder.normalise);
    let crop = EvalCrop::fastai(size);
    let loader = run::evaluation_loader(BATCH, size, control);
    let (mut all_ids, mut parts) = (Vec::new(), Vec::new());
    let buffers = Buffers::new([batch::numbers(size)]);
    let device = &encoder.device;
    let order: Vec<usize> = (0..pictures.len()).collect();
    // Encoders from elsewhere, which normalise otherwise, are on the processor.
    let source = Source::once(device)?;
    let batches: Batches<'_, (), 1> = match &source {
        Some(there) => {
            let view = move |_, size| ([Some(evaluate::centre(&crop, size))], ());
            let form = batch::seen(Precision::F32);
            there.batches((pictures, &loader), &order, [form], view)
        }
        None => {
            let view = move |_: usize, picture: Picture, [view]: [&mut [f32]; 1]| {
                let plan = evaluate::centre(&crop, batch::size(&picture));
                batch::view(batch::borrowed(&picture), &plan, &normalise, view);
            };
            lent(loader.rows(&buffers, pictures, order.clone(), view))
        }
    };
    let mut results = Results::new(&control.device);
    let mut note = |read: Vec<(Tensor, Vec<usize>)>| {
        for (features, ids) in read {
            parts.push(features);
            all_ids.extend(ids);
        }
    };
    for batch in batches {
        let (batch, views) = batch?;
        control.damaged(&batch.damaged);
        if !batch.ids.is_empty() {
            let features = lend(views, size, &buffers, device, |[input]| encoder.forward(input))?;
            note(results.push(&features, batch.ids)?);
        }
    }
    note(results.read()?);
    if parts.is_empty() {
        let values = Tensor::zeros((0, 1), candle_core::DType::F32, &Device::Cpu)?;
        return Ok(Features { ids: all_ids, values });
    }
    Ok(Features { ids: all_ids, values: Tensor::cat(&parts, 0)? })
}

/// Writes the features of every picture of a data set into a safetensors file.
///
/// For each split that has pictures: `<split>.features`, `f32` `[N, D]`; `<split>.index`, `i64`
/// `[N]`, places in the split's stable order; and for `train` and `val` `<split>.labels`, `u32`
/// `[N]`. The class names are in the metadata. Pictures of `unsup/` have neither label nor name.
///
/// # Errors
/// If a file cannot be read or written, or the weights are of no encoder.
pub fn embed(
    weights_file: &Path,
    data: &Path,
    out: &Path,
    control: &mut Control<'_>,
) -> Result<Vec<(String, usize)>> {
    let data = Dataset::open(data)?;
    let file = WeightFile::open(weights_file)?;
    run::in_pool(control.threads, || {
        let encoder = FeatureEncoder::new(&file, control)?;
        let labelled = [("train", data.train()), ("val", data.val())];
        let mut splits: Vec<_> =
            labelled.iter().map(|(name, split)| (*name, split.pictures(), Some(*split))).collect();
        splits.push(("unsup", data.unsup(), None));
        let (mut tensors, mut counts) = (BTreeMap::new(), Vec::new());
        for (name, pictures, labels) in splits {
            let Features { ids, values } = features(&encoder, pictures, control)?;
            if ids.is_empty() {
                continue;
            }
            let count = ids.len();
            counts.push((name.to_owned(), count));
            if let Some(split) = labels {
                let labels = ids.iter().map(|&id| split.label(id)).collect();
                tensors.insert(format!("{name}.labels"), batch::labels(labels)?);
            }
            let index: Vec<i64> = ids.iter().map(|&id| id as i64).collect();
            tensors.insert(format!("{name}.index"), Tensor::from_vec(index, count, &Device::Cpu)?);
            tensors.insert(format!("{name}.features"), values);
        }
        if counts.is_empty() {
            let problem = "holds no picture that can be read".into();
            return Err(Error::DataSet { path: data.root().to_owned(), problem });
        }
        let classes = serde_json::to_string(data.classes()).unwrap_or_default();
        let metadata = BTreeMap::from([
            ("pretext.kind".to_owned(), "features".to_owned()),
            ("pretext.classes".to_owned(), classes),
            ("pretext.fingerprint".to_owned(), data.fingerprint()),
        ]);
        weights::save(out, &tensors, &metadata)?;
        Ok(counts)
    })
}
