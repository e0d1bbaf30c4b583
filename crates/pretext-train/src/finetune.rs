//! Fine-tuning: the other loop, on one page.

use std::path::{Path, PathBuf};
use std::time::Instant;

use candle_core::{Device, Tensor};
use pretext_augment::{Plan, Size, Transform as _};
use pretext_data::{Buffers, Dataset, Picture};
use pretext_models::{Classifier, Mode, Parameters};

use crate::batch::{self, NORMALISE};
use crate::checkpoint::{self, Before};
use crate::control::{Control, Event, Outcome};
use crate::curves::Curves;
use crate::error::{Error, Result};
use crate::evaluate::{self, Known};
use crate::lease::Lease;
use crate::lent::lend;
use crate::losses::{Losses, Step};
use crate::memory::Trial;
use crate::mixing::mix;
use crate::optimisers::Optimiser;
use crate::precision::Precision;
use crate::progress::Progress;
use crate::ranks::{Steps, Word};
use crate::recipe::{FinetuneRecipe, Layers};
use crate::record::{self, InitialWeights, Pretrained, Record};
use crate::run::{self, Timer};
use crate::saved::{self, FileKind, WeightFile};
use crate::scaling::{self, Scaling};
use crate::sitting;
use crate::source::{Batches, Room, Source, lent};
use crate::streams::{self, Purpose, stream};

/// The trained classifier, in a run's out folder.
pub const CLASSIFIER: &str = "classifier.safetensors";

/// What fine-tuning begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Init {
    /// Weights drawn from the seed: the baseline.
    Random,
    /// The encoder of a weight file; the head is drawn from the seed.
    File(PathBuf),
}

/// Trains a classifier on the labelled pictures of `train/`, scores it on `val/` after each epoch,
/// and leaves in `out` the classifier and a record.
///
/// Nothing is chosen by the scores on `val/`: the last epoch's weights are the result.
///
/// # Errors
/// If the recipe makes no sense, the data set lacks labels, the weights do not fit, the out folder
/// holds another run, or a file cannot be read or written.
pub fn finetune(
    recipe: &FinetuneRecipe,
    init: &Init,
    data: &Path,
    out: &Path,
    control: &mut Control<'_>,
) -> Result<Outcome> {
    recipe.check()?;
    control.device.check(recipe.common.precision)?;
    if let Some(record) = checkpoint::finished(out, control.resume)? {
        return Ok(Outcome::WasFinished(record));
    }
    let data = Dataset::open(data)?;
    if data.train().len() < 2 || data.classes().len() < 2 {
        let problem = "has no labelled pictures; fine-tuning needs train/<class>/ folders with \
                       pictures of at least two classes";
        return Err(Error::DataSet { path: data.root().to_owned(), problem: problem.into() });
    }
    let file = match init {
        Init::Random => None,
        Init::File(path) => Some(WeightFile::open(path)?),
    };
    sitting::hold(out, control, |lease, before, control| {
        run::in_pool(control.threads, || train(recipe, file, &data, lease, before, control))
    })
}

