//! The channels-last operators against the plain ones, which are their definition.

mod support;

use candle_core::{DType, Result, Tensor, Var};
use pretext_ops::AvgPool;
use pretext_ops::channels_last::{self as fast, Activation, FeatureMap, Then};
use support::{flat, gradients, tensor};

/// Allowed error of the fast paths, of the largest element.
const TOLERANCE: f64 = 1e-4;

/// Compares results and gradients of `sum(f(inputs) * weights)`; both take the same inputs.
#[track_caller]
fn check(
    name: &str,
    inputs: &[Tensor],
    tolerance: f64,
    fast: impl Fn(&[Tensor]) -> Result<Tensor>,
    plain: impl Fn(&[Tensor]) -> Result<Tensor>,
) {
    let (got, got_gradients) = gradients(inputs, fast).unwrap();
    let (want, want_gradients) = gradients(inputs, plain).unwrap();
    let close = |what: &str, got: &Tensor, want: &Tensor| {
        assert_eq!(got.dims(), want.dims(), "{name}: {what}");
        let (got, want) = (flat(got), flat(want));
        let scale = want.iter().fold(1e-3_f64, |most, value| most.max(value.abs()));
        let error = got.iter().zip(&want).fold(0.0_f64, |most, (a, b)| most.max((a - b).abs()));
        assert!(error <= tolerance * scale, "{name}: {what} is off by {:e}", error / scale);
    };
    close("the result", &got, &want);
    for (i, (got, want)) in got_gradients.iter().zip(&want_gradients).enumerate() {
        let (got, want) = (got.as_ref().unwrap(), want.as_ref().unwrap());
        close(&format!("gradient {i}"), got, want);
    }
}

/// Input `[N, H, W, C]`, output channels, kernel, stride, padding.
type Conv = ([usize; 4], usize, (usize, usize), usize, usize);

const CONVOLUTIONS: &[Conv] = &[
    // Pointwise.
    ([2, 5, 4, 3], 5, (1, 1), 1, 0),
    ([2, 5, 4, 64], 33, (1, 1), 1, 0),
    ([2, 5, 7, 40], 24, (1, 1), 2, 0),
    ([1, 3, 3, 20], 17, (1, 1), 2, 1),
    // Stems.
    ([2, 16, 16, 3], 32, (3, 3), 2, 1),
    ([2, 17, 15, 3], 64, (7, 7), 2, 3),
    ([1, 9, 8, 4], 10, (3, 3), 1, 1),
    // Winograd, whole tiles and parts, odd channels, every padding.
    ([2, 8, 8, 16], 16, (3, 3), 1, 1),
    ([3, 9, 7, 33], 47, (3, 3), 1, 1),
    ([2, 2, 2, 32], 40, (3, 3), 1, 1),
    ([2, 3, 2, 17], 16, (3, 3), 1, 1),
    ([2, 4, 4, 64], 64, (3, 3), 1, 1),
    ([1, 6, 7, 20], 18, (3, 3), 1, 0),
    ([1, 5, 6, 20], 18, (3, 3), 1, 2),
    ([9, 16, 16, 48], 35, (3, 3), 1, 1),
    ([1, 1, 1, 24], 24, (3, 3), 1, 1),
    ([1, 1, 6, 24], 24, (3, 3), 1, 1),
    // Strides, and a stride beyond the kernel.
    ([2, 8, 8, 24], 40, (3, 3), 2, 1),
    ([2, 7, 5, 20], 33, (3, 3), 2, 1),
    ([3, 9, 8, 5], 6, (3, 3), 3, 2),
    ([1, 7, 6, 18], 4, (2, 2), 3, 0),
    ([2, 6, 5, 12], 7, (1, 3), 1, 1),
    ([2, 6, 5, 12], 7, (4, 2), 2, 2),
    ([1, 3, 4, 16], 8, (2, 2), 2, 3),
    ([2, 1, 1, 40], 20, (3, 3), 2, 1),
    ([2, 12, 12, 16], 16, (5, 5), 1, 2),
];

