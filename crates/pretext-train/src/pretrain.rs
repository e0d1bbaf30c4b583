//! Pretraining: the loop, on one page.

#[cfg(test)]
mod views_test;

use std::path::Path;
use std::time::Instant;

use candle_core::Tensor;
use pretext_augment::{EvalCrop, Plan, Size, Transform as _};
use pretext_data::{Buffers, Dataset, Loader, Picture, Pictures};
use pretext_models::Mode;

use crate::checkpoint::{self, Before};
use crate::control::{Control, Event, Outcome};
use crate::curves::Curves;
use crate::error::{Error, Result};
use crate::lease::Lease;
use crate::lent::lend;
use crate::losses::{Losses, Step};
use crate::memory::Trial;
use crate::network::{self, PretextNetwork};
use crate::optimisers::Optimiser;
use crate::progress::Progress;
use crate::ranks::{Steps, Word};
use crate::recipe::PretrainRecipe;
use crate::record::{self, Pretrained, Record, Score};
use crate::results::Results;
use crate::run::{self, Timer};
use crate::scaling::{self, Scaling};
use crate::source::{Batches, Room, Source, lent};
use crate::streams::{self, Purpose, stream};
use crate::tasks::Puzzle;
use crate::{batch, files, saved, sitting, tasks};

/// The encoder alone, in a run's out folder.
pub const ENCODER: &str = "encoder.safetensors";
/// The whole pretext network, in a run's out folder.
pub const NETWORK: &str = "pretext.safetensors";

/// Trains an encoder on a pretext task with the pictures of `train/` and `unsup/` (and `val/`, if
/// the recipe says so), and leaves in `out` the encoder, the whole network and a record.
///
/// The pictures of `val/` are otherwise only looked at: the loss on them is each epoch's
/// `val_loss`.
///
/// # Errors
/// If the recipe makes no sense, the data set lacks pictures, the out folder holds another run, or
/// a file cannot be read or written.
pub fn pretrain(
    recipe: &PretrainRecipe,
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
    sitting::hold(out, control, |lease, before, control| {
        run::in_pool(control.threads, || train(recipe, &data, lease, before, control))
    })
}

