//! Pictures of `bf16` against the same pictures as `f32`: only rounding may differ.

mod support;

use candle_core::{DType, Device, Result, Tensor};
use pretext_ops::AvgPool;
use pretext_ops::channels_last::{self as fast, Activation, FeatureMap, Then};
use support::{flat, gradients, tensor};

/// A `bf16` has 8 bits, so that rounding is off by up to 1/256, and results are sums of rounded
/// numbers. Of the largest element.
const TOLERANCE: f64 = 1.5e-2;

/// Compares result and gradients of `f` on pictures (the inputs of four dimensions whose index
/// `pictures` holds) of `bf16` with those on `f32`.
#[track_caller]
fn check(
    name: &str,
    inputs: &[Tensor],
    pictures: &[usize],
    f: impl Fn(&[Tensor]) -> Result<Tensor>,
) {
    let rounded: Vec<Tensor> = (inputs.iter().enumerate())
        .map(|(i, input)| {
            let dtype = if pictures.contains(&i) { DType::BF16 } else { DType::F32 };
            input.to_dtype(dtype).unwrap()
        })
        .collect();
    let wide: Vec<Tensor> = rounded.iter().map(|t| t.to_dtype(DType::F32).unwrap()).collect();
    let (got, got_gradients) = gradients(&rounded, |t| {
        let y = f(t)?;
        assert_eq!(y.dtype(), DType::BF16, "{name}");
        y.to_dtype(DType::F32)
    })
    .unwrap();
    let (want, want_gradients) = gradients(&wide, |t| f(t)).unwrap();
    let close = |what: &str, got: &Tensor, want: &Tensor| {
        assert_eq!(got.dims(), want.dims(), "{name}: {what}");
        let (got, want) = (flat(got), flat(want));
        let scale = want.iter().fold(1e-3_f64, |most, value| most.max(value.abs()));
        let error = got.iter().zip(&want).fold(0.0_f64, |most, (a, b)| most.max((a - b).abs()));
        assert!(error <= TOLERANCE * scale, "{name}: {what} is off by {:e}", error / scale);
    };
    close("the result", &got, &want);
    for (i, (got, want)) in got_gradients.iter().zip(&want_gradients).enumerate() {
        let (got, want) = (got.as_ref().unwrap(), want.as_ref().unwrap());
        assert_eq!(got.dtype(), rounded[i].dtype(), "{name}: gradient {i}");
        close(&format!("gradient {i}"), got, want);
    }
}

/// Input `[N, H, W, C]`, output channels, kernel, stride, padding.
type Conv = ([usize; 4], usize, usize, usize, usize);

const CONVOLUTIONS: &[Conv] = &[
    // Pointwise, with whole pairs and without, for each tile height.
    ([2, 5, 4, 3], 5, 1, 1, 0),
    ([2, 5, 4, 64], 33, 1, 1, 0),
    ([2, 9, 9, 64], 64, 1, 1, 0),
    ([2, 5, 7, 41], 24, 1, 2, 0),
    ([1, 1, 1, 20], 17, 1, 1, 0),
    // Rows of whole pages, which are copied.
    ([1, 4, 4, 2048], 40, 1, 1, 0),
    // Stems.
    ([2, 16, 16, 3], 32, 3, 2, 1),
    ([2, 17, 15, 3], 64, 7, 2, 3),
    // Winograd.
    ([2, 8, 8, 16], 16, 3, 1, 1),
    ([3, 9, 7, 33], 47, 3, 1, 1),
    ([2, 2, 2, 32], 40, 3, 1, 1),
    // Strides.
    ([2, 8, 8, 24], 40, 3, 2, 1),
    ([2, 7, 5, 21], 33, 3, 2, 1),
    ([3, 9, 8, 5], 6, 3, 3, 2),
    ([1, 5, 5, 700], 380, 3, 2, 1),
    // Pictures enough for sums over them, side by side or in rows of whole tiles.
    ([5, 7, 6, 24], 40, 3, 1, 1),
    ([6, 17, 15, 3], 64, 7, 2, 3),
    ([9, 16, 16, 32], 20, 3, 1, 1),
    ([16, 1, 1, 34], 33, 3, 1, 1),
    ([17, 6, 5, 64], 33, 1, 1, 0),
    ([33, 5, 4, 21], 33, 3, 2, 1),
    ([40, 4, 4, 96], 128, 3, 1, 1),
];