#[test]
fn convolution() {
    for (case, &(size, out, (kh, kw), stride, padding)) in CONVOLUTIONS.iter().enumerate() {
        for activation in [Activation::Identity, Activation::Relu, Activation::Mish] {
            if activation == Activation::Relu && size[0] > 3 {
                continue; // Among so many sums some are so near 0 that rounding turns their sign.
            }
            let seed = case as u64;
            let inputs: Vec<Tensor> = [&size[..], &[out, size[3], kh, kw], &[out]]
                .iter()
                .zip(seed..)
                .map(|(dims, seed)| tensor(dims, seed).to_dtype(DType::F32).unwrap())
                .collect();
            for bias in [true, false] {
                let inputs = if bias { &inputs[..] } else { &inputs[..2] };
                check(
                    &format!("{size:?} to {out}, {kh}x{kw}, {stride}, {padding}, {activation:?}"),
                    inputs,
                    TOLERANCE,
                    |t| fast::conv2d(&t[0], &t[1], t.get(2), stride, padding, activation),
                    |t| {
                        let x = fast::channels_first(&t[0])?;
                        let y = pretext_ops::conv2d(&x, &t[1], t.get(2), stride, padding)?;
                        activation.apply(&fast::channels_last(&y)?)
                    },
                );
            }
        }
    }
}

/// How much more than a plain sum Winograd's algorithms round, forward and back: what the README says.
/// `cargo test -p pretext-ops --test channels_last rounding -- --nocapture` prints it.
#[test]
#[allow(clippy::print_stdout, reason = "what the README says")]
fn rounding() {
    // The side of the picture, and with it the tiles', and the largest errors allowed.
    for (side, tiles, limit) in [(16, "4x4", 4e-6), (4, "2x2", 2e-6)] {
        let of = |dtype| -> Vec<Tensor> {
            let dims: [&[usize]; 2] = [&[4, side, side, 128], &[128, 128, 3, 3]];
            let tensors = dims.iter().zip(1..).map(|(dims, seed)| tensor(dims, seed));
            // Rounded first, so that both have the same numbers.
            tensors.map(|t| t.to_dtype(DType::F32).unwrap().to_dtype(dtype).unwrap()).collect()
        };
        let plain = |t: &[Tensor]| {
            fast::channels_last(&pretext_ops::conv2d(
                &fast::channels_first(&t[0])?,
                &t[1],
                None,
                1,
                1,
            )?)
        };
        let winograd = |t: &[Tensor]| fast::conv2d(&t[0], &t[1], None, 1, 1, Activation::Identity);
        let all = |(y, slopes): (Tensor, Vec<Option<Tensor>>)| -> Vec<Tensor> {
            std::iter::once(y).chain(slopes.into_iter().flatten()).collect()
        };
        let exact = all(gradients(&of(DType::F64), plain).unwrap());
        let summed = all(gradients(&of(DType::F32), plain).unwrap());
        let multiplied_less = all(gradients(&of(DType::F32), winograd).unwrap());
        for (i, what) in ["result", "input's gradient", "weight's gradient"].iter().enumerate() {
            let exact = flat(&exact[i]);
            let scale = exact.iter().fold(0.0_f64, |most, value| most.max(value.abs()));
            let error = |got: &Tensor| {
                let differences = flat(got).into_iter().zip(&exact).map(|(a, b)| (a - b).abs());
                differences.fold(0.0_f64, f64::max) / scale
            };
            let (sum, less) = (error(&summed[i]), error(&multiplied_less[i]));
            println!("tiles of {tiles}, {what}: {less:.1e} of the largest, plain sums {sum:.1e}");
            assert!(less < limit, "tiles of {tiles}: the {what} is off by {less:e}");
        }
    }
}

