//! The gradient of a whole batch: buckets of the parts' gradients, summed while the backward pass
//! still goes on.
//!
//! The weights of convolutions, most of a network's numbers, come from the backward pass one by one,
//! the last layer's first. As soon as a bucket is full its sum begins: MPI moves it on whenever the
//! next gradient comes, NCCL beside the GPU's other work. What candle's own graph holds (norms, biases,
//! linear layers) follows at the end of the pass, with the running statistics where they are not
//! already the whole batch's.

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::backprop::GradStore;
use candle_core::{Error as TensorError, Tensor, bail};
use pretext_models::{Kind, Parameters};

use super::world::World;
use crate::error::Result;

/// What goes to the other processes, in the same order in each.
pub(super) trait Buckets: Send {
    /// Adds `values`, times `factor`, for the tensor `of`.
    fn push(&mut self, of: &Tensor, values: &Tensor, factor: f32) -> Result<()>;

    /// Waits for all sums; each tensor with its own.
    fn finish(self: Box<Self>) -> Result<Vec<(Tensor, Tensor)>>;
}

/// The gradients of the sum of all processes' losses. Running statistics become their mean over the
/// processes, by `share`, unless they are `synchronised` already.
pub(super) fn backward(
    world: &Arc<World>,
    loss: &Tensor,
    share: f64,
    parameters: &Parameters,
    synchronised: bool,
) -> Result<GradStore> {
    let buckets = Arc::new(Mutex::new(Some(World::buckets(world))));
    let ready = {
        let buckets = buckets.clone();
        move |parameter: &Tensor, gradient: Tensor| {
            let mut buckets = buckets.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(buckets) = &mut *buckets else { bail!("a gradient came too late") };
            buckets.push(parameter, &gradient, 1.0).map_err(TensorError::wrap)
        }
    };
    let mut gradients = pretext_ops::backward_by_parts(loss, ready)?;
    let buckets = buckets.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some(mut buckets) = buckets else { return Ok(gradients) };
    for parameter in parameters.iter() {
        if parameter.kind != Kind::RunningStatistic {
            if let Some(gradient) = gradients.get(&parameter.var) {
                buckets.push(&parameter.var, gradient, 1.0)?;
            }
        } else if !synchronised {
            buckets.push(&parameter.var, &parameter.var, share as f32)?;
        }
    }
    let sums = buckets.finish()?;
    let statistics: Vec<_> =
        parameters.iter().filter(|p| p.kind == Kind::RunningStatistic).map(|p| p.var).collect();
    for (tensor, sum) in sums {
        match statistics.iter().find(|var| var.id() == tensor.id()) {
            Some(var) => var.set(&sum)?,
            None => {
                gradients.insert(&tensor, sum);
            }
        }
    }
    Ok(gradients)
}

#[cfg(all(test, feature = "mpi"))]
mod tests {
    use std::time::Instant;

    use candle_core::Device;
    use pretext_models::{Builder, Classifier, EncoderOptions, Mode};
    use rand::{SeedableRng as _, rngs::StdRng};

    use super::*;
    use crate::ranks::Ranks;

    /// The same sums, begun when the pass is over.
    fn afterwards(world: &Arc<World>, loss: &Tensor, parameters: &Parameters) -> Result<GradStore> {
        let mut gradients = pretext_ops::backward(loss)?;
        let mut buckets = World::buckets(world);
        for parameter in parameters.iter().filter(|p| p.kind != Kind::RunningStatistic) {
            if let Some(gradient) = gradients.get(&parameter.var) {
                buckets.push(&parameter.var, gradient, 1.0)?;
            }
        }
        for (tensor, sum) in buckets.finish()? {
            gradients.insert(&tensor, sum);
        }
        Ok(gradients)
    }

    /// A measurement, of two processes or more under `mpirun`: what it gains to sum gradients during
    /// the backward pass. crates/pretext-train/README.md has the command.
    #[test]
    #[ignore = "a measurement, for a machine with nothing else to do"]
    fn gain_of_the_overlap() {
        let ranks = Ranks::find(&crate::device::Device::cpu()).unwrap();
        let world = ranks.world.clone().expect("start it with mpirun -n 2");
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        pool.install(|| {
            for (name, batch, size) in [
                ("xresnet18", 2, 64),
                ("xresnet18", 16, 64),
                ("xresnet34", 2, 128),
                ("xresnet34", 16, 128),
            ] {
                measure(&ranks, &world, name, batch, size);
            }
        });
        drop(world);
        ranks.leave();
    }

    fn measure(ranks: &Ranks, world: &Arc<World>, name: &str, batch: usize, size: usize) {
        const ROUNDS: usize = 12;
        let parameters = Parameters::new(&Device::Cpu);
        let mut rng = StdRng::seed_from_u64(0);
        let builder = Builder::new(&parameters, &mut rng);
        let network = Classifier::new(name, &EncoderOptions::default(), 20, builder).unwrap();
        let values = (0..batch * 3 * size * size).map(|i| ((i * 7919) % 1009) as f32 / 504.5 - 1.0);
        let x = Tensor::from_vec(values.collect(), (batch, 3, size, size), &Device::Cpu).unwrap();
        let classes = Tensor::new(vec![1_u32; batch], &Device::Cpu).unwrap();
        // Milliseconds of the backward pass and the sums: during it, after it, and without any.
        let mut times = [const { Vec::new() }; 3];
        for round in 0..=ROUNDS {
            for (way, times) in times.iter_mut().enumerate() {
                let y = network.forward(&x, Mode::Train).unwrap();
                let loss = pretext_ops::cross_entropy(&y, &classes, 0.1).unwrap();
                ranks.sum(&mut [0.0]).unwrap();
                let began = Instant::now();
                match way {
                    0 => drop(backward(world, &loss, 0.5, &parameters, true).unwrap()),
                    1 => drop(afterwards(world, &loss, &parameters).unwrap()),
                    _ => drop(pretext_ops::backward(&loss).unwrap()),
                }
                if round > 0 {
                    times.push(1e3 * began.elapsed().as_secs_f64());
                }
            }
        }
        if ranks.is_first() {
            let median = |times: &mut Vec<f64>| {
                times.sort_by(f64::total_cmp);
                (times[ROUNDS / 4], times[ROUNDS / 2], times[3 * ROUNDS / 4])
            };
            let [during, after, alone] = &mut times;
            #[expect(clippy::print_stdout, reason = "a measurement says what it found")]
            {
                println!(
                    "{name} {size} px, {batch} pictures a process, ms (quartiles): sums during the pass \
                     {:.0?}, after it {:.0?}, no sums {:.0?}",
                    median(during),
                    median(after),
                    median(alone)
                );
            }
        }
    }
}
