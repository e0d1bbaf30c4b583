//! Results and gradients of every operator against PyTorch's, in `f64` and `f32`.
//!
//! `reference/make.py` wrote the vectors; a case there is a case here.

mod support;

use std::collections::{BTreeMap, BTreeSet};

use candle_core::{DType, Device, Result, Tensor, Var};
use pretext_ops as ops;
use support::flat;

/// Everything that [`call`] knows, so that none goes without a case.
const OPERATORS: &[&str] = &[
    "avg_pool2d",
    "batch_norm",
    "batch_norm_eval",
    "blur_pool2d",
    "conv2d",
    "cross_entropy",
    "global_avg_pool2d",
    "l1_loss",
    "layer_norm",
    "linear",
    "max_blur_pool",
    "max_pool2d",
    "mish",
    "mse_loss",
    "pixel_shuffle",
    "relu",
    "replicate_blur2d",
    "upsample_bilinear2d",
    "upsample_nearest2d",
];

/// Largest difference, of the largest element of a tensor (or of 1, if that is more).
const TOLERANCES: [(DType, f64); 2] = [(DType::F64, 1e-12), (DType::F32, 1e-4)];

type Tensors = BTreeMap<String, Tensor>;

/// Calls the operator that a case is named after, "conv2d padding=1 stride=2 #3x3": its results.
fn call(case: &str, inputs: &Tensors) -> Result<Vec<(&'static str, Tensor)>> {
    let mut words = case.split(" #").next().unwrap().split(' ');
    let operator = words.next().unwrap();
    let arguments: BTreeMap<&str, f64> = words
        .map(|word| word.split_once('=').unwrap())
        .map(|(k, v)| (k, v.parse().unwrap()))
        .collect();
    let number = |name: &str| arguments[name];
    let size = |name: &str| arguments[name] as usize;
    let input = |name: &str| &inputs[name];
    let (x, bias) = (inputs.get("x"), inputs.get("bias"));
    let x = || x.unwrap();
    let y = match operator {
        "avg_pool2d" => {
            let (ceil_mode, count_include_pad) = (size("ceil") == 1, size("include") == 1);
            let options = ops::AvgPool { ceil_mode, count_include_pad };
            ops::avg_pool2d(x(), size("kernel"), size("stride"), size("padding"), options)
        }
        "batch_norm" => {
            let out = ops::batch_norm(x(), input("weight"), input("bias"), number("eps"))?;
            return Ok(vec![("y", out.y), ("mean", out.mean), ("variance", out.variance)]);
        }
        "batch_norm_eval" => {
            let (weight, bias) = (input("weight"), input("bias"));
            let (mean, variance) = (input("mean"), input("variance"));
            ops::batch_norm_eval(x(), weight, bias, mean, variance, number("eps"))
        }
        "blur_pool2d" => ops::blur_pool2d(x(), size("kernel"), size("stride")),
        "conv2d" => ops::conv2d(x(), input("weight"), bias, size("stride"), size("padding")),
        "cross_entropy" => {
            ops::cross_entropy(input("logits"), input("classes"), number("smoothing"))
        }
        "global_avg_pool2d" => ops::global_avg_pool2d(x()),
        "l1_loss" => ops::l1_loss(input("prediction"), input("target")),
        "layer_norm" => ops::layer_norm(x(), input("weight"), input("bias"), number("eps")),
        "linear" => ops::linear(x(), input("weight"), bias),
        "max_blur_pool" => ops::blur_pool2d(&ops::max_pool2d(x(), 3, 1, 1)?, 3, 2),
        "max_pool2d" => ops::max_pool2d(x(), size("kernel"), size("stride"), size("padding")),
        "mish" => ops::mish(x()),
        "mse_loss" => ops::mse_loss(input("prediction"), input("target")),
        "pixel_shuffle" => ops::pixel_shuffle(x(), size("factor")),
        "relu" => ops::relu(x()),
        "replicate_blur2d" => ops::replicate_blur2d(x()),
        "upsample_bilinear2d" => ops::upsample_bilinear2d(x(), size("height"), size("width")),
        "upsample_nearest2d" => ops::upsample_nearest2d(x(), size("height"), size("width")),
        other => panic!("{other} is not in the table"),
    };
    Ok(vec![("y", y?)])
}

/// The loss that `make.py` differentiates.
fn loss(y: &Tensor) -> Result<Tensor> {
    let weights: Vec<f64> =
        (0..y.elem_count()).map(|i| ((i * 7 % 11) as f64 - 5.0) / 4.0).collect();
    (y * Tensor::from_vec(weights, y.shape(), y.device())?.to_dtype(y.dtype())?)?.sum_all()
}

/// Compares a case's results and gradients with the vectors, in one dtype.
#[track_caller]
fn check(case: &str, vectors: &Tensors, dtype: DType, tolerance: f64) -> Result<()> {
    let mut vars = BTreeMap::new();
    let mut inputs = Tensors::new();
    for (name, tensor) in vectors {
        let tensor = match tensor.dtype() {
            DType::F64 => tensor.to_dtype(dtype)?,
            _ => tensor.clone(),
        };
        if vectors.contains_key(&format!("gradient/{name}")) {
            let var = Var::from_tensor(&tensor)?;
            inputs.insert(name.clone(), var.as_tensor().clone());
            vars.insert(name, var);
        } else {
            inputs.insert(name.clone(), tensor);
        }
    }
    let results = call(case, &inputs)?;
    let gradients = loss(&results[0].1)?.backward()?;
    let compare = |name: &str, ours: &Tensor| {
        let theirs = &vectors[name];
        assert_eq!(ours.dims(), theirs.dims(), "{case}: shape of {name}");
        let (ours, theirs) = (flat(ours), flat(theirs));
        let scale = theirs.iter().fold(1.0_f64, |most, value| most.max(value.abs()));
        for (at, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
            assert!(
                (ours - theirs).abs() <= tolerance * scale,
                "{case}, {dtype:?}: {name} at {at} is {ours}, it should be {theirs}",
            );
        }
    };
    for (name, result) in &results {
        compare(name, result);
    }
    assert!(!vars.is_empty(), "{case} has no gradients");
    for (name, var) in &vars {
        compare(&format!("gradient/{name}"), gradients.get(var).expect("a gradient"));
    }
    Ok(())
}

#[test]
fn results_and_gradients_are_pytorchs() -> Result<()> {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/reference/vectors.safetensors");
    let mut cases: BTreeMap<String, Tensors> = BTreeMap::new();
    for (key, tensor) in candle_core::safetensors::load(file, &Device::Cpu)? {
        let (case, name) = key.split_once('/').expect("case/tensor");
        cases.entry(case.to_owned()).or_default().insert(name.to_owned(), tensor);
    }
    let operators: BTreeSet<&str> =
        cases.keys().map(|case| case.split(' ').next().unwrap()).collect();
    assert_eq!(operators, OPERATORS.iter().copied().collect(), "operators with cases");
    for (case, vectors) in &cases {
        for (dtype, tolerance) in TOLERANCES {
            check(case, vectors, dtype, tolerance)?;
        }
    }
    Ok(())
}
