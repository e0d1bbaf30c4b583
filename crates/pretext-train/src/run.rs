//! What the two loops share: threads, loaders, the clock, and the parts of a record.

use std::time::Instant;

use pretext_augment::{Compose, HorizontalFlip, RandomResizedCrop};
use pretext_data::{Damaged, Dataset, Loader};
use pretext_models::{Kind, Parameters};
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::checkpoint::Identity;
use crate::control::{Control, Event};
use crate::energy::Meter;
use crate::error::{Error, Result};
use crate::files;
use crate::progress::Progress;
use crate::ranks::Ranks;
use crate::recipe::Common;
use crate::record::{DataRecord, InitialWeights};

/// Batches that are ready before they are needed.
const PREFETCH: usize = 4;

/// When a sitting began, and what it took since.
pub(crate) struct Timer {
    started: String,
    clock: Instant,
    meter: Option<Meter>,
}

impl Timer {
    pub(crate) fn start() -> Self {
        Self { started: files::now(), clock: Instant::now(), meter: Meter::start() }
    }

    pub(crate) fn started(&self) -> String {
        self.started.clone()
    }

    pub(crate) fn seconds(&self) -> f64 {
        self.clock.elapsed().as_secs_f64()
    }

    /// What the processor took, in joules, where the system tells it.
    pub(crate) fn joules(&self) -> Option<f64> {
        self.meter.as_ref().map(Meter::joules)
    }
}

impl Control<'_> {
    /// Says that the run begins, or goes on.
    pub(crate) fn begin(
        &mut self,
        recipe: &str,
        epochs: u32,
        steps: usize,
        pictures: usize,
        parameters: &Parameters,
        progress: &Progress,
    ) {
        let parameters = parameters.parameter_count();
        (self.report)(Event::Begin { recipe, epochs, steps, pictures, parameters });
        if progress.epoch() > 0 || progress.step > 0 {
            (self.report)(Event::Resume { epoch: progress.epoch() + 1, step: progress.step });
        }
    }

    /// Names the damaged pictures of a batch.
    pub(crate) fn damaged(&mut self, damaged: &[Damaged]) {
        for Damaged { name, reason } in damaged {
            (self.report)(Event::Damaged { name, reason });
        }
    }
}

/// Runs `work` on as many threads as asked for; all parallel loops inside use them.
///
/// # Errors
/// What `work` returns, or that the system gives no threads.
pub(crate) fn in_pool<T: Send>(
    threads: usize,
    work: impl FnOnce() -> Result<T> + Send,
) -> Result<T> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.max(1)).build();
    let pool = pool.map_err(|error| Error::Recipe {
        field: "--threads",
        problem: format!("the system gives no {threads} threads ({error})"),
    })?;
    pool.install(work)
}

/// Loads training batches: whole ones only, unless there are too few pictures for one.
pub(crate) fn loader(common: &Common, pictures: usize, control: &Control<'_>) -> Loader {
    // This process's part of each batch.
    let batch_size = match control.ranks.size() {
        1 => common.batch_size,
        _ => control.ranks.part(common.batch_size.min(pictures)).len(),
    };
    Loader {
        batch_size,
        threads: control.threads.max(1),
        prefetch: PREFETCH,
        shortest_side: Some(training_side(common)),
        strict: control.strict,
        drop_last: pictures >= batch_size,
    }
}

/// Loads every picture once, for crops of `size` pixels.
pub(crate) fn evaluation_loader(batch_size: usize, size: u32, control: &Control<'_>) -> Loader {
    Loader {
        batch_size,
        threads: control.threads.max(1),
        prefetch: PREFETCH,
        shortest_side: Some(evaluation_side(size)),
        strict: control.strict,
        drop_last: false,
    }
}

/// The shorter side, in pixels, from which no training crop has to be enlarged: the smallest one
/// keeps `min_scale` of the area at a ratio of 3 to 4. Larger pictures may come reduced; that is a
/// function of the recipe, so that equal recipes see equal pictures.
fn training_side(common: &Common) -> u32 {
    (f64::from(common.size) / (common.min_scale * 0.75).sqrt()).ceil() as u32
}

/// The same for the centre crop of an evaluation, which first brings the picture to at most twice
/// the crop's side.
pub(crate) fn evaluation_side(size: u32) -> u32 {
    size.saturating_mul(2)
}

/// Steps in an epoch.
pub(crate) fn steps(batch_size: usize, pictures: usize) -> usize {
    (pictures / batch_size).max(1)
}

/// What is left of an epoch's order after so many steps.
pub(crate) fn rest(mut order: Vec<usize>, steps: usize, batch_size: usize) -> Vec<usize> {
    order.drain(..(steps * batch_size).min(order.len()));
    order
}