fn train(
    recipe: &FinetuneRecipe,
    file: Option<WeightFile>,
    data: &Dataset,
    lease: Option<&Lease>,
    before: Before,
    control: &mut Control<'_>,
) -> Result<Outcome> {
    let timer = Timer::start();
    let common = &recipe.common;
    let pictures = data.train().pictures();
    let (classifier, parameters) = {
        let device = control.device.tensors();
        saved::new_classifier(recipe, data.classes().len(), device)?
    };
    let initial_weights = begin_with(file.as_ref(), recipe, &classifier, &parameters)?;

    let groups = Classifier::group_count();
    let share = |group| recipe.train.share(group, groups);
    let mut optimiser =
        Optimiser::new(common.optimiser, common.weight_decay, &parameters, |name| {
            let group = classifier.layer_group(name);
            share(group).map(|_| group)
        });

    let line = recipe.line();
    let value = recipe_with_init(recipe, &line, &initial_weights)?;
    let identity = run::identity(value, data, &parameters, control.ranks)?;
    let mut progress = match before {
        Before::Checkpoint(path) => {
            checkpoint::load(&path, &identity, &parameters, &mut optimiser)?
        }
        _ => Progress::new(timer.started(), initial_weights),
    };

    let mut scaling =
        Scaling::new(common.precision, progress.loss_scale, control.device.tensors())?;

    let ranks = control.ranks;
    let loader = run::loader(common, pictures.len(), control);
    let steps = run::steps(common.batch_size, pictures.len());
    control.begin(&line, common.epochs, steps, pictures.len(), &parameters, &progress);
    let mut curves = Curves::new(lease.map(Lease::folder), &progress, steps)?;
    let mut saved_at = Instant::now();
    let mut score = None;
    let buffers = Buffers::new([batch::numbers(common.size)]);
    let together = Steps::new(ranks, common, pictures.len(), &parameters)?;
    let device = control.device.clone();
    let mut losses = Losses::new(&device);
    let try_step = |count: usize| try_step(recipe, &classifier, count, device.tensors());
    let trial = Trial {
        device: device.tensors(),
        common,
        processes: ranks.size(),
        parameters: parameters.parameter_count(),
        step: &try_step,
    };
    let mut room = Room::of(device.tensors())?;
    let which = "pictures to train on";
    let source = Source::open(which, (pictures, &loader), &mut room, control, || Ok(()))?;
    let val_loader = run::evaluation_loader(common.batch_size, common.size, control);
    let val_source = ranks.first_alone(|| {
        let live = || ranks.tell(Word::Busy).map(drop);
        let val = (data.val().pictures(), &val_loader);
        Source::open("pictures of val/", val, &mut room, control, live)
    })?;
    let val_source = val_source.flatten();
    let score_now = |control: &mut Control<'_>| {
        let known = Known { classifier: &classifier, classes: data.classes() };
        let views = (val_source.as_ref(), &val_loader);
        evaluate::score(known, data, views, (common.size, common.precision), control)
    };
    // Mixed first, in `f32` as on the processor.
    let form = if recipe.mixup > 0.0 { Precision::F32 } else { common.precision };
    let forms = [batch::seen(form)];

    for epoch in progress.epoch()..common.epochs {
        let order = streams::shuffled(pictures.len(), common.seed, u64::from(epoch));
        let rest = run::rest(order, progress.step, common.batch_size);
        let rest = ranks.parts(rest, common.batch_size.min(pictures.len()));
        let plan = plans(recipe, u64::from(epoch));
        let mut batches: Batches<'_, (), 1> = match &source {
            Some(there) => {
                let view = move |id, size| ([Some(plan(id, size))], ());
                there.batches((pictures, &loader), &rest, forms, view)
            }
            None => lent(loader.rows(&buffers, pictures, rest, viewer(plan))),
        };
        while progress.step + losses.len() < steps {
            let waiting = Instant::now();
            let Some(batch) = batches.next() else { break };
            let first = optimiser.steps() == 0;
            let (batch, mut views) = trial.explain(batch, first)?;
            let (waited, working) = (waiting.elapsed(), Instant::now());
            control.damaged(&batch.damaged);

            let share_done = progress.share(losses.len(), common.epochs, steps);
            let rate = common.learning_rate * common.schedule.factor(share_done);
            let rates: Vec<f64> =
                (0..groups).map(|group| rate * share(group).unwrap_or(0.0)).collect();
            let labels: Vec<u32> = batch.ids.iter().map(|&i| data.train().label(i)).collect();
            let step = progress.step + losses.len();
            let step = u64::from(epoch) * steps as u64 + step as u64;
            let whole = together.whole(labels.len(), batch.damaged.len())?;
            let part = (whole.before(), whole.images());
            let mixed = mix(recipe, &mut views, &labels, ranks, part, step)?;
            let loss = lend(views, common.size, &buffers, device.tensors(), |[input]| {
                if !together.are_enough(&whole) {
                    return Ok(None);
                }
                let mean = || loss(recipe, &classifier, input, labels, mixed);
                let (told, loss) = together.loss(&whole, mean)?;
                if losses.may_step(&told)? {
                    let backward = |loss: &Tensor| together.gradients(&whole, loss);
                    let (optimiser, clip) = (&mut optimiser, common.clip);
                    scaling::step(&mut scaling, optimiser, &loss, backward, &rates, clip)?;
                }
                Ok::<_, Error>(Some(told))
            });
            let loss = trial.explain(loss, first)?;
            let (images, damaged, took) = (whole.images(), whole.damaged, working.elapsed());
            losses.push(loss, Step { images, damaged, rate, waited, took });
            if losses.are_due() {
                losses.settle(scaling.as_ref(), &mut progress, &mut curves, control)?;
            }

            let stop = ranks.any(control.stopped())?;
            if let Some(lease) = lease
                && (stop || saved_at.elapsed() > control.checkpoint_every)
            {
                losses.settle(scaling.as_ref(), &mut progress, &mut curves, control)?;
                let now = progress.paused(&timer);
                let path = checkpoint::save(lease, &identity, &parameters, &optimiser, &now)?;
                (control.report)(Event::Checkpoint(&path));
                saved_at = Instant::now();
            }
            if stop {
                return Ok(Outcome::Stopped);
            }
        }
        drop(batches);
        losses.settle(scaling.as_ref(), &mut progress, &mut curves, control)?;
        run::same_weights(&parameters, ranks)?;

        let validating = Instant::now();
        // Twice an option: whether it was looked at, and whether there is something to score on.
        score = Some(ranks.first_alone(|| score_now(control))?.flatten());
        let scored = score.as_ref().and_then(Option::as_ref);
        let (loss, accuracy) = scored.map_or((None, None), |s| (s.val_loss, s.accuracy));
        let ended = progress.end_epoch(loss, accuracy, validating.elapsed());
        curves.epoch(ended)?;
        (control.report)(Event::Epoch(ended));
        let now = progress.paused(&timer);
        if let Some(lease) = lease {
            checkpoint::save(lease, &identity, &parameters, &optimiser, &now)?;
        }
        saved_at = Instant::now();
        if ranks.any(control.stopped())? && progress.epoch() < common.epochs {
            return Ok(Outcome::Stopped);
        }
    }

    // A run that was killed between its last checkpoint and its record has no score in memory.
    let score = match score {
        Some(score) => score,
        None => ranks.first_alone(|| score_now(control))?.flatten(),
    };
    let Some(lease) = lease else {
        ranks.first_alone(|| Ok(()))?;
        return Ok(Outcome::FinishedByFirst);
    };
    let provenance = Pretrained {
        task: "classify".into(),
        epochs: common.epochs,
        seed: common.seed,
        pretrained_on: vec!["train".into()],
        fingerprint: run::fingerprint(data),
        initial_weights: Box::new(progress.initial_weights.anywhere()),
    };
    let path = lease.folder().join(CLASSIFIER);
    saved::write_classifier(&path, &parameters.tensors(), recipe, data.classes(), &provenance)?;
    let progress = progress.paused(&timer);
    let record = Record {
        format: record::FORMAT,
        kind: "finetune".into(),
        seconds: progress.seconds,
        joules: progress.joules,
        started: progress.started,
        seed: common.seed,
        recipe: identity.recipe,
        data: run::data_record(data, vec!["train".into()]),
        code: record::Code::this(),
        machine: record::Machine::this(control.threads, ranks.size(), &device),
        initial_weights: progress.initial_weights,
        encoder_sha256: None,
        epochs: progress.epochs,
        result: score.unwrap_or_default(),
    };
    let outcome = sitting::finish(lease, record)?;
    ranks.tell(Word::Done)?;
    Ok(outcome)
}

