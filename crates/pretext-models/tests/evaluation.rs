//! In evaluation no graph grows behind a network: nothing keeps the feature maps of its layers.

use candle_core::{DType, Device, Tensor};
use pretext_models::{
    Builder, Classifier, ENCODERS, EncoderOptions, Mode, Parameters, ProjectionHead, UNet,
    UNetOptions,
};
use rand::{SeedableRng as _, rngs::StdRng};

/// Holds a network's results in both modes against what they should have.
#[track_caller]
fn check(
    name: &str,
    shape: &[usize],
    build: impl FnOnce(Builder<'_>) -> Box<dyn Fn(&Tensor, Mode) -> Vec<Tensor>>,
) {
    let parameters = Parameters::new(&Device::Cpu);
    let forward = build(Builder::new(&parameters, &mut StdRng::seed_from_u64(0)));
    let x = Tensor::ones(shape, DType::F32, &Device::Cpu).unwrap();
    for (mode, graph) in [(Mode::Train, true), (Mode::Evaluate, false)] {
        for (i, y) in forward(&x, mode).iter().enumerate() {
            assert_eq!(y.track_op(), graph, "{name}, {mode:?}, result {i}");
        }
    }
}

fn all_options() -> EncoderOptions {
    EncoderOptions { self_attention: true, squeeze_excite: true, ..EncoderOptions::default() }
}

#[test]
fn classifiers_and_their_encoders() {
    let plain = ENCODERS.iter().map(|spec| (spec.name, EncoderOptions::default()));
    for (name, options) in plain.chain([("xresnet18", all_options())]) {
        check(name, &[2, 3, 33, 33], |builder| {
            let network = Classifier::new(name, &options, 5, builder).unwrap();
            Box::new(move |x, mode| {
                let mut results = network.encoder().features(x, mode).unwrap();
                results.push(network.embed(x, mode).unwrap());
                results.push(network.forward(x, mode).unwrap());
                results
            })
        });
    }
}

#[test]
fn unets() {
    let all = UNetOptions { self_attention: true, blur: true, sigmoid: true };
    for (name, options) in [("a U-Net", UNetOptions::default()), ("one with all", all)] {
        check(name, &[2, 3, 32, 32], |builder| {
            let network = UNet::new("xresnet18", &all_options(), 32, &options, builder).unwrap();
            Box::new(move |x, mode| vec![network.forward(x, mode).unwrap()])
        });
    }
}

#[test]
fn projection_heads() {
    check("a projection head", &[2, 8], |builder| {
        let head = ProjectionHead::new(8, 6, 4, builder).unwrap();
        Box::new(move |x, mode| vec![head.forward(x, mode).unwrap()])
    });
}

#[test]
fn a_head_learns_on_features_without_a_graph() {
    check("a head", &[2, 512], |builder| {
        let options = EncoderOptions::default();
        let network = Classifier::new("resnet18", &options, 5, builder).unwrap();
        Box::new(move |features, mode| vec![network.head(features, mode).unwrap()])
    });
}
