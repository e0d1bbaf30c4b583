//! Forward and backward passes at the shapes of a ResNet on 16 pictures of 128 pixels; convolution
//! beside candle's own.

use std::hint::black_box;

use candle_core::{Device, Result, Tensor, Var};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pretext_ops::{batch_norm, conv2d, max_pool2d};

/// Pictures a batch.
const N: usize = 16;

/// Input channels, side of the input, output channels, kernel, stride.
const LAYERS: &[(usize, usize, usize, usize, usize)] = &[
    (3, 128, 32, 3, 2),
    (64, 32, 64, 3, 1),
    (64, 32, 128, 3, 2),
    (256, 8, 256, 3, 1),
    (512, 4, 512, 3, 1),
    (256, 16, 64, 1, 1),
];

fn numbers(dims: &[usize]) -> Var {
    let values = (0..dims.iter().product()).map(|i: usize| (i % 997) as f32 / 997.0 - 0.5);
    Tensor::from_vec(values.collect(), dims, &Device::Cpu)
        .and_then(|tensor| Var::from_tensor(&tensor))
        .expect("room for a tensor")
}

/// Measures `f` and the gradients of its sum; `work` is what one forward pass counts as, and a
/// backward pass counts `backward` times as much.
fn measure(
    c: &mut Criterion,
    name: &str,
    (work, backward): (usize, usize),
    f: impl Fn() -> Result<Tensor>,
) {
    let mut group = c.benchmark_group(name);
    group.sample_size(10).throughput(Throughput::Elements(work as u64));
    group.bench_function("forward", |b| b.iter(|| black_box(f().expect("shapes that fit"))));
    let loss = f().and_then(|y| y.sum_all()).expect("shapes that fit");
    group.throughput(Throughput::Elements((work * backward) as u64));
    group.bench_function("backward", |b| b.iter(|| black_box(loss.backward().expect("gradients"))));
    group.finish();
}

/// Elements are floating-point operations.
fn convolutions(c: &mut Criterion) {
    for &(channels, side, out, kernel, stride) in LAYERS {
        let (x, weight) =
            (numbers(&[N, channels, side, side]), numbers(&[out, channels, kernel, kernel]));
        let padding = kernel / 2;
        let size = (side + 2 * padding - kernel) / stride + 1;
        let work = (2 * N * out * size * size * channels * kernel * kernel, 2);
        let name = format!("{channels}x{side}x{side} to {out}, {kernel}x{kernel}, stride {stride}");
        measure(c, &format!("conv2d {name}"), work, || conv2d(&x, &weight, None, stride, padding));
        measure(c, &format!("candle's conv2d {name}"), work, || {
            x.conv2d(&weight, padding, stride, 1, 1)
        });
    }
}

/// Elements are those of the input.
fn others(c: &mut Criterion) {
    for (channels, side) in [(64, 64), (64, 32), (512, 4)] {
        let x = numbers(&[N, channels, side, side]);
        let (weight, bias) = (numbers(&[channels]), numbers(&[channels]));
        let work = (x.elem_count(), 1);
        measure(c, &format!("batch_norm {channels}x{side}x{side}"), work, || {
            Ok(batch_norm(&x, &weight, &bias, 1e-5)?.y)
        });
    }
    let x = numbers(&[N, 64, 64, 64]);
    measure(c, "max_pool2d 64x64x64, 3x3, stride 2", (x.elem_count(), 1), || {
        max_pool2d(&x, 3, 2, 1)
    });
}

criterion_group!(ops, convolutions, others);
criterion_main!(ops);