#[test]
fn normalisation() {
    for (case, dims) in
        [[2, 3, 3, 5], [3, 8, 8, 64], [1, 1, 5, 1], [2, 40, 41, 33]].iter().enumerate()
    {
        for dtype in [DType::F32, DType::F64] {
            for activation in [Activation::Identity, Activation::Relu, Activation::Mish] {
                for residual in [false, true] {
                    for train in [true, false] {
                        let c = dims[3];
                        let inputs: Vec<Tensor> = [&dims[..], &[c], &[c], &dims[..]]
                            .iter()
                            .zip(case as u64..)
                            .map(|(dims, seed)| tensor(dims, seed).to_dtype(dtype).unwrap())
                            .collect();
                        let inputs = if residual { &inputs[..] } else { &inputs[..3] };
                        let statistics = [
                            tensor(&[c], 9).to_dtype(dtype).unwrap(),
                            tensor(&[c], 8).to_dtype(dtype).unwrap().sqr().unwrap(),
                        ];
                        let [mean, variance] = &statistics;
                        check(
                            &format!("{dims:?} {dtype:?} {activation:?} {residual} {train}"),
                            inputs,
                            if dtype == DType::F64 { 1e-12 } else { 2e-5 },
                            |t| {
                                let then = Then { residual: t.get(3), activation };
                                if train {
                                    Ok(fast::batch_norm(&t[0], &t[1], &t[2], then, 1e-5)?.y)
                                } else {
                                    let line = (&t[1], &t[2]);
                                    fast::batch_norm_eval(&t[0], line, (mean, variance), then, 1e-5)
                                }
                            },
                            |t| {
                                let x = fast::channels_first(&t[0])?;
                                let y = if train {
                                    pretext_ops::batch_norm(&x, &t[1], &t[2], 1e-5)?.y
                                } else {
                                    pretext_ops::batch_norm_eval(
                                        &x, &t[1], &t[2], mean, variance, 1e-5,
                                    )?
                                };
                                let mut y = fast::channels_last(&y)?;
                                if let Some(residual) = t.get(3) {
                                    y = (y + residual)?;
                                }
                                activation.apply(&y)
                            },
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn convolution_and_normalisation() {
    for (case, &(size, out, (kh, kw), stride, padding)) in CONVOLUTIONS.iter().enumerate() {
        let side = |extent: usize, kernel: usize| (extent + 2 * padding - kernel) / stride + 1;
        let result = [size[0], side(size[1], kh), side(size[2], kw), out];
        if result[..3].iter().product::<usize>() < 2 {
            continue; // A single value a channel.
        }
        let dims = [&size[..], &[out, size[3], kh, kw], &[out], &[out], &result];
        for variant in 0..16 {
            let flag = |bit: u32| variant >> bit & 1 == 1;
            let (dtype, tolerance) =
                if flag(0) { (DType::F32, TOLERANCE) } else { (DType::F64, 1e-10) };
            let activation = if flag(1) { Activation::Mish } else { Activation::Identity };
            let (train, residual) = (flag(2), flag(3));
            let input =
                |(dims, seed): (&&[usize], u64)| tensor(dims, seed).to_dtype(dtype).unwrap();
            let inputs: Vec<Tensor> = dims.iter().zip(case as u64..).map(input).collect();
            let inputs = if residual { &inputs[..] } else { &inputs[..4] };
            let mean = tensor(&[out], 9).to_dtype(dtype).unwrap();
            let variance = tensor(&[out], 8).to_dtype(dtype).unwrap().sqr().unwrap();
            let running = (&mean, &variance);
            // A layer of few sums makes a large step of a small error.
            let eps = 0.1;
            check(
                &format!("{size:?} to {result:?}, {dtype:?}, {activation:?}, {train}, {residual}"),
                inputs,
                tolerance,
                |t| {
                    let (norm, window) = ((&t[2], &t[3]), (stride, padding));
                    let residual = t.get(4).map(FeatureMap::from);
                    let then = Then { residual: residual.as_ref(), activation };
                    let x = FeatureMap::from(&t[0]);
                    if train {
                        fast::conv_norm(&x, &t[1], norm, window, then, eps)?.y.tensor()
                    } else {
                        fast::conv_norm_eval(&x, &t[1], norm, running, window, then, eps)?.tensor()
                    }
                },
                |t| {
                    let x = fast::channels_first(&t[0])?;
                    let x = pretext_ops::conv2d(&x, &t[1], None, stride, padding)?;
                    let y = if train {
                        pretext_ops::batch_norm(&x, &t[2], &t[3], eps)?.y
                    } else {
                        pretext_ops::batch_norm_eval(&x, &t[2], &t[3], &mean, &variance, eps)?
                    };
                    let mut y = fast::channels_last(&y)?;
                    if let Some(residual) = t.get(4) {
                        y = (y + residual)?;
                    }
                    activation.apply(&y)
                },
            );
        }
    }
}

#[test]
fn convolution_and_bias() {
    for (case, &(size, out, (kh, kw), stride, padding)) in CONVOLUTIONS.iter().enumerate() {
        let side = |extent: usize, kernel: usize| (extent + 2 * padding - kernel) / stride + 1;
        let result = [size[0], side(size[1], kh), side(size[2], kw), out];
        let dims = [&size[..], &[out, size[3], kh, kw], &[out], &result];
        for activation in [Activation::Identity, Activation::Relu, Activation::Mish] {
            if activation == Activation::Relu && size[0] > 3 {
                continue; // Among so many sums some are so near 0 that rounding turns their sign.
            }
            for (dtype, tolerance) in [(DType::F32, TOLERANCE), (DType::F64, 1e-10)] {
                let input =
                    |(dims, seed): (&&[usize], u64)| tensor(dims, seed).to_dtype(dtype).unwrap();
                let inputs: Vec<Tensor> = dims.iter().zip(case as u64..).map(input).collect();
                for count in [3, 4] {
                    check(
                        &format!("{size:?} to {result:?}, {dtype:?}, {activation:?}, {count}"),
                        &inputs[..count],
                        tolerance,
                        |t| {
                            let residual = t.get(3).map(FeatureMap::from);
                            let then = Then { residual: residual.as_ref(), activation };
                            let x = FeatureMap::from(&t[0]);
                            fast::conv_bias(&x, &t[1], &t[2], (stride, padding), then)?.tensor()
                        },
                        |t| {
                            let x = fast::channels_first(&t[0])?;
                            let y = pretext_ops::conv2d(&x, &t[1], Some(&t[2]), stride, padding)?;
                            let y = fast::channels_last(&y)?;
                            activation.apply(&t.get(3).map_or(Ok(y.clone()), |r| y + r)?)
                        },
                    );
                }
            }
        }
    }
}

#[test]
fn concatenation() {
    for activation in [Activation::Identity, Activation::Relu, Activation::Mish] {
        for dtype in [DType::F32, DType::F64] {
            let input = |channels, seed| tensor(&[2, 9, 40, channels], seed).to_dtype(dtype);
            check(
                &format!("{activation:?} {dtype:?}"),
                &[input(5, 0).unwrap(), input(19, 1).unwrap()],
                1e-6,
                |t| fast::concat(&(&t[0]).into(), &(&t[1]).into(), activation)?.tensor(),
                |t| activation.apply(&Tensor::cat(&[&t[0], &t[1]], 3)?),
            );
        }
    }
}

/// One feature map, taken by operators of every kind: their gradients are added up.
#[test]
fn shared_feature_maps() {
    let input = |dims: &[usize], seed| tensor(dims, seed).to_dtype(DType::F32).unwrap();
    let inputs = [
        input(&[2, 6, 6, 16], 0),
        input(&[16, 16, 3, 3], 1),
        input(&[16, 16, 1, 1], 2),
        input(&[16], 3),
    ];
    let identity = Activation::Identity;
    check(
        "a residual, two convolutions, a pool, a concatenation and a tensor",
        &inputs,
        TOLERANCE,
        |t| {
            let plain = Then::default();
            let x = fast::conv_bias(&(&t[0]).into(), &t[2], &t[3], (1, 0), plain)?;
            let then = Then { residual: Some(&x), activation: identity };
            let a = fast::conv_bias(&x, &t[1], &t[3], (1, 1), then)?;
            let b = fast::conv_bias(&x, &t[2], &t[3], (1, 0), plain)?;
            let c = fast::max_pool2d(&x, 3, 1, 1)?;
            let d = fast::concat(&x, &x, identity)?.tensor()?;
            let d = (d.narrow(3, 0, 16)? + d.narrow(3, 16, 16)?)?;
            a.tensor()? + b.tensor()? + c.tensor()? + x.tensor()? + d
        },
        |t| {
            let first = fast::channels_first(&t[0])?;
            let x = pretext_ops::conv2d(&first, &t[2], Some(&t[3]), 1, 0)?;
            let a = (pretext_ops::conv2d(&x, &t[1], Some(&t[3]), 1, 1)? + &x)?;
            let b = pretext_ops::conv2d(&x, &t[2], Some(&t[3]), 1, 0)?;
            let c = pretext_ops::max_pool2d(&x, 3, 1, 1)?;
            fast::channels_last(&(a + b + c + &x + &x + &x)?)
        },
    );
}

/// A graph's backward pass may be taken again, as any of candle's.
#[test]
fn backward_twice() {
    let x = tensor(&[2, 4, 4, 16], 0).to_dtype(DType::F32).unwrap();
    let weight = Var::from_tensor(&tensor(&[16, 16, 3, 3], 1).to_dtype(DType::F32).unwrap());
    let weight = weight.unwrap();
    let ones = Tensor::ones(16, DType::F32, x.device()).unwrap();
    let then = Then { residual: None, activation: Activation::Relu };
    let y = fast::conv_norm(&x.into(), &weight, (&ones, &ones), (1, 1), then, 1e-5).unwrap().y;
    let y = y.tensor().unwrap();
    let gradient = || flat(support::backward(&y).unwrap().get(&weight).unwrap());
    assert_eq!(gradient(), gradient());
}

/// An operator on channels-last and on plain pictures.
type Pair = (&'static str, fn(&FeatureMap) -> Result<FeatureMap>, fn(&Tensor) -> Result<Tensor>);

const CEIL: AvgPool = AvgPool { ceil_mode: true, count_include_pad: true };
const INSIDE: AvgPool = AvgPool { ceil_mode: false, count_include_pad: false };

const PIXELS: &[Pair] = &[
    ("max 3/2/1", |x| fast::max_pool2d(x, 3, 2, 1), |x| pretext_ops::max_pool2d(x, 3, 2, 1)),
    ("max 2/2/0", |x| fast::max_pool2d(x, 2, 2, 0), |x| pretext_ops::max_pool2d(x, 2, 2, 0)),
    ("max 3/1/1", |x| fast::max_pool2d(x, 3, 1, 1), |x| pretext_ops::max_pool2d(x, 3, 1, 1)),
    (
        "avg 2/2/0, ceil",
        |x| fast::avg_pool2d(x, 2, 2, 0, CEIL),
        |x| pretext_ops::avg_pool2d(x, 2, 2, 0, CEIL),
    ),
    (
        "avg 3/2/1",
        |x| fast::avg_pool2d(x, 3, 2, 1, INSIDE),
        |x| pretext_ops::avg_pool2d(x, 3, 2, 1, INSIDE),
    ),
    ("blur 3/2", |x| fast::blur_pool2d(x, 3, 2), |x| pretext_ops::blur_pool2d(x, 3, 2)),
    ("blur 4/1", |x| fast::blur_pool2d(x, 4, 1), |x| pretext_ops::blur_pool2d(x, 4, 1)),
    ("replicate", fast::replicate_blur2d, pretext_ops::replicate_blur2d),
    (
        "nearest",
        |x| fast::upsample_nearest2d(x, 9, 12),
        |x| pretext_ops::upsample_nearest2d(x, 9, 12),
    ),
    ("shuffle", |x| fast::pixel_shuffle(x, 2), |x| pretext_ops::pixel_shuffle(x, 2)),
];

#[test]
fn pixels() {
    for (seed, dims) in [[2, 6, 7, 4], [1, 5, 5, 36], [3, 2, 3, 64]].iter().enumerate() {
        for dtype in [DType::F32, DType::F64] {
            let x = tensor(dims, seed as u64).to_dtype(dtype).unwrap();
            for &(name, fast, plain) in PIXELS {
                let tolerance = if dtype == DType::F32 { 1e-6 } else { 1e-14 };
                check(
                    &format!("{name} of {dims:?}"),
                    std::slice::from_ref(&x),
                    tolerance,
                    |t| fast(&(&t[0]).into())?.tensor(),
                    |t| fast::channels_last(&plain(&fast::channels_first(&t[0])?)?),
                );
            }
            check(
                &format!("mean of {dims:?}"),
                std::slice::from_ref(&x),
                1e-6,
                |t| fast::global_avg_pool2d(&(&t[0]).into()),
                |t| pretext_ops::global_avg_pool2d(&fast::channels_first(&t[0])?),
            );
        }
    }
}

/// A maximum is NaN where a NaN is among the pixels, and the first of equal ones takes the gradient.
#[test]
fn maxima() {
    let x =
        Tensor::new(&[[[[1f32], [f32::NAN]], [[1.], [1.]]]], &candle_core::Device::Cpu).unwrap();
    let max = |x: &Tensor| fast::max_pool2d(&x.into(), 2, 2, 0)?.tensor();
    assert!(flat(&max(&x).unwrap())[0].is_nan());
    let x = Tensor::ones((1, 2, 2, 1), DType::F32, x.device()).unwrap();
    let (_, gradients) = gradients(&[x], |t| max(&t[0])).unwrap();
    let gradient = flat(gradients[0].as_ref().unwrap());
    assert!(gradient[0] != 0.0 && gradient[1..] == [0.0, 0.0, 0.0], "{gradient:?}");
}

/// What is refused, and how it is said.
#[test]
fn refusals() {
    let zeros =
        |dims: &[usize]| Tensor::zeros(dims, DType::F32, &candle_core::Device::Cpu).unwrap();
    let (x, weight, line) = (zeros(&[2, 4, 4, 3]), zeros(&[5, 3, 3, 3]), zeros(&[5]));
    let message = |result: Result<Tensor>| result.err().map(|error| error.to_string());
    let conv = |x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, stride| {
        message(fast::conv2d(x, weight, bias, stride, 1, Activation::Relu)).unwrap_or_default()
    };
    assert!(
        conv(&zeros(&[4, 4, 3]), &weight, None, 1).starts_with("conv2d: the input is [4, 4, 3]")
    );
    assert!(conv(&x, &zeros(&[5, 1, 3, 3]), None, 1).contains("groups are not supported"));
    assert!(conv(&x, &weight, Some(&zeros(&[4])), 1).contains("the bias is [4]"));
    assert!(conv(&x, &weight, None, 0).contains("the stride is 0"));
    let residual = FeatureMap::from(zeros(&[2, 4, 4, 3]));
    let then = Then { residual: Some(&residual), activation: Activation::Relu };
    let out = fast::conv_norm(&x.into(), &weight, (&line, &line), (1, 1), then, 1e-5);
    let said = message(out.and_then(|out| out.y.tensor())).unwrap();
    // candle adds a backtrace where it is told to.
    assert!(said.starts_with("conv_norm: the result is [2, 4, 4, 5], the residual [2, 4, 4, 3]"));
    let single = fast::conv_norm(
        &zeros(&[1, 1, 1, 3]).into(),
        &weight,
        (&line, &line),
        (1, 1),
        Then::default(),
        1e-5,
    );
    assert!(
        message(single.and_then(|out| out.y.tensor()))
            .unwrap()
            .contains("training needs at least 2")
    );
}

/// Empty batches give empty results, and gradients of zeros.
#[test]
fn empty_batches() {
    let x = Tensor::zeros((0, 4, 4, 16), DType::F32, &candle_core::Device::Cpu).unwrap();
    let weight = tensor(&[16, 16, 3, 3], 1).to_dtype(DType::F32).unwrap();
    let (y, gradients) =
        gradients(&[x, weight], |t| fast::conv2d(&t[0], &t[1], None, 1, 1, Activation::Relu))
            .unwrap();
    assert_eq!(y.dims(), [0, 4, 4, 16]);
    assert!(gradients[1].as_ref().is_none_or(|dw| flat(dw).iter().all(|&dw| dw == 0.0)));
    let pooled = fast::max_pool2d(&y.into(), 3, 2, 1).unwrap();
    assert_eq!(pooled.dims4().unwrap(), (0, 2, 2, 16));
}