fn train(
    recipe: &PretrainRecipe,
    data: &Dataset,
    lease: Option<&Lease>,
    before: Before,
    control: &mut Control<'_>,
) -> Result<Outcome> {
    let timer = Timer::start();
    let common = &recipe.common;
    let (pictures, splits) = pictures(recipe, data)?;
    let network = PretextNetwork::new(recipe, control.device.tensors())?;
    let parameters = network.parameters();
    let mut optimiser =
        Optimiser::new(common.optimiser, common.weight_decay, parameters, |_| Some(0));

    let line = recipe.line();
    let value = run::recipe_value(recipe, &line)?;
    let identity = run::identity(value, data, parameters, control.ranks)?;
    let mut progress = match before {
        Before::Checkpoint(path) => checkpoint::load(&path, &identity, parameters, &mut optimiser)?,
        _ => Progress::new(timer.started(), run::random_weights(parameters, common.seed)?),
    };

    let mut scaling =
        Scaling::new(common.precision, progress.loss_scale, control.device.tensors())?;

    let ranks = control.ranks;
    let loader = run::loader(common, pictures.len(), control);
    let steps = run::steps(common.batch_size, pictures.len());
    control.begin(&line, common.epochs, steps, pictures.len(), parameters, &progress);
    let mut curves = Curves::new(lease.map(Lease::folder), &progress, steps)?;
    let mut saved_at = Instant::now();
    let buffers = network.buffers();
    let together = Steps::new(ranks, common, pictures.len(), parameters)?;
    let device = control.device.clone();
    let mut losses = Losses::new(&device);
    let try_step = |count: usize| network.try_step(count);
    let trial = Trial {
        device: device.tensors(),
        common,
        processes: ranks.size(),
        parameters: parameters.parameter_count(),
        step: &try_step,
    };
    let mut room = Room::of(device.tensors())?;
    let which = "pictures to train on";
    let source = Source::open(which, (&pictures, &loader), &mut room, control, || Ok(()))?;
    let forms = PretextNetwork::forms(common.precision);
    let held_out = HeldOut::open(recipe, data, &mut room, control)?;

    for epoch in progress.epoch()..common.epochs {
        let order = streams::shuffled(pictures.len(), common.seed, u64::from(epoch));
        let rest = run::rest(order, progress.step, common.batch_size);
        let rest = ranks.parts(rest, common.batch_size.min(pictures.len()));
        let plans = plans(recipe, u64::from(epoch))?;
        let mut batches: Batches<'_, u32, 2> = match &source {
            Some(there) => {
                there.batches((&pictures, &loader), &rest, forms, views(plans, &network))
            }
            None => lent(loader.rows(&buffers, &pictures, rest, poser(plans))),
        };
        while progress.step + losses.len() < steps {
            let waiting = Instant::now();
            let Some(batch) = batches.next() else { break };
            let first = optimiser.steps() == 0;
            let (batch, values) = trial.explain(batch, first)?;
            let (waited, working) = (waiting.elapsed(), Instant::now());
            control.damaged(&batch.damaged);

            let done = progress.share(losses.len(), common.epochs, steps);
            let rate = common.learning_rate * common.schedule.factor(done);
            let whole = together.whole(batch.items.len(), batch.damaged.len())?;
            let loss = lend(values, common.size, &buffers, device.tensors(), |tensors| {
                if !together.are_enough(&whole) {
                    return Ok(None);
                }
                let mean = || network.loss(tensors, &batch.items, Mode::Train);
                let (told, loss) = together.loss(&whole, mean)?;
                if losses.may_step(&told)? {
                    let backward = |loss: &Tensor| together.gradients(&whole, loss);
                    let (optimiser, clip) = (&mut optimiser, common.clip);
                    scaling::step(&mut scaling, optimiser, &loss, backward, &[rate], clip)?;
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
                let path = checkpoint::save(lease, &identity, parameters, &optimiser, &now)?;
                (control.report)(Event::Checkpoint(&path));
                saved_at = Instant::now();
            }
            if stop {
                return Ok(Outcome::Stopped);
            }
        }
        drop(batches);
        losses.settle(scaling.as_ref(), &mut progress, &mut curves, control)?;
        run::same_weights(parameters, ranks)?;

        let validating = Instant::now();
        let val_loss = ranks.first_alone(|| match &held_out {
            Some(val) => validate(recipe, &network, &buffers, val, control),
            None => Ok(None),
        })?;
        let ended = progress.end_epoch(val_loss.flatten(), None, validating.elapsed());
        curves.epoch(ended)?;
        (control.report)(Event::Epoch(ended));
        let now = progress.paused(&timer);
        if let Some(lease) = lease {
            checkpoint::save(lease, &identity, parameters, &optimiser, &now)?;
        }
        saved_at = Instant::now();
        if ranks.any(control.stopped())? && progress.epoch() < common.epochs {
            return Ok(Outcome::Stopped);
        }
    }

    let Some(lease) = lease else {
        ranks.first_alone(|| Ok(()))?;
        return Ok(Outcome::FinishedByFirst);
    };
    let provenance = Pretrained {
        task: recipe.task.clone(),
        epochs: common.epochs,
        seed: common.seed,
        pretrained_on: splits.clone(),
        fingerprint: run::fingerprint(data),
        initial_weights: Box::new(progress.initial_weights.anywhere()),
    };
    let encoder = lease.folder().join(ENCODER);
    saved::write_encoder(&encoder, &network.encoder_tensors(), recipe, &provenance)?;
    saved::write_pretext(
        &lease.folder().join(NETWORK),
        &parameters.tensors(),
        recipe,
        &provenance,
    )?;
    let val_loss = progress.epochs.last().and_then(|epoch| epoch.val_loss);
    let progress = progress.paused(&timer);
    let record = Record {
        format: record::FORMAT,
        kind: "pretrain".into(),
        seconds: progress.seconds,
        joules: progress.joules,
        started: progress.started,
        seed: common.seed,
        recipe: identity.recipe,
        data: run::data_record(data, splits),
        code: record::Code::this(),
        machine: record::Machine::this(control.threads, ranks.size(), &device),
        initial_weights: progress.initial_weights,
        encoder_sha256: Some(files::sha256_of_file(&encoder)?),
        epochs: progress.epochs,
        result: Score { val_loss, ..Score::default() },
    };
    let outcome = sitting::finish(lease, record)?;
    ranks.tell(Word::Done)?;
    Ok(outcome)
}

/// The pictures to train on, and the names of their splits.
fn pictures(recipe: &PretrainRecipe, data: &Dataset) -> Result<(Pictures, Vec<String>)> {
    let mut parts =
        vec![("train", data.train().pictures().clone()), ("unsup", data.unsup().clone())];
    if recipe.include_val_pixels {
        parts.push(("val", data.val().pictures().clone()));
    }
    parts.retain(|(_, pictures)| !pictures.is_empty());
    let splits = parts.iter().map(|(name, _)| (*name).to_owned()).collect();
    let pictures = Pictures::concat(&parts.into_iter().map(|(_, part)| part).collect::<Vec<_>>());
    if pictures.len() < 2 {
        let problem = "holds fewer than 2 pictures to pretrain on".into();
        return Err(Error::DataSet { path: data.root().to_owned(), problem });
    }
    Ok((pictures, splits))
}

/// What is done to a picture of an index and a size: crop and flip, then a puzzle.
fn plans(
    recipe: &PretrainRecipe,
    epoch: u64,
) -> Result<impl Fn(usize, Size) -> (Plan, Puzzle) + Send + Sync + use<>> {
    let pose = tasks::by_name(&recipe.task)?.poser(&recipe.puzzle)?;
    let seed = recipe.common.seed;
    let crop = run::training_crop(&recipe.common);
    Ok(move |id: usize, size: Size| {
        let stream = |purpose| stream(seed, epoch, id as u64, purpose);
        let crop = crop.sample(size, &mut stream(Purpose::Augment));
        let puzzle = pose(crop.output_size(size), &mut stream(Purpose::Pose));
        (crop, puzzle)
    })
}

/// What the loader's threads do to each picture.
fn poser(
    plans: impl Fn(usize, Size) -> (Plan, Puzzle) + Send + Sync,
) -> impl Fn(usize, Picture, [&mut [f32]; 2]) -> u32 + Send + Sync {
    move |id: usize, picture: Picture, rows: [&mut [f32]; 2]| {
        let (crop, puzzle) = plans(id, batch::size(&picture));
        network::pose(&picture, &crop, rows, |_| puzzle)
    }
}

/// The same as views of a picture: the puzzle, and, where there is something to restore, the clean
/// picture.
fn views(
    plans: impl Fn(usize, Size) -> (Plan, Puzzle),
    network: &PretextNetwork,
) -> impl Fn(usize, Size) -> ([Option<Plan>; 2], u32) {
    let restores = network.restores();
    move |id: usize, size: Size| {
        let (crop, Puzzle { plan, class }) = plans(id, size);
        let puzzle = Plan([crop.0.clone(), plan.0].concat());
        ([Some(puzzle), restores.then_some(crop)], class)
    }
}

/// The pictures of `val/` where they are not trained on.
struct HeldOut<'a> {
    pictures: &'a Pictures,
    loader: Loader,
    /// Where their views come from on a GPU.
    source: Option<Source>,
}

