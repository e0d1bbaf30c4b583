//! How long each kernel takes on a GPU, and how many bytes and operations it has to do.
//!
//! `cargo bench -p pretext-train --bench gpu --features cuda -- kernels [ROUNDS]` answers with one line of
//! JSON for each; `device` says on what, or in one line why there is nothing. `cargo xtask bench gpu` makes a table of them.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "its answers are its output")]

mod augment;
mod operators;
mod optimiser;
mod timing;

use candle_core::{DType, Result, Tensor};
use pretext_ops::cuda;
use pretext_train::device::{Device, DeviceChoice};

use self::timing::{Case, Clock};

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let rounds = match arguments[..] {
        [] => return Ok(()), // Started by `cargo bench` or `cargo test` for all benches.
        ["device"] => {
            let device = Device::open(DeviceChoice::Gpu(0));
            match &device {
                Ok(device) => println!("{}", device.name()),
                Err(error) => eprintln!("{error}"),
            }
            std::process::exit(i32::from(device.is_err()));
        }
        ["kernels"] => 10,
        ["kernels", rounds] => rounds.parse()?,
        _ => return Err("give device, or kernels [ROUNDS]".into()),
    };
    let device = cuda::device(0)?;
    let clock = Clock::new(&device)?;
    clock.measure(copy(&device)?, rounds)?;
    // Each case's memory is given back before the next.
    for case in augment::ALL {
        clock.measure(case(&device)?, rounds)?;
    }
    for case in operators::all(&device) {
        clock.measure(case?, rounds)?;
    }
    for case in optimiser::all(&device) {
        clock.measure(case?, rounds)?;
    }
    Ok(())
}

/// Bytes of a copy: more than any cache holds.
const COPIED: usize = 1 << 30;

/// What the memory does at best: a copy from itself to itself.
fn copy(device: &candle_core::Device) -> Result<Case> {
    let from = Tensor::zeros(COPIED, DType::U8, device)?;
    Ok(Case::new("copy", "device to device")
        .bytes(2 * COPIED)
        .launches(move || Ok(from.clone()), |from| from.copy().map(drop)))
}
