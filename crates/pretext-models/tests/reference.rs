//! Every network against fastai 2.8.12 or torchvision: names, shapes, outputs, running statistics
//! and gradients. The references come from reference/make.py, in double precision.

mod common;

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use pretext_models::{
    Activation, Builder, Classifier, EncoderOptions, Kind, Mode, Parameters, ShortcutPool,
    StemPool, UNet, UNetOptions,
};
use rand::{SeedableRng as _, rngs::StdRng};
use serde::Deserialize;

/// What make.py wrote about one network.
#[derive(Deserialize)]
struct Reference {
    shape: Vec<usize>,
    parameters: usize,
    names: Vec<String>,
    evaluate: Summary,
    train: Summary,
    /// How far PyTorch itself is from `train` in single precision.
    train_f32_error: f64,
    #[serde(flatten)]
    step: Option<Step>,
}

/// What a training step leaves.
#[derive(Deserialize)]
struct Step {
    gradients: BTreeMap<String, Summary>,
    running: BTreeMap<String, Summary>,
}

/// The norm of a tensor and some of its values, evenly spread.
#[derive(Deserialize)]
struct Summary {
    norm: f64,
    values: Vec<f64>,
}

impl Summary {
    /// The largest difference, as a share of the tensor's root mean square.
    fn difference(&self, tensor: &Tensor) -> f64 {
        let tensor = tensor.flatten_all().unwrap().to_dtype(DType::F64).unwrap();
        let values = tensor.to_vec1::<f64>().unwrap();
        let norm = values.iter().map(|v| v * v).sum::<f64>().sqrt();
        let typical = self.norm / (values.len() as f64).sqrt();
        let count = self.values.len();
        let picked = (0..count).map(|i| values[i * values.len() / count]);
        let of_values = picked.zip(&self.values).map(|(v, want)| (v - want).abs() / typical);
        // A comparison with NaN is false, so it is written to fail then.
        of_values
            .chain([(norm - self.norm).abs() / self.norm])
            .fold(0.0, |worst, difference| if difference <= worst { worst } else { difference })
    }
}

/// What differs by more than it may.
#[derive(Default)]
struct Differences {
    over: Vec<String>,
}

impl Differences {
    fn note(&mut self, what: &str, reference: &Summary, tensor: &Tensor, tolerance: f64) {
        let difference = reference.difference(tensor);
        if difference.is_nan() || difference > tolerance {
            self.over.push(format!("{what}: {difference:.1e}"));
        }
    }

    /// Compares the gradients of a weighted sum of `y`, and the running statistics.
    fn note_step(&mut self, step: &Step, parameters: &Parameters, y: &Tensor) {
        let weights = common::hashed("loss", y.elem_count());
        let weights = Tensor::from_vec(weights, y.shape(), &Device::Cpu).unwrap();
        let gradients = (y * weights).unwrap().sum_all().unwrap().backward().unwrap();
        for (name, summary) in &step.gradients {
            let parameter = parameters.get(name).unwrap();
            assert_ne!(parameter.kind, Kind::RunningStatistic, "{name}");
            let gradient = gradients.get(&parameter.var).expect(name);
            self.note(&format!("gradient of {name}"), summary, gradient, DOUBLE);
        }
        for (name, summary) in &step.running {
            let parameter = parameters.get(name).unwrap();
            assert_eq!(parameter.kind, Kind::RunningStatistic, "{name}");
            self.note(name, summary, &parameter.var, DOUBLE);
        }
    }
}

/// The tolerance in `f32`, where outputs alone are compared: an input of a ReLU that rounds to the
/// other side of 0 moves gradients by percents, in PyTorch as well as here. In training, batch norms
/// of fifty layers enlarge rounding errors beyond it; then PyTorch's own error is the measure.
const SINGLE: f64 = 1e-4;
/// The tolerance in `f64`; the references have nine digits.
const DOUBLE: f64 = 1e-7;

/// A network as a function of its input.
type Forward = Box<dyn Fn(&Tensor, Mode) -> Tensor>;