impl<'a> HeldOut<'a> {
    /// Makes ready what process 0 will validate with.
    fn open(
        recipe: &PretrainRecipe,
        data: &'a Dataset,
        room: &mut Room,
        control: &mut Control<'_>,
    ) -> Result<Option<Self>> {
        if recipe.include_val_pixels {
            return Ok(None);
        }
        let (pictures, ranks) = (data.val().pictures(), control.ranks);
        let loader = run::evaluation_loader(recipe.common.batch_size, recipe.common.size, control);
        let source = ranks.first_alone(|| {
            let live = || ranks.tell(Word::Busy).map(drop);
            Source::open("pictures of val/", (pictures, &loader), room, control, live)
        })?;
        Ok(Some(Self { pictures, loader, source: source.flatten() }))
    }
}

/// What is done to a picture that is not trained on: the same puzzles after each epoch.
fn held_out_plans(
    recipe: &PretrainRecipe,
) -> Result<impl Fn(usize, Size) -> (Plan, Puzzle) + Send + Sync + use<>> {
    let pose = tasks::by_name(&recipe.task)?.poser(&recipe.puzzle)?;
    let (seed, crop) = (recipe.common.seed, EvalCrop::fastai(recipe.common.size));
    Ok(move |id: usize, size: Size| {
        let mut stream = stream(seed, 0, id as u64, Purpose::Validate);
        let crop = crop.sample(size, &mut stream);
        let puzzle = pose(crop.output_size(size), &mut stream);
        (crop, puzzle)
    })
}