/// The crop and flip of the published recipe.
pub(crate) fn training_crop(common: &Common) -> Compose {
    let crop = RandomResizedCrop::fastai(common.size).with_min_scale(common.min_scale as f32);
    Compose::new(vec![Box::new(crop), Box::new(HorizontalFlip { p: common.flip as f32 })])
}

/// A recipe as a record keeps it.
pub(crate) fn recipe_value(recipe: &impl Serialize, line: &str) -> Result<Value> {
    let mut value = self::value(recipe)?;
    if let Value::Object(fields) = &mut value {
        fields.insert("line".into(), line.into());
    }
    Ok(value)
}

/// A recipe as plain data.
pub(crate) fn value(recipe: &impl Serialize) -> Result<Value> {
    serde_json::to_value(recipe).map_err(|error| Error::Recipe {
        field: "recipe",
        problem: format!("cannot be written as JSON: {error}"),
    })
}

/// The proof that weights were drawn from the seed: their hash before the first step.
pub(crate) fn random_weights(parameters: &Parameters, seed: u64) -> Result<InitialWeights> {
    let mut hash = Sha256::new();
    for parameter in parameters.iter().filter(|p| p.kind != Kind::RunningStatistic) {
        hash.update(parameter.name.as_bytes());
        for value in parameter.var.flatten_all()?.to_vec1::<f32>()? {
            hash.update(value.to_le_bytes());
        }
    }
    Ok(InitialWeights::Random { seed, sha256: files::hex(&hash.finalize()) })
}

/// What pictures a run sees: the data's fingerprint, and how far a cache has shrunk them.
pub(crate) fn fingerprint(data: &Dataset) -> String {
    match data.summary().cached_size {
        Some(size) => format!("{}, shorter side at most {size} px", data.fingerprint()),
        None => data.fingerprint(),
    }
}

/// The last part of the data set's path.
pub(crate) fn name(data: &Dataset) -> String {
    let root = data.root();
    root.file_stem().unwrap_or(root.as_os_str()).to_string_lossy().into_owned()
}

/// The data set as a record keeps it.
pub(crate) fn data_record(data: &Dataset, trained_on: Vec<String>) -> DataRecord {
    DataRecord {
        name: name(data),
        fingerprint: fingerprint(data),
        train: data.train().len(),
        unsup: data.unsup().len(),
        val: data.val().len(),
        classes: data.classes().to_vec(),
        pretrained_on: trained_on,
    }
}

/// What a run is of, with what decides its result beside the recipe: how many processes share it.
///
/// # Errors
/// If the processes of this run do not agree about it, or do not begin with the same numbers.
pub(crate) fn identity(
    mut recipe: Value,
    data: &Dataset,
    parameters: &Parameters,
    ranks: &Ranks,
) -> Result<Identity> {
    if ranks.size() > 1
        && let Value::Object(fields) = &mut recipe
    {
        fields.insert("processes".into(), ranks.size().into());
    }
    let identity = Identity { recipe, fingerprint: fingerprint(data) };
    ranks.agree("recipe", identity.recipe.to_string().as_bytes())?;
    ranks.agree("data", identity.fingerprint.as_bytes())?;
    same_weights(parameters, ranks)?;
    Ok(identity)
}

/// Refuses to go on if the processes of this run do not hold the same numbers: they take the same
/// steps, but processors of different makes may round them differently.
///
/// # Errors
/// If so.
pub(crate) fn same_weights(parameters: &Parameters, ranks: &Ranks) -> Result<()> {
    if ranks.size() == 1 {
        return Ok(());
    }
    let mut sums = Vec::new();
    for parameter in parameters.iter() {
        sums.extend(parameter.var.sum_all()?.to_scalar::<f32>()?.to_le_bytes());
    }
    ranks.agree("weights", &sums)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_training_crop_is_enlarged() {
        let common = Common { size: 128, min_scale: 0.35, ..Common::default() };
        let side = f64::from(training_side(&common));
        let smallest_crop = (side * side * 0.35 * 0.75).sqrt();
        assert!((128.0..129.0).contains(&smallest_crop), "{smallest_crop}");
    }

    #[test]
    fn what_is_left_of_an_epoch() {
        assert_eq!(rest((0..10).collect(), 2, 3), [6, 7, 8, 9]);
        assert_eq!(rest((0..10).collect(), 0, 3), (0..10).collect::<Vec<_>>());
        assert_eq!(rest((0..10).collect(), 9, 3), [0; 0]);
    }

    #[test]
    fn a_last_short_batch_is_no_step_unless_it_is_the_only_one() {
        assert_eq!(steps(64, 130), 2);
        assert_eq!(steps(64, 64), 1);
        assert_eq!(steps(64, 10), 1);
    }
}
