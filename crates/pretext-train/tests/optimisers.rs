//! Optimisers against fastai and PyTorch, step by step (`reference/make.py` made the traces).

use std::collections::BTreeMap;

use candle_core::{DType, Device, Result, Tensor};
use pretext_models::{Kind, Parameters};
use pretext_train::optimisers::{ALL, Optimiser};

const RATE: f64 = 8e-3;

fn parameters() -> Parameters {
    let parameters = Parameters::new(&Device::Cpu);
    let weight: Vec<f32> = (0..6).map(|i| i as f32 / 4.0 - 0.6).collect();
    let weight = Tensor::from_vec(weight, (2, 3), &Device::Cpu).unwrap();
    let bias = Tensor::new(&[0.3f32, -0.2], &Device::Cpu).unwrap();
    parameters.insert("weight", Kind::Weight, &weight).unwrap();
    parameters.insert("bias", Kind::Bias, &bias).unwrap();
    parameters
}

fn loss(parameters: &Parameters) -> Result<Tensor> {
    let device = &Device::Cpu;
    let x = Tensor::new(&[[1.0f32, -0.5], [0.25, 2.0], [-1.5, 0.75]], device)?;
    let weight = parameters.get("weight").unwrap().var.as_tensor().clone();
    let bias = parameters.get("bias").unwrap().var.as_tensor().clone();
    let y = weight.matmul(&x)?.broadcast_add(&bias.unsqueeze(1)?)?;
    (y.sin()? + (y.sqr()? * 0.1)?)?.sum_all()
}

fn values(parameters: &Parameters) -> Vec<f32> {
    let flat = |name: &str| {
        let var = &parameters.get(name).unwrap().var;
        var.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap()
    };
    [flat("weight"), flat("bias")].concat()
}

fn step(parameters: &Parameters, optimiser: &mut Optimiser, clip: Option<f64>) {
    let gradients = loss(parameters).unwrap().backward().unwrap();
    optimiser.step(&gradients, &[RATE], clip).unwrap();
}

#[test]
fn every_optimiser_steps_as_the_published_one() {
    let text = include_str!("reference/optimisers.json");
    let traces: BTreeMap<String, Vec<Vec<f32>>> = serde_json::from_str(text).unwrap();
    for (name, rule) in ALL {
        let parameters = parameters();
        let mut optimiser = Optimiser::new(*rule, 1e-2, &parameters, |_| Some(0));
        for (i, want) in traces[*name].iter().enumerate() {
            step(&parameters, &mut optimiser, None);
            for (got, want) in values(&parameters).iter().zip(want) {
                assert!((got - want).abs() < 2e-6, "{name}, step {}: {got}, not {want}", i + 1);
            }
        }
    }
}

#[test]
fn a_restored_optimiser_goes_on_bit_for_bit() {
    for (name, rule) in ALL {
        let (unbroken, broken) = (parameters(), parameters());
        let mut optimiser = Optimiser::new(*rule, 1e-2, &unbroken, |_| Some(0));
        let mut first = Optimiser::new(*rule, 1e-2, &broken, |_| Some(0));
        for _ in 0..8 {
            step(&unbroken, &mut optimiser, None);
            step(&broken, &mut first, None);
        }
        let mut second = Optimiser::new(*rule, 1e-2, &broken, |_| Some(0));
        second.restore(first.steps(), &first.state().unwrap()).unwrap();
        for _ in 0..8 {
            step(&unbroken, &mut optimiser, None);
            step(&broken, &mut second, None);
        }
        assert_eq!(values(&unbroken), values(&broken), "{name}");
    }
}

#[test]
fn clipping_limits_the_norm_and_spares_small_gradients() {
    let norm_of_step = |clip| {
        let parameters = parameters();
        let before = values(&parameters);
        // Plain gradient descent: the step is the rate times the gradient.
        let rule = pretext_train::optimisers::Rule::Sgd { momentum: 0.0 };
        let mut optimiser = Optimiser::new(rule, 0.0, &parameters, |_| Some(0));
        step(&parameters, &mut optimiser, clip);
        let moves = values(&parameters)
            .iter()
            .zip(before)
            .map(|(a, b)| f64::from(a - b))
            .map(|d| d * d)
            .sum::<f64>();
        moves.sqrt() / RATE
    };
    let free = norm_of_step(None);
    assert!(free > 1.0, "{free}");
    assert!((norm_of_step(Some(0.5)) - 0.5).abs() < 1e-3);
    assert!((norm_of_step(Some(1e3)) - free).abs() < 1e-3);
}

#[test]
fn a_frozen_parameter_stays() {
    let parameters = parameters();
    let mut optimiser =
        Optimiser::new(ALL[0].1, 1e-2, &parameters, |name| (name == "bias").then_some(0));
    let before = values(&parameters);
    for _ in 0..7 {
        step(&parameters, &mut optimiser, None);
    }
    let after = values(&parameters);
    assert_eq!(before[..6], after[..6]);
    assert_ne!(before[6..], after[6..]);
}
