//! Prints every encoder: its parameters, and the shapes of its features.
//!
//! ```sh
//! cargo run -p pretext-models --example encoders      # for pictures of 128 pixels
//! cargo run -p pretext-models --example encoders 192
//! ```

#![allow(clippy::print_stdout, reason = "an example talks to its reader")]

use candle_core::{DType, Device, Tensor};
use pretext_models::frozen::FROZEN;
use pretext_models::{Builder, ENCODERS, EncoderOptions, Mode, Parameters, encoder};
use rand::{SeedableRng as _, rngs::StdRng};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let side: usize = match std::env::args().nth(1) {
        Some(text) => text.parse().map_err(|_| format!("{text:?} is no number of pixels"))?,
        None => 128,
    };
    let x = Tensor::zeros((1, 3, side, side), DType::F32, &Device::Cpu)?;

    println!("Trainable encoders, on pictures of {side}x{side} pixels:");
    for spec in ENCODERS {
        let parameters = Parameters::new(&Device::Cpu);
        let mut rng = StdRng::seed_from_u64(0);
        let builder = Builder::new(&parameters, &mut rng);
        let encoder = encoder(spec.name, &EncoderOptions::default(), builder)?;
        let shapes: Vec<String> = encoder
            .features(&x, Mode::Evaluate)?
            .iter()
            .map(|feature| feature.dims()[1..].iter().map(usize::to_string).collect::<Vec<_>>())
            .map(|dims| dims.join("x"))
            .collect();
        let count = parameters.parameter_count();
        println!("  {:<10} {count:>10} parameters, features {}", spec.name, shapes.join(" "));
    }

    println!("Frozen encoders:");
    for spec in FROZEN {
        let pixels = if spec.fixed_size { "pixels only" } else { "pixels" };
        let (name, input, dimension) = (spec.name, spec.input_size, spec.dimension);
        println!("  {name:<16} {input} {pixels}, embedding of {dimension}");
    }
    Ok(())
}
