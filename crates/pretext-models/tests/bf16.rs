//! Networks computed in `bf16` beside the same networks in `f32`.

use candle_core::{DType, Device, Tensor};
use pretext_models::{Builder, Classifier, EncoderOptions, Mode, Parameters, UNet, UNetOptions};
use rand::{SeedableRng as _, rngs::StdRng};

fn picture() -> Tensor {
    let values = (0..8 * 3 * 96 * 96).map(|i: usize| ((i * 7919) % 1009) as f32 / 504.5 - 1.0);
    Tensor::from_vec(values.collect(), (8, 3, 96, 96), &Device::Cpu).unwrap()
}

/// Result and all gradients, one after the other, of a network in training.
fn run(
    parameters: &Parameters,
    forward: impl Fn(&Tensor) -> Tensor,
    dtype: DType,
) -> Vec<Vec<f32>> {
    let y = forward(&picture().to_dtype(dtype).unwrap());
    assert_eq!(y.dtype(), DType::F32);
    let gradients = y.sqr().unwrap().sum_all().unwrap().backward().unwrap();
    let of = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let trained = parameters.iter().filter_map(|p| gradients.get(p.var.as_tensor()));
    std::iter::once(of(&y)).chain(trained.map(of)).collect()
}

/// The angle's cosine between what a network makes in `bf16` and in `f32`, tensor by tensor, weighed
/// by size. PyTorch's autocast turns torchvision's ResNet-18's gradients by 0.912 here.
#[track_caller]
fn check(name: &str, parameters: &Parameters, forward: impl Fn(&Tensor) -> Tensor) {
    let (wide, narrow) =
        (run(parameters, &forward, DType::F32), run(parameters, &forward, DType::BF16));
    assert_eq!(wide.len(), narrow.len(), "{name}");
    let dot = |a: &[f32], b: &[f32]| {
        a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>()
    };
    let cosine = |a: &[f32], b: &[f32]| dot(a, b) / (dot(a, a) * dot(b, b)).sqrt();
    let result = cosine(&wide[0], &narrow[0]);
    assert!(result > 0.995, "{name}: the result turns by {result}");
    let (wide, narrow) = (wide[1..].concat(), narrow[1..].concat());
    let gradients = cosine(&wide, &narrow);
    assert!(gradients > 0.85, "{name}: the gradients turn by {gradients}");
}

#[test]
fn classifiers() {
    let plain = EncoderOptions::default();
    let all =
        EncoderOptions { self_attention: true, squeeze_excite: true, ..EncoderOptions::default() };
    for (name, options) in [("resnet18", plain), ("xresnet18", plain), ("xresnet18", all)] {
        let parameters = Parameters::new(&Device::Cpu);
        let mut rng = StdRng::seed_from_u64(0);
        let builder = Builder::new(&parameters, &mut rng);
        let network = Classifier::new(name, &options, 5, builder).unwrap();
        check(&format!("{name} {options:?}"), &parameters, |x| {
            network.forward(x, Mode::Train).unwrap()
        });
    }
}

#[test]
fn unet() {
    let parameters = Parameters::new(&Device::Cpu);
    let mut rng = StdRng::seed_from_u64(0);
    let builder = Builder::new(&parameters, &mut rng);
    let options = UNetOptions { self_attention: true, blur: true, sigmoid: true };
    let network =
        UNet::new("xresnet18", &EncoderOptions::default(), 32, &options, builder).unwrap();
    check("a U-Net", &parameters, |x| network.forward(x, Mode::Train).unwrap());
}
