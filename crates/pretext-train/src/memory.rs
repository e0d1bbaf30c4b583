//! What to do where a GPU's memory does not hold a step: the batch size that would fit.
//!
//! The step that failed does not say what it would have taken. So steps of two small batches are tried
//! then, and what they took at most tells what one picture more takes. Nothing of that is kept: the run
//! ends, and its last checkpoint stays as it is.

use candle_core::Device;

use crate::error::{Error, Result};
use crate::optimisers::Rule;
use crate::recipe::Common;

/// Of the memory that could be had, this is left for what lies between its pieces.
const GAPS: f64 = 0.05;
/// The smallest batch that has statistics to normalise by.
const LEAST: usize = 2;

/// What a step of a batch took at most.
#[derive(Clone, Copy, Debug)]
struct Demand {
    pictures: usize,
    /// Bytes, with everything that stays from step to step.
    peak: u64,
}

/// The largest batch below `tried` whose parts fit, on each of so many processes, into `room` bytes
/// beside `later` bytes that are yet to come, if each picture takes the same; `None` if there is none.
/// `tried` is the size of a whole batch, `few` and `more` are of one process.
fn fitting(
    room: u64,
    later: u64,
    [few, more]: [Demand; 2],
    tried: usize,
    processes: usize,
) -> Option<usize> {
    let picture = more.peak.checked_sub(few.peak)? as f64
        / more.pictures.checked_sub(few.pictures).filter(|&count| count > 0)? as f64;
    let stays = few.peak as f64 - picture * few.pictures as f64;
    let left = room as f64 * (1.0 - GAPS) - later as f64 - stays;
    let count = if picture > 0.0 { (left / picture).floor() } else { f64::INFINITY };
    let count = count.min((tried.div_ceil(processes) - 1) as f64);
    (count >= LEAST as f64).then_some(count as usize * processes)
}

/// Pairs of batch sizes to try, the better ones first: the larger a batch, the nearer it is to the one
/// that matters.
fn trials(tried: usize) -> impl Iterator<Item = [usize; 2]> {
    let pair = |part: usize| [(tried / (2 * part)).max(LEAST), (tried / part).max(2 * LEAST)];
    let mut pairs = vec![pair(2), pair(4), pair(16), pair(tried.max(1))];
    pairs.retain(|[_, more]| *more < tried);
    pairs.dedup();
    pairs.into_iter()
}

/// Bytes that an optimiser remembers once it has stepped.
fn remembered(rule: Rule, parameters: usize) -> u64 {
    let each = match rule {
        Rule::Sgd { .. } | Rule::Lars { .. } => 1,
        Rule::Adamw { .. } | Rule::Lamb { .. } => 2,
        Rule::Ranger { .. } => 3,
    };
    (each * parameters * size_of::<f32>()) as u64
}

/// A step that may fail.
pub(crate) struct Trial<'a> {
    pub(crate) device: &'a Device,
    pub(crate) common: &'a Common,
    /// Processes that share a batch.
    pub(crate) processes: usize,
    /// Trained numbers.
    pub(crate) parameters: usize,
    /// Computes the gradients of a batch of so many pictures.
    pub(crate) step: &'a dyn Fn(usize) -> Result<()>,
}

impl Trial<'_> {
    /// What came of a step or a batch; if memory was full, an error that says what would fit. `first`:
    /// the optimiser has not stepped yet.
    pub(crate) fn explain<T>(&self, result: Result<T>, first: bool) -> Result<T> {
        match result {
            Err(error) if error.is_full_memory() && !self.device.is_cpu() => {
                let tried = self.common.batch_size;
                let later =
                    if first { remembered(self.common.optimiser, self.parameters) } else { 0 };
                let part = tried.div_ceil(self.processes);
                let fits = trials(part).find_map(|pair| self.demands(pair).ok());
                let fits = fits.and_then(|(room, demands)| {
                    fitting(room, later, demands, tried, self.processes)
                });
                Err(Error::FullMemory { tried, fits })
            }
            other => other,
        }
    }

    /// What could be had, and what two batches take.
    fn demands(&self, [few, more]: [usize; 2]) -> Result<(u64, [Demand; 2])> {
        let (_, few) = self.demand(few)?;
        let (room, more) = self.demand(more)?;
        Ok((room, [few, more]))
    }

    #[cfg(feature = "cuda")]
    fn demand(&self, pictures: usize) -> Result<(u64, Demand)> {
        use pretext_ops::cuda::{forget_peak, memory_use};
        // What is done by then is freed by then.
        self.device.synchronize()?;
        forget_peak(self.device)?;
        (self.step)(pictures)?;
        self.device.synchronize()?;
        match memory_use(self.device)? {
            Some(used) => Ok((used.room, Demand { pictures, peak: used.peak })),
            None => Err(uncounted()),
        }
    }

    #[cfg(not(feature = "cuda"))]
    fn demand(&self, pictures: usize) -> Result<(u64, Demand)> {
        (self.step)(pictures)?;
        Err(uncounted())
    }
}