#[test]
fn convolution() {
    for (case, &(size, out, kernel, stride, padding)) in CONVOLUTIONS.iter().enumerate() {
        let dims = [&size[..], &[out, size[3], kernel, kernel], &[out]];
        let inputs: Vec<Tensor> =
            dims.iter().zip(case as u64..).map(|(dims, seed)| tensor(dims, seed)).collect();
        check(&format!("{size:?} to {out}, {kernel}, {stride}, biased"), &inputs, &[0], |t| {
            let (x, window) = (FeatureMap::from(&t[0]), (stride, padding));
            fast::conv_bias(&x, &t[1], &t[2], window, Then::default())?.tensor()
        });
        for bias in [true, false] {
            let inputs = if bias { &inputs[..] } else { &inputs[..2] };
            check(&format!("{size:?} to {out}, {kernel}, {stride}"), inputs, &[0], |t| {
                fast::conv2d(&t[0], &t[1], t.get(2), stride, padding, Activation::Identity)
            });
        }
    }
}

#[test]
fn normalisation() {
    for (case, dims) in [[2, 3, 3, 5], [3, 8, 8, 64], [2, 40, 41, 33]].iter().enumerate() {
        let c = dims[3];
        for variant in 0..8 {
            let (mish, residual, train) = (variant & 1 > 0, variant & 2 > 0, variant & 4 > 0);
            let activation = if mish { Activation::Mish } else { Activation::Identity };
            let all = [&dims[..], &[c], &[c], &dims[..]];
            let inputs: Vec<Tensor> =
                all.iter().zip(case as u64..).map(|(dims, seed)| tensor(dims, seed)).collect();
            let inputs = if residual { &inputs[..] } else { &inputs[..3] };
            let statistic = |seed| tensor(&[c], seed).to_dtype(DType::F32).unwrap();
            let (mean, variance) = (statistic(9), statistic(8).sqr().unwrap());
            check(&format!("{dims:?} {activation:?} {residual} {train}"), inputs, &[0, 3], |t| {
                let then = Then { residual: t.get(3), activation };
                if train {
                    Ok(fast::batch_norm(&t[0], &t[1], &t[2], then, 0.1)?.y)
                } else {
                    fast::batch_norm_eval(&t[0], (&t[1], &t[2]), (&mean, &variance), then, 0.1)
                }
            });
        }
    }
}

#[test]
fn convolution_and_normalisation() {
    for (case, &(size, out, kernel, stride, padding)) in CONVOLUTIONS.iter().enumerate() {
        let side = |extent: usize| (extent + 2 * padding - kernel) / stride + 1;
        let result = [size[0], side(size[1]), side(size[2]), out];
        if result[..3].iter().product::<usize>() < 2 {
            continue; // A single value a channel.
        }
        let dims = [&size[..], &[out, size[3], kernel, kernel], &[out], &[out], &result];
        let inputs: Vec<Tensor> =
            dims.iter().zip(case as u64..).map(|(dims, seed)| tensor(dims, seed)).collect();
        for variant in 0..4 {
            let (residual, train) = (variant & 1 > 0, variant & 2 > 0);
            let inputs = if residual { &inputs[..] } else { &inputs[..4] };
            let statistic = |seed| tensor(&[out], seed).to_dtype(DType::F32).unwrap();
            let (mean, variance) = (statistic(9), statistic(8).sqr().unwrap());
            let name = format!("{size:?} to {result:?}, {residual}, {train}");
            check(&name, inputs, &[0, 4], |t| {
                let (norm, window) = ((&t[2], &t[3]), (stride, padding));
                let (x, residual) = (FeatureMap::from(&t[0]), t.get(4).map(FeatureMap::from));
                let then = Then { residual: residual.as_ref(), activation: Activation::Identity };
                // A large `eps`: a layer of few sums would make a large step of a small error.
                if train {
                    fast::conv_norm(&x, &t[1], norm, window, then, 1.0)?.y.tensor()
                } else {
                    let running = (&mean, &variance);
                    fast::conv_norm_eval(&x, &t[1], norm, running, window, then, 1.0)?.tensor()
                }
            });
        }
    }
}

