//! One training step as often as it is told to, so that another process can time it beside a peer's.
//!
//! Each line on stdin is a number of steps to take; each is answered by one line of their seconds:
//! `printf "train\n5\npeak\n" | cargo bench -p pretext-train --bench step -- NETWORK [BATCH [SIZE [PRECISION [GROUP]]]]`.
//! `train` and `evaluate` say what a step is, `peak` asks for the most memory held, in MiB. With
//! `instructions` for the network it names the instruction set that it would take. With a GROUP, steps run
//! on the first GPU, which takes so many for each step that is asked for, without waiting in between; the
//! seconds are those of one of them.

#![allow(clippy::print_stdout, reason = "its answers are its output")]

use std::io::BufRead as _;
use std::time::Instant;

use candle_core::{DType, Device, Tensor};
use pretext_models::{Builder, Classifier, EncoderOptions, Mode, Parameters, UNet, UNetOptions};
use pretext_train::optimisers::{self, Optimiser};
use pretext_train::precision::Precision;
use rand::{SeedableRng as _, rngs::StdRng};

#[path = "../../pretext-cli/src/allocator.rs"]
mod allocator;

/// Classes of the classifiers.
const CLASSES: usize = 20;

enum Network {
    Classifier(Box<Classifier>),
    UNet(Box<UNet>),
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    allocator::keep_memory();
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let Some(name) = arguments.first() else {
        return Ok(()); // Started by `cargo bench` or `cargo test` for all benches.
    };
    if name == "instructions" {
        println!("{}", pretext_ops::Isa::current());
        return Ok(());
    }
    let number = |i: usize, default: usize| arguments.get(i).map_or(Ok(default), |a| a.parse());
    let (batch, size) = (number(1, 32)?, number(2, 128)?);
    let precision = arguments.get(3).map_or("f32", String::as_str);
    let (_, precision) = Precision::ALL
        .iter()
        .find(|(name, _)| *name == precision)
        .ok_or_else(|| format!("{precision} is no precision; give f32 or bf16"))?;

    let (device, group) = match arguments.get(4) {
        None => (Device::Cpu, 1),
        Some(group) => (gpu()?, group.parse::<usize>()?.max(1)),
    };
    let parameters = Parameters::new(&device);
    let mut rng = StdRng::seed_from_u64(0);
    let builder = Builder::new(&parameters, &mut rng);
    let options = EncoderOptions::default();
    let network = match name.strip_prefix("unet-") {
        Some(encoder) => {
            let unet = UNet::new(encoder, &options, size, &UNetOptions::default(), builder)?;
            Network::UNet(Box::new(unet))
        }
        None => Network::Classifier(Box::new(Classifier::new(name, &options, CLASSES, builder)?)),
    };
    let (_, adamw) = optimisers::ALL.iter().find(|(name, _)| *name == "adamw").ok_or("adamw")?;
    let mut optimiser = Optimiser::new(*adamw, 1e-2, &parameters, |_| Some(0));

    let values = (0..batch * 3 * size * size).map(|i| ((i * 7919) % 1009) as f32 / 504.5 - 1.0);
    let x = Tensor::from_vec(values.collect(), (batch, 3, size, size), &device)?;
    // As a GPU's kernels write views: channels-last, in the numbers that the network computes with.
    let written = match &device {
        Device::Cpu => None,
        _ => Some(precision.cast(&x.permute((0, 2, 3, 1))?.contiguous()?)?.permute((0, 3, 1, 2))?),
    };
    let classes: Vec<u32> = (0..batch as u32).map(|i| i % CLASSES as u32).collect();
    let classes = Tensor::new(classes, &Device::Cpu)?.to_dtype(DType::U32)?;
    let mut mode = Mode::Train;
    for line in std::io::stdin().lock().lines() {
        let steps: usize = match line?.trim() {
            "train" => {
                mode = Mode::Train;
                continue;
            }
            "evaluate" => {
                mode = Mode::Evaluate;
                continue;
            }
            "peak" => {
                println!("{}", peak_memory()?);
                continue;
            }
            steps => steps.parse()?,
        };
        let mut seconds = Vec::with_capacity(steps);
        for _ in 0..steps {
            device.synchronize()?;
            let start = Instant::now();
            for _ in 0..group {
                let input = match &written {
                    Some(written) => written.clone(),
                    None => precision.cast(&x)?,
                };
                let loss = match &network {
                    Network::Classifier(classifier) if mode == Mode::Evaluate => {
                        classifier.forward(&input, mode)?
                    }
                    Network::UNet(unet) if mode == Mode::Evaluate => unet.forward(&input, mode)?,
                    Network::Classifier(classifier) => pretext_ops::cross_entropy(
                        &classifier.forward(&input, mode)?,
                        &classes,
                        0.1,
                    )?,
                    Network::UNet(unet) => pretext_ops::mse_loss(&unet.forward(&input, mode)?, &x)?,
                };
                if mode == Mode::Train {
                    optimiser.step(&pretext_ops::backward(&loss)?, &[1e-3], None)?;
                }
            }
            device.synchronize()?;
            seconds.push(format!("{:.6}", start.elapsed().as_secs_f64() / group as f64));
        }
        println!("{}", seconds.join(" "));
    }
    Ok(())
}

#[cfg(feature = "cuda")]
fn gpu() -> candle_core::Result<Device> {
    pretext_ops::cuda::device(0)
}

#[cfg(not(feature = "cuda"))]
fn gpu() -> Result<Device, &'static str> {
    Err("this bench was built without the feature cuda")
}

/// The most memory that this process has held, in MiB.
fn peak_memory() -> Result<u64, Box<dyn std::error::Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
    Ok(line.trim_end_matches("kB").trim().parse::<u64>()? / 1024)
}
