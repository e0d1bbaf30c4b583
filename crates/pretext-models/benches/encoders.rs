//! Forward passes, and training steps without their optimiser, of an encoder and a U-Net on eight
//! pictures of 64 pixels.

use std::hint::black_box;

use candle_core::{Device, Tensor};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pretext_models::{
    Builder, EncoderOptions, Mode, Parameters, Result, UNet, UNetOptions, encoder,
};
use rand::{SeedableRng as _, rngs::StdRng};

/// Pictures a batch.
const N: usize = 8;
/// Their height and width in pixels.
const SIDE: usize = 64;

/// Measures a network; elements are pictures.
fn measure(
    c: &mut Criterion,
    name: &str,
    build: impl FnOnce(Builder<'_>) -> Result<Box<dyn Fn(&Tensor, Mode) -> Result<Tensor>>>,
) {
    let parameters = Parameters::new(&Device::Cpu);
    let mut rng = StdRng::seed_from_u64(0);
    let network = build(Builder::new(&parameters, &mut rng)).expect("a network");
    let x = Tensor::randn(0f32, 1., (N, 3, SIDE, SIDE), &Device::Cpu).expect("room for a batch");
    let mut group = c.benchmark_group(name);
    group.sample_size(10).throughput(Throughput::Elements(N as u64));
    group.bench_function("forward", |b| {
        b.iter(|| black_box(network(&x, Mode::Evaluate).expect("features")));
    });
    group.bench_function("forward and backward", |b| {
        b.iter(|| {
            let loss = network(&x, Mode::Train).expect("features").sqr().and_then(|y| y.mean_all());
            black_box(loss.and_then(|loss| loss.backward()).expect("gradients"))
        });
    });
    group.finish();
}

fn encoders(c: &mut Criterion) {
    let options = EncoderOptions::default();
    measure(c, "xresnet18", |builder| {
        let encoder = encoder("xresnet18", &options, builder)?;
        Ok(Box::new(move |x, mode| encoder.forward(x, mode)))
    });
    measure(c, "U-Net on xresnet18", |builder| {
        let unet = UNet::new("xresnet18", &options, SIDE, &UNetOptions::default(), builder)?;
        Ok(Box::new(move |x, mode| unet.forward(x, mode)))
    });
}

criterion_group!(benches, encoders);
criterion_main!(benches);