/// The mean loss on pictures that are not trained on.
fn validate(
    recipe: &PretrainRecipe,
    network: &PretextNetwork,
    buffers: &Buffers<f32, 2>,
    HeldOut { pictures, loader, source }: &HeldOut<'_>,
    control: &mut Control<'_>,
) -> Result<Option<f64>> {
    let plans = held_out_plans(recipe)?;
    let order: Vec<usize> = (0..pictures.len()).collect();
    let device = control.device.clone();
    let batches: Batches<'_, u32, 2> = match source {
        Some(there) => {
            let forms = PretextNetwork::forms(device.scores_in(recipe.common.precision));
            there.batches((pictures, loader), &order, forms, views(plans, network))
        }
        None => lent(loader.rows(buffers, pictures, order.clone(), poser(plans))),
    };
    let (mut sum, mut count) = (0.0, 0);
    let mut note = |read: Vec<(Tensor, usize)>| -> Result<()> {
        for (loss, images) in read {
            sum += f64::from(loss.to_vec1::<f32>()?[0]) * images as f64;
            count += images;
        }
        Ok(())
    };
    let mut losses = Results::new(&device);
    for batch in batches {
        control.ranks.tell(Word::Busy)?;
        let (batch, values) = batch?;
        let classes = batch.items;
        if !classes.is_empty() {
            let loss = lend(values, recipe.common.size, buffers, device.tensors(), |tensors| {
                network.loss(tensors, &classes, Mode::Evaluate)
            })?;
            note(losses.push(&loss.reshape(1)?, classes.len())?)?;
        }
    }
    note(losses.read()?)?;
    Ok((count > 0).then(|| sum / count as f64))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::atomic::AtomicBool;
    use std::time::Duration;

    use super::*;
    use crate::device::Device;
    use crate::optimisers;
    use crate::ranks::Ranks;
    use crate::recipe::Common;
    use crate::source::tests::{SIDE, resident};

    /// Views that a GPU's memory makes are validated as those of the loader, whatever the task.
    #[test]
    fn a_source_and_the_loader_give_one_loss() {
        let folder = tempfile::tempdir().unwrap();
        for (i, split) in (0..11_u8).flat_map(|i| ["train", "val"].map(|split| (i, split))) {
            let pixel = |x, y| image::Rgb([(9 * x) as u8, (7 * y) as u8, 20 * i]);
            let path = folder.path().join(format!("{split}/a/{i:02}.png"));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            image::RgbImage::from_fn(20 + u32::from(i), 24, pixel).save(path).unwrap();
        }
        let data = Dataset::open(folder.path()).unwrap();
        let (ranks, stop) = (Ranks::alone(), AtomicBool::new(false));
        let mut control = Control {
            device: Device::cpu(),
            threads: 2,
            strict: true,
            resume: false,
            wait: false,
            job: None,
            ranks: &ranks,
            stop: &stop,
            checkpoint_every: Duration::MAX,
            report: &mut |_| {},
        };
        for task in ["grey-blur", "jigsaw"] {
            let common = Common {
                encoder: "xresnet18".into(),
                size: SIDE,
                batch_size: 4,
                ..Common::default()
            };
            let recipe = PretrainRecipe { task: task.into(), common, ..PretrainRecipe::default() };
            let network = PretextNetwork::new(&recipe, control.device.tensors()).unwrap();
            let pictures = data.val().pictures();
            let loader = run::evaluation_loader(4, SIDE, &control);
            let source = Some(resident(pictures, &loader));
            let there = HeldOut { pictures, loader: loader.clone(), source };
            let here = HeldOut { pictures, loader, source: None };
            let [there, here] = [there, here].map(|held_out| {
                validate(&recipe, &network, &network.buffers(), &held_out, &mut control).unwrap()
            });
            assert!(there.is_some_and(|loss| loss > 0.0), "{task}: {there:?}");
            assert_eq!(there, here, "{task}");
        }
    }

    /// Two steps an epoch, the third of which has no number for a loss.
    fn diverging() -> PretrainRecipe {
        let (_, sgd) = optimisers::ALL.iter().find(|(name, _)| *name == "sgd").unwrap();
        let common = Common {
            encoder: "xresnet18".into(),
            size: 32,
            batch_size: 16,
            epochs: 3,
            learning_rate: 1.0,
            optimiser: *sgd,
            ..Common::default()
        };
        PretrainRecipe { common, ..PretrainRecipe::default() }
    }

    #[test]
    fn a_loss_that_is_no_number_is_seen_before_a_checkpoint_is_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let (data, out) = (folder.path().join("data"), folder.path().join("out"));
        fs::create_dir_all(data.join("train/a")).unwrap();
        for i in 0..32_u32 {
            let pixel = |x, y| image::Rgb([(x * (7 + i)) as u8, (y * 5 + i) as u8, (9 * i) as u8]);
            let path = data.join(format!("train/a/{i:02}.png"));
            image::RgbImage::from_fn(40, 36, pixel).save(path).unwrap();
        }
        let path = out.join(checkpoint::FILE);
        let mut report = |event: Event<'_>| {
            if let Event::Epoch(epoch) = event {
                assert_eq!(epoch.epoch, 1, "an epoch ended whose losses are no numbers");
            }
        };
        // Both steps of the second epoch are taken before their losses are read.
        let mut control = Control {
            device: Device::lagging(16),
            threads: 2,
            strict: true,
            resume: false,
            wait: false,
            job: None,
            ranks: &Ranks::alone(),
            stop: &AtomicBool::new(false),
            checkpoint_every: Duration::MAX,
            report: &mut report,
        };
        let error = pretrain(&diverging(), &data, &out, &mut control).unwrap_err();
        let Error::Diverged { epoch, step, .. } = error else { panic!("{error}") };
        assert_eq!((epoch, step), (2, 1));
        let standing = checkpoint::inspect(&path).unwrap();
        assert_eq!((standing.epochs.len(), standing.step), (1, 0), "the first epoch's");
        let (tensors, _) = pretext_models::weights::read(&path).unwrap();
        for (name, tensor) in tensors {
            let sum = tensor.sum_all().unwrap().to_scalar::<f32>().unwrap();
            assert!(sum.is_finite(), "{name} of the checkpoint");
        }
    }
}
