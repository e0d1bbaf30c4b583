//! `pretext_ops::backward` gives what candle's own backward pass gives.

use candle_core::{DType, Device, Result, Tensor, Var};
use pretext_ops::channels_last::{
    Activation, FeatureMap, Then, channels_first, channels_last, conv_bias, conv_norm,
};

fn numbers(shape: &[usize], seed: usize) -> Result<Tensor> {
    let count = shape.iter().product::<usize>();
    let values = (0..count).map(|i| ((i + seed) * 7919 % 1009) as f32 / 504.5 - 1.0);
    Tensor::from_vec(values.collect(), shape, &Device::Cpu)
}

fn var(shape: &[usize], seed: usize) -> Result<Var> {
    Var::from_tensor(&numbers(shape, seed)?)
}

#[track_caller]
fn check(loss: &Tensor, parameters: &[&Var]) -> Result<()> {
    // Ours is the last pass through a graph.
    let candles = loss.backward()?;
    let ours = pretext_ops::backward(loss)?;
    let values = |gradients: &candle_core::backprop::GradStore, parameter: &Var| {
        gradients.get(parameter).expect("a gradient").flatten_all()?.to_vec1::<f32>()
    };
    for parameter in parameters {
        let (ours, candles) = (values(&ours, parameter)?, values(&candles, parameter)?);
        let largest = candles.iter().fold(0.0_f32, |most, gradient| most.max(gradient.abs()));
        assert!(largest > 0.0 && ours.len() == candles.len());
        // A weight that is met twice has a sum of gradients, in whatever order.
        let close = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-6 * largest;
        assert!(ours.iter().zip(&candles).all(close));
    }
    Ok(())
}

#[test]
fn weights_of_every_operator() -> Result<()> {
    let (weight, line, bias) = (var(&[5, 3, 3, 3], 0)?, var(&[5], 1)?, var(&[5], 2)?);
    let (pointwise, head) = (var(&[4, 5, 1, 1], 3)?, var(&[2, 4], 4)?);
    let x = FeatureMap::from(channels_last(&numbers(&[2, 3, 6, 7], 5)?)?);
    let then = Then { residual: None, activation: Activation::Relu };
    let y = conv_norm(&x, &weight, (&line, &bias), (1, 1), then, 1e-5)?.y;
    let y = conv_bias(&y, &pointwise, &numbers(&[4], 6)?, (1, 0), Then::default())?;
    let features = channels_first(&y.tensor()?)?.mean((2, 3))?;
    let loss = pretext_ops::linear(&features, &head, None)?.sqr()?.sum_all()?;
    check(&loss, &[&weight, &line, &bias, &pointwise, &head])
}

#[test]
fn a_weight_that_is_met_twice_and_by_candles_own_operators() -> Result<()> {
    let weight = var(&[3, 3, 3, 3], 0)?;
    let x = numbers(&[2, 3, 5, 5], 1)?;
    let y = pretext_ops::conv2d(&x, &weight, None, 1, 1)?;
    let y = pretext_ops::conv2d(&y, &weight, None, 1, 1)?;
    let loss = (y.sqr()?.sum_all()? + weight.sqr()?.sum_all()?)?;
    check(&loss, &[&weight])
}

#[test]
fn a_weight_that_is_made_of_a_parameter() -> Result<()> {
    let parameter = var(&[4, 3, 3, 3], 0)?;
    let weight = (parameter.as_tensor() * 0.5)?;
    let y = pretext_ops::conv2d(&numbers(&[1, 3, 5, 5], 1)?, &weight, None, 2, 1)?;
    check(&y.sqr()?.sum_all()?, &[&parameter])
}

#[test]
fn feature_maps_are_freed() -> Result<()> {
    let weight = var(&[4, 3, 1, 1], 0)?;
    let x = FeatureMap::from(numbers(&[1, 2, 2, 3], 1)?);
    let y = conv_bias(&x, &weight, &numbers(&[4], 2)?, (1, 0), Then::default())?;
    let loss = y.tensor()?.sqr()?.sum_all()?;
    assert!(y.tensor().is_ok());
    loss.backward()?; // candle's own pass keeps everything.
    assert!(y.tensor().is_ok());
    pretext_ops::backward(&loss)?;
    let error = y.tensor().unwrap_err().to_string();
    assert!(error.starts_with("pretext_ops::backward has freed"), "{error}");
    assert!(x.tensor().is_ok(), "what the caller made is the caller's");
    Ok(())
}

#[test]
fn layouts_and_their_gradients() -> Result<()> {
    let x = var(&[2, 3, 5, 301], 0)?;
    let slopes = numbers(&[2, 5, 301, 3], 1)?;
    let turned = channels_last(&x)?;
    let plain = x.permute((0, 2, 3, 1))?.contiguous()?;
    let equal = |a: &Tensor, b: &Tensor| -> Result<bool> {
        Ok(a.dims() == b.dims()
            && a.flatten_all()?.to_vec1::<f32>()? == b.flatten_all()?.to_vec1::<f32>()?)
    };
    assert!(equal(&turned, &plain)? && equal(&channels_first(&turned)?, &x)?);
    let gradient = |y: &Tensor| -> Result<Tensor> {
        let gradients = (y * &slopes)?.sum_all()?.backward()?;
        Ok(gradients.get(&x).expect("a gradient").clone())
    };
    assert!(equal(&gradient(&turned)?, &gradient(&plain)?)?);
    let narrow = numbers(&[2, 3, 4, 4], 2)?.to_dtype(DType::BF16)?.narrow(1, 1, 2)?;
    let there_and_back = channels_first(&channels_last(&narrow)?)?.to_dtype(DType::F32)?;
    assert!(equal(&there_and_back, &narrow.to_dtype(DType::F32)?)?);
    Ok(())
}