/// Puts the file's encoder into the classifier, and says what the weights are now.
fn begin_with(
    file: Option<&WeightFile>,
    recipe: &FinetuneRecipe,
    classifier: &Classifier,
    parameters: &Parameters,
) -> Result<InitialWeights> {
    let Some(file) = file else {
        return run::random_weights(parameters, recipe.common.seed);
    };
    if file.kind() == FileKind::Pretext {
        return Err(file.refuse("give the encoder.safetensors beside it"));
    }
    match file.encoder() {
        Some(name) if name != recipe.common.encoder => {
            Err(file.refuse(&format!("its encoder is {name}: give --encoder {name}")))
        }
        _ => {
            classifier.load_encoder(parameters, &file.weights, file.path())?;
            file.initial_weights()
        }
    }
}

/// The recipe with what decides the result beside it: where the weights began.
fn recipe_with_init(
    recipe: &FinetuneRecipe,
    line: &str,
    initial: &InitialWeights,
) -> Result<serde_json::Value> {
    let mut value = run::recipe_value(recipe, line)?;
    if let serde_json::Value::Object(fields) = &mut value {
        let init = match initial {
            InitialWeights::Random { .. } => "random".into(),
            InitialWeights::File { sha256, .. } => format!("sha256:{sha256}"),
        };
        fields.insert("init".into(), init.into());
    }
    Ok(value)
}

