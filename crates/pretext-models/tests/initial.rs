//! New networks begin as fastai's and torchvision's do: the mean and the standard deviation of every
//! tensor, by tests/reference/make.py.

use std::collections::BTreeMap;

use candle_core::{DType, Device};
use pretext_models::{Builder, Classifier, EncoderOptions, Parameters, Result, UNet, UNetOptions};
use rand::{SeedableRng as _, rngs::StdRng};

/// Standard errors that a mean or a deviation may be off; there are some two thousand of them.
const SPREAD: f64 = 6.0;

/// Compares every tensor of a new network with those of PyTorch.
#[track_caller]
fn check<T>(case: &str, build: impl FnOnce(Builder<'_>) -> Result<T>) {
    type Moments = BTreeMap<String, (f64, f64)>;
    let all: BTreeMap<String, Moments> =
        serde_json::from_str(include_str!("reference/initial.json")).unwrap();
    let reference = &all[case];
    let parameters = Parameters::new(&Device::Cpu);
    build(Builder::new(&parameters, &mut StdRng::seed_from_u64(5))).unwrap();
    assert_eq!(parameters.iter().count(), reference.len());
    let mut over = Vec::new();
    for parameter in parameters.iter() {
        let name = parameter.name;
        let values = parameter.var.flatten_all().unwrap().to_dtype(DType::F64).unwrap();
        let values = values.to_vec1::<f64>().unwrap();
        // The pixel shuffles begin in fours.
        let drawn = values.len() as f64 / if name.contains("shuf") { 4.0 } else { 1.0 };
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let squares = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>();
        let std = (squares / values.len() as f64).sqrt();
        let (want_mean, want_std) = reference[&name];
        // PyTorch's moments are drawn as well.
        let error = (2.0_f64 / drawn).sqrt() * want_std.max(1e-9) * SPREAD + 1e-6;
        if (mean - want_mean).abs() > error || (std - want_std).abs() > error {
            over.push(format!("{name}: {mean} and {std}, not {want_mean} and {want_std}"));
        }
    }
    assert!(over.is_empty(), "{case}: {over:#?}");
}

#[track_caller]
fn check_encoder(case: &str, options: EncoderOptions) {
    let name = case.split('-').next().unwrap();
    check(case, |builder| Classifier::new(name, &options, 20, builder));
}

#[test]
fn networks_begin_as_in_pytorch() {
    let plain = EncoderOptions::default();
    check_encoder("xresnet18", plain);
    check_encoder("xresnet50", plain);
    check_encoder("xresnet18-sa", EncoderOptions { self_attention: true, ..plain });
    check_encoder("xresnet18-se", EncoderOptions { squeeze_excite: true, ..plain });
    check_encoder("resnet18", plain);
    check_encoder("resnet50-zero", EncoderOptions { zero_init_residual: true, ..plain });
    let all = UNetOptions { blur: true, sigmoid: true, self_attention: true };
    check("unet-xresnet18-all", |builder| UNet::new("xresnet18", &plain, 48, &all, builder));
}