type Operator = fn(&Tensor) -> Result<Tensor>;

#[test]
fn pixels() {
    const WHOLE: AvgPool = AvgPool { ceil_mode: true, count_include_pad: true };
    let operators: &[(&str, Operator)] = &[
        ("max", |x| fast::max_pool2d(&x.into(), 3, 2, 1)?.tensor()),
        ("avg", |x| fast::avg_pool2d(&x.into(), 2, 2, 0, WHOLE)?.tensor()),
        ("mean", |x| fast::global_avg_pool2d(&x.into())),
        ("blur", |x| fast::blur_pool2d(&x.into(), 3, 2)?.tensor()),
        ("replicate", |x| fast::replicate_blur2d(&x.into())?.tensor()),
        ("nearest", |x| fast::upsample_nearest2d(&x.into(), 9, 12)?.tensor()),
        ("shuffle", |x| fast::pixel_shuffle(&x.into(), 2)?.tensor()),
        ("concat", |x| fast::concat(&x.into(), &x.into(), Activation::Relu)?.tensor()),
        ("relu", pretext_ops::relu),
        ("mish", pretext_ops::mish),
        ("first", fast::channels_first),
        ("cat", |x| Tensor::cat(&[x, x], 3)),
    ];
    for (name, operator) in operators {
        check(name, &[tensor(&[2, 6, 7, 36], 3)], &[0], |t| operator(&t[0]));
    }
}

/// Infinities and NaN come through, also where a row is filled up with zeros.
#[test]
fn what_is_not_a_number() {
    for bad in [f32::NAN, f32::INFINITY] {
        for size in [3, 32] {
            let mut values = vec![1.0_f32; 4 * size];
            values[size] = bad;
            let x = Tensor::from_vec(values, (1, 2, 2, size), &Device::Cpu).unwrap();
            let x = x.to_dtype(DType::BF16).unwrap();
            let weight = Tensor::ones((4, size, 1, 1), DType::F32, &Device::Cpu).unwrap();
            let y = fast::conv2d(&x, &weight, None, 1, 0, Activation::Identity).unwrap();
            let finite: Vec<bool> = flat(&y).iter().map(|y| y.is_finite()).collect();
            let want: Vec<bool> = (0..16).map(|i| i / 4 != 1).collect();
            assert_eq!(finite, want, "{bad} among {size}");
        }
    }
}

#[test]
fn refusals() {
    let zeros = |dims: &[usize], dtype| Tensor::zeros(dims, dtype, &Device::Cpu).unwrap();
    let x = zeros(&[2, 4, 4, 8], DType::BF16);
    let said = |weight: DType| {
        let weight = zeros(&[5, 8, 3, 3], weight);
        let error = fast::conv2d(&x, &weight, None, 1, 1, Activation::Relu).err();
        error.map(|error| error.to_string()).unwrap_or_default()
    };
    assert!(said(DType::BF16).starts_with("conv2d: the dtype is BF16, it must be f32 or f64"));
    assert!(said(DType::F64).starts_with("conv2d: the dtypes BF16 and F64 do not fit"));
    let plain = pretext_ops::max_pool2d(&zeros(&[1, 1, 4, 4], DType::BF16), 2, 2, 0).err();
    assert!(plain.unwrap().to_string().contains("it must be f32 or f64"));
}