/// What is done to a picture of an index and a size: crop and flip.
fn plans(
    recipe: &FinetuneRecipe,
    epoch: u64,
) -> impl Fn(usize, Size) -> Plan + Send + Sync + use<> {
    let seed = recipe.common.seed;
    let crop = run::training_crop(&recipe.common);
    move |id, size| crop.sample(size, &mut stream(seed, epoch, id as u64, Purpose::Augment))
}

/// What the loader's threads do to each picture.
fn viewer(
    plan: impl Fn(usize, Size) -> Plan + Send + Sync,
) -> impl Fn(usize, Picture, [&mut [f32]; 1]) + Send + Sync {
    move |id: usize, picture: Picture, [view]: [&mut [f32]; 1]| {
        let plan = plan(id, batch::size(&picture));
        batch::view(batch::borrowed(&picture), &plan, &NORMALISE, view);
    }
}

/// Computes the gradients of a batch of so many blank pictures, and forgets them.
fn try_step(
    recipe: &FinetuneRecipe,
    classifier: &Classifier,
    count: usize,
    device: &Device,
) -> Result<()> {
    let blank = batch::blank(count, recipe.common.size, recipe.common.precision, device)?;
    pretext_ops::backward(&loss(recipe, classifier, &blank, vec![0; count], None)?)?;
    Ok(())
}

/// The mean loss of a batch, `[N, 3, H, W]` and normalised, mixed or not.
fn loss(
    recipe: &FinetuneRecipe,
    classifier: &Classifier,
    input: &Tensor,
    labels: Vec<u32>,
    mixed: Option<(Vec<u32>, f64)>,
) -> Result<Tensor> {
    let input = recipe.common.precision.cast(input)?;
    let logits = match recipe.train {
        // Without a graph below the head: its features stay as they are.
        Layers::Head => classifier.head(&classifier.embed(&input, Mode::Evaluate)?, Mode::Train)?,
        Layers::All | Layers::Discriminative => classifier.forward(&input, Mode::Train)?,
    };
    let cross_entropy = |labels: Vec<u32>| {
        pretext_ops::cross_entropy(&logits, &batch::labels(labels)?, recipe.label_smoothing)
    };
    match mixed {
        None => Ok(cross_entropy(labels)?),
        Some((partners, lambda)) => {
            Ok(((cross_entropy(labels)? * lambda)? + (cross_entropy(partners)? * (1.0 - lambda))?)?)
        }
    }
}
