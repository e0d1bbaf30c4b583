//! Operators on `f16`, which the processor's do not take, against the same kernels on `f32`; and the
//! kernels' rounding against the crate `half`.

use candle_core::{DType, Device, Result, Tensor, Var};
use half::f16;

use super::host::{Host, close, gradients, noise};
use super::norm::{Size, bias_line, normalise};
use super::operators_test::batch_norm;
use super::{Machine as _, operators};
use crate::channels_last::{Activation, FeatureMap, Then};
use crate::conv2d::Geometry;
use crate::pool::Windows;

/// An `f16` has 11 bits; a few roundings of the largest number.
const TOLERANCE: f64 = 4.0 / 1024.0;

/// Runs an operator with the first arguments, pictures, in `f16` and in `f32`.
#[track_caller]
fn check(
    what: &str,
    pictures: &[&[usize]],
    parameters: &[Tensor],
    operator: &dyn Fn(&[Tensor]) -> Result<Tensor>,
) {
    let run = |dtype: DType| {
        let cast = |t: Tensor| t.to_dtype(DType::F16).unwrap().to_dtype(dtype).unwrap();
        let pictures = pictures.iter().enumerate();
        let pictures = pictures.map(|(i, shape)| cast(noise(shape, i + 1, DType::F32)));
        let arguments = pictures.chain(parameters.iter().cloned());
        let variables: Vec<Var> = arguments.map(|t| Var::from_tensor(&t).unwrap()).collect();
        let tensors: Vec<Tensor> = variables.iter().map(|v| v.as_tensor().clone()).collect();
        let y = operator(&tensors).unwrap();
        assert_eq!(y.dtype(), dtype, "{what}");
        let dy = cast(noise(y.dims(), 9, DType::F32));
        let mut all = vec![y.clone()];
        all.extend(gradients(&y, &dy, &variables.iter().collect::<Vec<_>>()));
        all
    };
    for (i, (got, want)) in run(DType::F16).iter().zip(run(DType::F32)).enumerate() {
        close(&format!("{what}, {i}"), got, &want, TOLERANCE);
    }
}

#[test]
fn operators_in_f16() {
    if Host::find().is_none() {
        return;
    }
    let of_channels = |seed| noise(&[4], seed, DType::F32);
    let weight = noise(&[4, 5, 3, 2], 20, DType::F32);
    let g = Geometry::new((2, 5, 7, 6), &weight, 2, 1).unwrap();
    let (x, y) = ([2, 7, 6, 5], [2, g.out.0, g.out.1, 4]);
    for activation in [Activation::Identity, Activation::Relu, Activation::Mish] {
        check(
            &format!("conv_bias, {activation:?}"),
            &[&x, &y],
            &[weight.clone(), of_channels(21)],
            &|a| {
                let residual = FeatureMap::from(&a[1]);
                let then = Then { residual: Some(&residual), activation };
                let x = FeatureMap::from(&a[0]);
                operators::conv_bias::<Host>(g, &x, &a[2], &a[3], then)?.tensor()
            },
        );
        check(
            &format!("batch_norm, {activation:?}"),
            &[&[3, 5, 7, 4], &[3, 5, 7, 4]],
            &[of_channels(22), of_channels(23)],
            &|a| {
                let then = Then { residual: Some(&a[1]), activation };
                Ok(batch_norm(&a[0], &a[2], &a[3], then)?.y)
            },
        );
        check("activation", &[&[2, 3, 4, 5]], &[], &|a| {
            operators::activate::<Host>(&a[0], activation)
        });
    }
    let windows = Windows::new("max_pool2d", (5, 6), 3, 2, 1, false).unwrap();
    check("max", &[&[2, 5, 6, 8]], &[], &|a| {
        operators::max_pool2d::<Host>(&FeatureMap::from(&a[0]), windows)?.tensor()
    });
    for shape in [[2, 5, 6, 8], [2, 3, 4, 64]] {
        check("shuffle", &[&shape], &[], &|a| {
            operators::pixel_shuffle::<Host>(&FeatureMap::from(&a[0]), 2)?.tensor()
        });
    }
    check("concat", &[&[2, 5, 6, 8], &[2, 5, 6, 3]], &[], &|a| {
        let (a, b) = (FeatureMap::from(&a[0]), FeatureMap::from(&a[1]));
        operators::concat::<Host>(&a, &b, Activation::Relu)?.tensor()
    });
}

/// What the kernels make of numbers, by a normalisation that adds a bias to 0.
fn narrowed(host: Host, wide: Vec<f32>) -> Vec<f16> {
    let channels = wide.len();
    let bias = host.upload(&Tensor::from_vec(wide, channels, &Device::Cpu).unwrap());
    let zeros = host.upload(&Tensor::zeros(channels, DType::F16, &Device::Cpu).unwrap());
    let (size, y) =
        (Size::new(DType::F16, channels, channels).unwrap(), host.room(DType::F16, channels));
    let line = bias_line(&host, size, host.address(&bias)).unwrap();
    let pictures = (host.address(&zeros), 0);
    let to = host.address(&y);
    normalise(&host, size, pictures, host.address(&line), Activation::Identity, to).unwrap();
    super::Place::tensor(&host, y, DType::F16, channels).unwrap().to_vec1().unwrap()
}

#[test]
fn f16_rounds_as_its_crate_does() {
    let Some(host) = Host::find() else { return };
    let same = |wide: f32, got: f16| {
        let want = f16::from_f32(wide);
        got.to_bits() == want.to_bits() || (got.is_nan() && want.is_nan())
    };
    // Every number that it has, the ones between two of them, and their neighbours.
    let mut wide = Vec::new();
    for bits in 0..=u16::MAX {
        let here = f16::from_bits(bits).to_f32();
        let next = f16::from_bits(bits.wrapping_add(1)).to_f32();
        let between = (here + next) / 2.0;
        let near = [between.to_bits().wrapping_sub(1), between.to_bits().wrapping_add(1)];
        wide.extend([here, between, f32::from_bits(near[0]), f32::from_bits(near[1])]);
    }
    wide.extend([1e-30, -1e-8, 65519.9, 65520.0, 1e30, f32::INFINITY, f32::NEG_INFINITY]);
    for (wide, got) in wide.clone().into_iter().zip(narrowed(host, wide)) {
        // Beside 0 a negative zero is not seen.
        assert!(same(wide, got) || (wide == 0.0 && got == f16::ZERO), "{wide:e}: {got:e}");
    }
    // And back: a function that leaves numbers as they are reads and writes each of them.
    let all: Vec<f16> = (0..=u16::MAX).map(f16::from_bits).collect();
    let x = Tensor::from_vec(all.clone(), 1 << 16, &Device::Cpu).unwrap();
    let one = x.reshape((1, 1, 1, 1 << 16)).unwrap();
    let map = FeatureMap::from(&one);
    let kept = operators::concat::<Host>(&map, &map, Activation::Identity).unwrap();
    assert_eq!(kept.dims4().unwrap(), (1, 1, 1, 1 << 17));
    let through = operators::activate::<Host>(&one, Activation::Relu).unwrap();
    for (x, y) in all.iter().zip(through.flatten_all().unwrap().to_vec1::<f16>().unwrap()) {
        let want = if *x < f16::ZERO { f16::ZERO } else { *x };
        assert!(y == want || (x.is_nan() && y.is_nan()), "{x}: {y}");
    }
}
