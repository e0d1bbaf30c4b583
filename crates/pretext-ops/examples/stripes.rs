//! Trains a small convolutional network to tell upright from level stripes.
//!
//! ```sh
//! cargo run -p pretext-ops --example stripes
//! ```

#![allow(clippy::print_stdout, reason = "an example talks to its reader")]

use candle_core::{DType, Device, Result, Tensor, Var};
use pretext_ops::{batch_norm, conv2d, cross_entropy, global_avg_pool2d, linear, max_pool2d, relu};

const PICTURES: usize = 16;
const SIDE: usize = 12;
const STEPS: usize = 30;
const LEARNING_RATE: f64 = 0.2;

fn main() -> Result<()> {
    let (pictures, classes) = stripes()?;
    // Initial weights need no chance here: a sine over the index is uneven enough.
    let parameter = |dims: &[usize], scale: f64| {
        let count: usize = dims.iter().product();
        let values: Vec<f32> =
            (0..count).map(|i| (scale * (i as f64 * 1.7).sin()) as f32).collect();
        Var::from_tensor(&Tensor::from_vec(values, dims, &Device::Cpu)?)
    };
    let constant =
        |value: f32, count: usize| Var::from_tensor(&Tensor::full(value, count, &Device::Cpu)?);
    let parameters = [
        parameter(&[8, 1, 3, 3], 0.3)?,
        constant(1.0, 8)?,
        constant(0.0, 8)?,
        parameter(&[16, 8, 3, 3], 0.1)?,
        parameter(&[2, 16], 0.2)?,
        constant(0.0, 2)?,
    ];
    let [first, weight, bias, second, head, head_bias] = &parameters;
    for step in 0..=STEPS {
        let x = batch_norm(&conv2d(&pictures, first, None, 1, 1)?, weight, bias, 1e-5)?.y;
        let x = max_pool2d(&relu(&x)?, 3, 2, 1)?;
        let x = relu(&conv2d(&x, second, None, 2, 1)?)?;
        let logits = linear(&global_avg_pool2d(&x)?, head, Some(head_bias))?;
        let loss = cross_entropy(&logits, &classes, 0.0)?;
        if step % 5 == 0 {
            let right = logits.argmax(1)?.eq(&classes)?.to_dtype(DType::U32)?.sum_all()?;
            let (loss, right) = (loss.to_scalar::<f32>()?, right.to_scalar::<u32>()?);
            println!("step {step:2}: loss {loss:.4}, {right} of {PICTURES} right");
        }
        let gradients = loss.backward()?;
        for parameter in &parameters {
            if let Some(gradient) = gradients.get(parameter) {
                parameter.set(&(parameter.as_tensor() - (gradient * LEARNING_RATE)?)?)?;
            }
        }
    }
    Ok(())
}

/// Pictures `[PICTURES, 1, SIDE, SIDE]` of stripes 1 to 4 pixels wide at several offsets, and
/// whether each one's stripes are upright.
fn stripes() -> Result<(Tensor, Tensor)> {
    let mut pixels = Vec::new();
    for picture in 0..PICTURES {
        let (upright, width, offset) = (picture % 2 == 1, 1 + picture / 2 % 4, picture / 8);
        for y in 0..SIDE {
            for x in 0..SIDE {
                let at = if upright { x } else { y };
                pixels.push(((at + offset) / width % 2) as f32);
            }
        }
    }
    let classes: Vec<u32> = (0..PICTURES as u32).map(|picture| picture % 2).collect();
    Ok((
        Tensor::from_vec(pixels, (PICTURES, 1, SIDE, SIDE), &Device::Cpu)?,
        Tensor::new(classes, &Device::Cpu)?,
    ))
}