/// Compares a network with `reference/{case}.json`.
#[track_caller]
fn check(case: &str, build: impl Fn(Builder<'_>) -> Forward) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/reference/{case}.json"));
    let reference: Reference = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let mut differences = Differences::default();
    let build = |parameters: &Parameters| {
        let forward = build(Builder::new(parameters, &mut StdRng::seed_from_u64(0)));
        assert_eq!(names(parameters), reference.names);
        assert_eq!(parameters.parameter_count(), reference.parameters);
        common::fill(parameters);
        forward
    };

    let forward = build(&Parameters::new(&Device::Cpu));
    let x = common::input(&reference.shape, DType::F32);
    let y = forward(&x, Mode::Evaluate);
    differences.note("evaluation in f32", &reference.evaluate, &y, SINGLE);
    let y = forward(&x, Mode::Train);
    let tolerance = SINGLE.max(3.0 * reference.train_f32_error);
    assert!(tolerance < 1e-3, "{case} tells little: PyTorch itself is as far off");
    differences.note("training in f32", &reference.train, &y, tolerance);

    if let Some(step) = &reference.step {
        let parameters = Parameters::in_f64(&Device::Cpu);
        let forward = build(&parameters);
        let x = common::input(&reference.shape, DType::F64);
        let y = forward(&x, Mode::Evaluate);
        differences.note("evaluation", &reference.evaluate, &y, DOUBLE);
        let y = forward(&x, Mode::Train);
        differences.note("training", &reference.train, &y, DOUBLE);
        differences.note_step(step, &parameters, &y);
    }
    assert!(differences.over.is_empty(), "{case}: {:#?}", differences.over);
}

/// Names with shapes, in order.
fn names(parameters: &Parameters) -> Vec<String> {
    let line = |p: pretext_models::Parameter| {
        let dims: Vec<String> = p.var.dims().iter().map(usize::to_string).collect();
        format!("{} {}", p.name, dims.join("x"))
    };
    parameters.iter().map(line).collect()
}

/// Compares a classifier on a variant of an encoder; the case begins with the encoder's name.
#[track_caller]
fn check_encoder(case: &str, options: EncoderOptions) {
    let name = case.split('-').next().unwrap();
    check(case, |builder| {
        let classifier = Classifier::new(name, &options, 20, builder).unwrap();
        Box::new(move |x, mode| classifier.forward(x, mode).unwrap())
    });
}

/// Compares a U-Net made for pictures of `size`; the case has the encoder's name in second place.
#[track_caller]
fn check_unet(case: &str, size: usize, options: UNetOptions) {
    let name = case.split('-').nth(1).unwrap();
    check(case, |builder| {
        let unet = UNet::new(name, &EncoderOptions::default(), size, &options, builder).unwrap();
        Box::new(move |x, mode| unet.forward(x, mode).unwrap())
    });
}

const PLAIN: EncoderOptions = EncoderOptions {
    activation: Activation::Relu,
    pool: StemPool::Max,
    shortcut_pool: ShortcutPool::Avg,
    self_attention: false,
    squeeze_excite: false,
    zero_init_residual: false,
};

#[test]
fn xresnets() {
    check_encoder("xresnet18", PLAIN);
    check_encoder("xresnet34", PLAIN);
    check_encoder("xresnet50", PLAIN);
    check_encoder("xresnet18-odd", PLAIN);
}

#[test]
fn xresnet_activation_and_attention() {
    let mish = EncoderOptions { activation: Activation::Mish, ..PLAIN };
    let both = EncoderOptions { self_attention: true, squeeze_excite: true, ..mish };
    check_encoder("xresnet18-mish", mish);
    check_encoder("xresnet18-sa", EncoderOptions { self_attention: true, ..PLAIN });
    check_encoder("xresnet18-se", EncoderOptions { squeeze_excite: true, ..PLAIN });
    check_encoder("xresnet50-se-sa-mish", both);
}

#[test]
fn xresnet_pools() {
    let shortcut = |shortcut_pool| EncoderOptions { shortcut_pool, ..PLAIN };
    check_encoder("xresnet18-max", shortcut(ShortcutPool::Max));
    check_encoder("xresnet18-max-blur", shortcut(ShortcutPool::MaxBlur));
    let stem = |pool| EncoderOptions { pool, ..PLAIN };
    check_encoder("xresnet18-stem-avg", stem(StemPool::Avg));
    check_encoder("xresnet18-stem-max-blur", stem(StemPool::MaxBlur));
}

#[test]
fn resnets() {
    check_encoder("resnet18", PLAIN);
    check_encoder("resnet34", PLAIN);
    check_encoder("resnet50", PLAIN);
}

#[test]
fn unets() {
    let plain = UNetOptions::default();
    check_unet("unet-xresnet18", 48, plain);
    check_unet("unet-xresnet18-odd", 48, plain);
    check_unet("unet-xresnet18-small", 16, plain);
    let all = UNetOptions { blur: true, sigmoid: true, self_attention: true };
    check_unet("unet-xresnet18-all", 48, all);
    check_unet("unet-xresnet34", 48, plain);
    check_unet("unet-resnet18", 48, plain);
}

/// On its own, since its 255 million parameters take as long as all the others.
#[test]
fn bottleneck_unet() {
    check_unet("unet-xresnet50-small", 16, UNetOptions::default());
}