/// The driver does not count memory.
fn uncounted() -> Error {
    candle_core::Error::Msg("memory in use is not counted here".into()).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optimisers;

    const MIB: u64 = 1 << 20;

    fn demand(pictures: usize) -> Demand {
        // 300 MiB stay, and each picture takes 50.
        Demand { pictures, peak: (300 + 50 * pictures as u64) * MIB }
    }

    #[test]
    fn the_largest_batch_that_fits() {
        let demands = [demand(8), demand(16)];
        // 950 of 1000 MiB can be used; 650 are left for pictures.
        assert_eq!(fitting(1000 * MIB, 0, demands, 64, 1), Some(13));
        assert_eq!(fitting(1000 * MIB, 150 * MIB, demands, 64, 1), Some(10));
        assert_eq!(fitting(1000 * MIB, 150 * MIB, demands, 10, 1), Some(9), "10 did not fit");
        assert_eq!(fitting(500 * MIB, 0, demands, 64, 1), Some(3));
        assert_eq!(fitting(400 * MIB, 0, demands, 64, 1), None, "one picture is no batch");
        assert_eq!(fitting(100 * MIB, 200 * MIB, demands, 64, 1), None);
        // Of several processes each holds its part.
        assert_eq!(fitting(1000 * MIB, 0, demands, 256, 4), Some(4 * 13));
        assert_eq!(fitting(1000 * MIB, 0, demands, 40, 4), Some(4 * 9), "parts of 10 did not fit");
    }

    #[test]
    fn what_makes_no_sense_is_no_estimate() {
        assert_eq!(fitting(1000 * MIB, 0, [demand(8), demand(8)], 64, 1), None);
        assert_eq!(fitting(1000 * MIB, 0, [demand(16), demand(8)], 64, 1), None);
        // A difference too small to be seen.
        let flat = Demand { pictures: 16, ..demand(8) };
        assert_eq!(fitting(1000 * MIB, 0, [demand(8), flat], 64, 1), Some(63));
    }

    #[test]
    fn small_batches_are_tried_below_the_one_that_failed() {
        let pairs = |tried| trials(tried).collect::<Vec<_>>();
        assert_eq!(pairs(64), [[16, 32], [8, 16], [2, 4]]);
        assert_eq!(pairs(1000), [[250, 500], [125, 250], [31, 62], [2, 4]]);
        assert_eq!(pairs(6), [[2, 4]]);
        assert_eq!(pairs(4), [[0; 2]; 0]);
        for tried in 0..300 {
            assert!(pairs(tried).iter().all(|[few, more]| few < more && *more < tried));
        }
    }

    #[test]
    fn optimisers_remember_as_much_as_their_checkpoints_hold() {
        use candle_core::Tensor;
        use pretext_models::{Kind, Parameters};
        for (name, rule) in optimisers::ALL {
            let parameters = Parameters::new(&Device::Cpu);
            let values = Tensor::ones((3, 4), candle_core::DType::F32, &Device::Cpu).unwrap();
            let var = parameters.insert("weight", Kind::Weight, &values).unwrap();
            let mut optimiser = optimisers::Optimiser::new(*rule, 0.0, &parameters, |_| Some(0));
            let gradients = var.sqr().unwrap().sum_all().unwrap().backward().unwrap();
            optimiser.step(&gradients, &[0.1], None).unwrap();
            let held: usize = optimiser.state().unwrap().values().map(Tensor::elem_count).sum();
            assert_eq!(remembered(*rule, 12), 4 * held as u64, "{name}");
        }
    }

    #[test]
    fn other_errors_pass() {
        let (common, step) = (Common::default(), |_: usize| -> Result<()> { panic!("tried") });
        let device = &Device::Cpu;
        let trial = Trial { device, common: &common, processes: 1, parameters: 1, step: &step };
        assert!(matches!(trial.explain(Ok(3), true), Ok(3)));
        let other = Err::<(), _>(uncounted());
        assert!(matches!(trial.explain(other, true), Err(Error::Tensor(_))));
    }
}
