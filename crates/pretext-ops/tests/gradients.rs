//! Every operator's gradients, in every input, against central finite differences in `f64`.

mod support;

use candle_core::{D, DType, Device, Result, Tensor, Var};
use pretext_ops::{
    AvgPool, avg_pool2d, batch_norm, batch_norm_eval, blur_pool2d, conv2d, cross_entropy,
    global_avg_pool2d, l1_loss, layer_norm, linear, max_pool2d, mish, mse_loss, pixel_shuffle,
    relu, replicate_blur2d, upsample_bilinear2d, upsample_nearest2d,
};
use support::{backward, flat, gradients, loss_weights, tensor};

/// Half the distance of a finite difference.
const STEP: f64 = 1e-5;
/// Allowed error, of the largest element of a gradient: rounding is about `1e-16 / STEP`, the
/// curvature of the operators about `STEP^2`.
const TOLERANCE: f64 = 1e-8;
/// Elements that are varied in each input; of larger inputs, evenly spread ones.
const ELEMENTS: usize = 300;

/// Compares the gradients of `sum(f(inputs) * weights)` with finite differences.
#[track_caller]
fn check(name: &str, inputs: &[Tensor], f: impl Fn(&[Tensor]) -> Result<Tensor>) {
    let (y, gradients) = gradients(inputs, &f).unwrap_or_else(|error| panic!("{name}: {error}"));
    let weights = flat(&loss_weights(y.dims()));
    let loss = |inputs: &[Tensor]| -> f64 {
        flat(&f(inputs).unwrap()).iter().zip(&weights).map(|(y, weight)| y * weight).sum()
    };
    for (index, (input, gradient)) in inputs.iter().zip(&gradients).enumerate() {
        let gradient =
            gradient.as_ref().unwrap_or_else(|| panic!("{name}: input {index} has none"));
        assert_eq!(gradient.dims(), input.dims(), "{name}: shape of gradient {index}");
        let gradient = flat(gradient);
        let scale = gradient.iter().fold(1e-3_f64, |most, g| most.max(g.abs()));
        for at in (0..gradient.len()).step_by(gradient.len().div_ceil(ELEMENTS)) {
            let moved = |step: f64| {
                let mut values = flat(input);
                values[at] += step;
                let mut inputs = inputs.to_vec();
                inputs[index] = Tensor::from_vec(values, input.dims(), &Device::Cpu).unwrap();
                loss(&inputs)
            };
            let wanted = (moved(STEP) - moved(-STEP)) / (2.0 * STEP);
            assert!(
                (gradient[at] - wanted).abs() <= TOLERANCE * scale,
                "{name}: input {index} at {at}: the gradient is {}, it should be {wanted}",
                gradient[at],
            );
        }
    }
}

/// Input `[N, C, H, W]`, output channels, kernel `(K, L)`, stride, padding.
type Conv = ([usize; 4], usize, (usize, usize), usize, usize);

#[test]
fn layer_normalisation() {
    // One row, one number a row, more rows than a thread takes at a time.
    for (dims, eps) in [(&[5][..], 1e-3), (&[4, 1], 0.1), (&[2, 3, 7], 0.0), (&[70, 3], 1e-2)] {
        let channels = dims[dims.len() - 1];
        let inputs = [tensor(dims, 1), tensor(&[channels], 2), tensor(&[channels], 3)];
        check(&format!("layer_norm {dims:?}, eps {eps}"), &inputs, |t| {
            layer_norm(&t[0], &t[1], &t[2], eps)
        });
    }
}

#[test]
fn convolution() {
    let cases: &[Conv] = &[
        ([1, 1, 1, 1], 1, (1, 1), 1, 0),
        ([1, 3, 1, 1], 2, (3, 3), 1, 1),
        ([2, 3, 5, 4], 5, (1, 1), 1, 0),
        ([2, 3, 5, 4], 2, (1, 1), 2, 0),
        ([2, 3, 5, 4], 2, (1, 1), 2, 1),
        ([1, 3, 7, 5], 2, (3, 3), 1, 0),
        ([3, 2, 7, 5], 3, (3, 3), 1, 1),
        ([2, 2, 7, 5], 3, (3, 3), 2, 0),
        ([2, 5, 6, 7], 3, (3, 3), 2, 1),
        ([2, 2, 8, 7], 3, (3, 3), 3, 1),
        ([1, 2, 9, 8], 3, (7, 7), 1, 3),
        ([2, 3, 9, 8], 2, (7, 7), 2, 3),
        ([1, 2, 7, 7], 3, (7, 7), 2, 0),
        ([2, 3, 6, 5], 2, (1, 3), 1, 1),
        ([2, 3, 6, 5], 2, (4, 2), 2, 2),
        // Padding beyond the kernel: whole windows of zeros.
        ([1, 2, 3, 4], 2, (2, 2), 2, 3),
        // Stride beyond the kernel: pixels that no window sees.
        ([1, 2, 7, 6], 2, (2, 2), 3, 0),
        // More than one tile a picture, more than one group of pictures, more than one block of
        // channels, and both in one.
        ([2, 1, 24, 23], 2, (3, 3), 1, 1),
        ([2, 2, 24, 23], 2, (1, 1), 1, 0),
        ([9, 2, 12, 13], 2, (3, 3), 1, 1),
        ([2, 35, 3, 2], 3, (3, 3), 1, 1),
        ([7, 18, 11, 11], 2, (3, 3), 1, 1),
    ];
    for &(dims, o, (k, l), stride, padding) in cases {
        let name = format!("conv2d {dims:?} to {o}, {k} x {l}, stride {stride}, padding {padding}");
        let x = tensor(&dims, 1);
        let weight = tensor(&[o, dims[1], k, l], 2);
        check(&name, &[x.clone(), weight.clone()], |t| conv2d(&t[0], &t[1], None, stride, padding));
        check(&format!("{name}, bias"), &[x, weight, tensor(&[o], 3)], |t| {
            conv2d(&t[0], &t[1], Some(&t[2]), stride, padding)
        });
    }
}

#[test]
fn fully_connected() {
    for (n, i, o) in [(1, 1, 1), (1, 5, 3), (3, 7, 5), (17, 2, 9)] {
        let (x, weight) = (tensor(&[n, i], 1), tensor(&[o, i], 2));
        check("linear", &[x.clone(), weight.clone()], |t| linear(&t[0], &t[1], None));
        check("linear, bias", &[x, weight, tensor(&[o], 3)], |t| linear(&t[0], &t[1], Some(&t[2])));
    }
}

#[test]
fn normalisation() {
    // Of two values a channel, only a large eps leaves the result a slope.
    let cases = [
        ([2, 1, 1, 1], 0.5),
        ([1, 3, 1, 2], 0.5),
        ([2, 3, 5, 7], 1e-5),
        ([2, 3, 5, 7], 0.5),
        ([3, 5, 1, 1], 1e-5),
        ([1, 2, 9, 4], 1e-5),
    ];
    for (dims, eps) in cases {
        let channels = [dims[1]];
        let inputs = [tensor(&dims, 1), tensor(&channels, 2), tensor(&channels, 3)];
        check(&format!("batch_norm {dims:?}, eps {eps}"), &inputs, |t| {
            Ok(batch_norm(&t[0], &t[1], &t[2], eps)?.y)
        });
        let (mean, variance) = (tensor(&channels, 4), (tensor(&channels, 5) + 1.5).unwrap());
        check(&format!("batch_norm_eval {dims:?}, eps {eps}"), &inputs, |t| {
            batch_norm_eval(&t[0], &t[1], &t[2], &mean, &variance, eps)
        });
    }
}

#[test]
fn statistics_are_data() -> Result<()> {
    let x = Var::from_tensor(&tensor(&[2, 3, 2, 2], 1))?;
    let ones = Tensor::ones(3, x.dtype(), x.device())?;
    let out = batch_norm(&x, &ones, &ones, 1e-5)?;
    for statistic in [&out.mean, &out.variance] {
        assert!(backward(statistic)?.get(&x).is_none());
    }
    let running = Var::from_tensor(&ones)?;
    let y = batch_norm_eval(&x, &ones, &ones, &running, &running, 1e-5)?;
    let gradients = backward(&y)?;
    assert!(gradients.get(&x).is_some() && gradients.get(&running).is_none());
    Ok(())
}

#[test]
fn pooling() {
    // Input, kernel, stride, padding.
    let cases: &[([usize; 4], usize, usize, usize)] = &[
        ([1, 1, 1, 1], 1, 1, 0),
        ([1, 2, 1, 1], 3, 2, 1),
        ([2, 3, 4, 6], 2, 2, 0),
        ([2, 3, 5, 7], 2, 1, 0),
        ([2, 3, 5, 7], 3, 1, 1),
        ([2, 3, 5, 7], 3, 2, 1),
        ([1, 5, 6, 8], 3, 2, 1),
        ([1, 2, 7, 5], 2, 3, 1),
        ([1, 1, 9, 8], 7, 2, 3),
        ([1, 1, 9, 8], 7, 1, 0),
    ];
    for &(dims, kernel, stride, padding) in cases {
        let x = [tensor(&dims, 1)];
        let name = format!("{dims:?}, kernel {kernel}, stride {stride}, padding {padding}");
        check(&format!("max_pool2d {name}"), &x, |t| max_pool2d(&t[0], kernel, stride, padding));
        for ceil_mode in [false, true] {
            for count_include_pad in [false, true] {
                let options = AvgPool { ceil_mode, count_include_pad };
                check(&format!("avg_pool2d {name}, {options:?}"), &x, |t| {
                    avg_pool2d(&t[0], kernel, stride, padding, options)
                });
            }
        }
        check(&format!("global_avg_pool2d {dims:?}"), &x, |t| global_avg_pool2d(&t[0]));
    }
}

#[test]
fn blurs() {
    for dims in [[1, 1, 1, 1], [1, 2, 2, 1], [2, 3, 5, 4], [1, 2, 7, 8]] {
        let x = [tensor(&dims, 1)];
        for kernel in [1, 2, 3, 4, 5, 7] {
            for stride in [1, 2, 3] {
                let name = format!("blur_pool2d {dims:?}, kernel {kernel}, stride {stride}");
                check(&name, &x, |t| blur_pool2d(&t[0], kernel, stride));
            }
        }
        check(&format!("replicate_blur2d {dims:?}"), &x, |t| replicate_blur2d(&t[0]));
    }
}

#[test]
fn resampling() {
    for dims in [[1, 1, 1, 1], [1, 3, 1, 2], [2, 3, 3, 4]] {
        let x = [tensor(&dims, 1)];
        for (height, width) in [(1, 1), (2, 2), (6, 8), (7, 5), (3, 4), (2, 9)] {
            let name = format!("{dims:?} to {height} x {width}");
            check(&format!("nearest {name}"), &x, |t| upsample_nearest2d(&t[0], height, width));
            check(&format!("bilinear {name}"), &x, |t| upsample_bilinear2d(&t[0], height, width));
        }
    }
    for (dims, factor) in
        [([2, 4, 1, 1], 2), ([2, 8, 3, 2], 2), ([1, 9, 2, 3], 3), ([2, 3, 2, 2], 1)]
    {
        let name = format!("pixel_shuffle {dims:?} by {factor}");
        check(&name, &[tensor(&dims, 1)], |t| pixel_shuffle(&t[0], factor));
    }
}

#[test]
fn activations() {
    for dims in [&[1][..], &[7], &[3, 5], &[2, 3, 5, 7], &[2, 3, 1, 2, 3]] {
        let x = [tensor(dims, 1)];
        check(&format!("relu {dims:?}"), &x, |t| relu(&t[0]));
        check(&format!("mish {dims:?}"), &x, |t| mish(&t[0]));
    }
}

/// Where `e^x` or `e^-x` overflows.
#[test]
fn mish_far_out() -> Result<()> {
    for dtype in [DType::F32, DType::F64] {
        let x = Var::from_tensor(&Tensor::new(&[-2000.0, 2000.0], &Device::Cpu)?.to_dtype(dtype)?)?;
        let y = mish(&x)?;
        assert_eq!(flat(&y), [0.0, 2000.0], "{dtype:?}");
        let slopes = y.sum_all()?.backward()?;
        assert_eq!(flat(slopes.get(&x).unwrap()), [0.0, 1.0], "{dtype:?}");
    }
    Ok(())
}

#[test]
fn losses() {
    for (n, k) in [(1, 1), (1, 3), (4, 2), (3, 7)] {
        let classes: Vec<u32> = (0..n).map(|i| i * 5 % k).collect();
        let classes = Tensor::new(classes, &Device::Cpu).unwrap();
        let logits = (tensor(&[n as usize, k as usize], 1) * 3.0).unwrap();
        for smoothing in [0.0, 0.1, 1.0] {
            let name = format!("cross_entropy [{n}, {k}], smoothing {smoothing}");
            check(&name, std::slice::from_ref(&logits), |t| {
                cross_entropy(&t[0], &classes, smoothing)
            });
        }
    }
    for dims in [&[1][..], &[2, 3, 5, 7], &[3, 1, 5]] {
        // Scaled, so that no difference is within a step of 0.
        let inputs = [tensor(dims, 1), (tensor(dims, 2) * 0.4321).unwrap()];
        check(&format!("mse_loss {dims:?}"), &inputs, |t| mse_loss(&t[0], &t[1]));
        check(&format!("l1_loss {dims:?}"), &inputs, |t| l1_loss(&t[0], &t[1]));
    }
}

type Unary = fn(&Tensor) -> Result<Tensor>;

/// Every operator as a function of `[N, 4, H, W]` alone.
const OPERATORS: &[(&str, Unary)] = &[
    ("conv2d 1x1", |x| conv2d(x, &tensor(&[3, 4, 1, 1], 2), None, 1, 0)),
    ("conv2d 3x3", |x| conv2d(x, &tensor(&[3, 4, 3, 3], 2), Some(&tensor(&[3], 3)), 2, 1)),
    ("linear", |x| linear(&x.flatten_from(1)?, &tensor(&[3, x.elem_count() / x.dim(0)?], 2), None)),
    ("batch_norm", |x| Ok(batch_norm(x, &tensor(&[4], 2), &tensor(&[4], 3), 1e-3)?.y)),
    ("batch_norm_eval", |x| {
        let c = |seed| tensor(&[4], seed);
        batch_norm_eval(x, &c(2), &c(3), &c(4), &(c(5) + 1.5)?, 1e-3)
    }),
    ("layer_norm", |x| {
        let channels = x.dim(D::Minus1)?;
        layer_norm(x, &tensor(&[channels], 2), &tensor(&[channels], 3), 1e-3)
    }),
    ("max_pool2d", |x| max_pool2d(x, 3, 2, 1)),
    ("avg_pool2d", |x| avg_pool2d(x, 3, 2, 1, AvgPool::default())),
    ("global_avg_pool2d", global_avg_pool2d),
    ("blur_pool2d", |x| blur_pool2d(x, 3, 2)),
    ("replicate_blur2d", replicate_blur2d),
    ("upsample_nearest2d", |x| upsample_nearest2d(x, 7, 9)),
    ("upsample_bilinear2d", |x| upsample_bilinear2d(x, 7, 9)),
    ("pixel_shuffle", |x| pixel_shuffle(x, 2)),
    ("relu", relu),
    ("mish", mish),
    ("cross_entropy", |x| {
        let logits = x.flatten_from(1)?;
        cross_entropy(&logits, &Tensor::zeros(x.dim(0)?, DType::U32, x.device())?, 0.1)
    }),
    ("mse_loss", |x| mse_loss(x, &(tensor(x.dims(), 7) * 0.4321)?)),
    ("l1_loss", |x| l1_loss(x, &(tensor(x.dims(), 7) * 0.4321)?)),
];

/// How an operator's input may lie in memory, and how it may be used.
const VIEWS: &[(&str, [usize; 4], Unary)] = &[
    ("transposed", [2, 4, 5, 3], |x| x.transpose(2, 3)),
    ("channels last", [2, 5, 3, 4], |x| x.permute((0, 3, 1, 2))),
    ("narrowed columns", [2, 4, 3, 7], |x| x.narrow(3, 1, 5)),
    ("narrowed channels", [2, 6, 3, 5], |x| x.narrow(1, 2, 4)),
    // In one piece, but not at the beginning.
    ("narrowed batch", [3, 4, 3, 5], |x| x.narrow(0, 1, 2)),
    ("broadcast", [1, 4, 3, 5], |x| x.broadcast_as((2, 4, 3, 5))),
];

#[test]
fn any_layout() {
    for (name, operator) in OPERATORS {
        for (view, dims, of) in VIEWS {
            check(&format!("{name}, {view}"), &[tensor(dims, 1)], |t| operator(&of(&t[0])?));
        }
    }
}

/// The weight's side too: a transposed or narrowed weight.
#[test]
fn any_layout_of_weights() {
    let x = || tensor(&[2, 3, 5, 4], 1);
    check("conv2d", &[x(), tensor(&[3, 2, 3, 3], 2), tensor(&[4], 3)], |t| {
        conv2d(&t[0], &t[1].transpose(0, 1)?, Some(&t[2].narrow(0, 1, 2)?), 1, 1)
    });
    check("linear", &[tensor(&[2, 3], 1), tensor(&[3, 4], 2), tensor(&[5], 3)], |t| {
        linear(&t[0], &t[1].t()?, Some(&t[2].narrow(0, 1, 4)?))
    });
    check("batch_norm", &[x(), tensor(&[3, 2], 2), tensor(&[5], 3)], |t| {
        Ok(batch_norm(&t[0], &t[1].t()?.get(1)?, &t[2].narrow(0, 2, 3)?, 1e-3)?.y)
    });
}

/// The gradients of a tensor's uses add up, whichever comes first.
#[test]
fn inputs_used_twice() {
    for (name, operator) in OPERATORS {
        let x = [tensor(&[2, 4, 3, 5], 1)];
        check(&format!("{name}, twice"), &x, |t| operator(&t[0])? + operator(&(&t[0] * 0.5)?)?);
        check(&format!("{name}, before the input"), &x, |t| {
            operator(&t[0])?.sum_all()? + t[0].sqr()?.sum_all()?
        });
        check(&format!("{name}, after the input"), &x, |t| {
            t[0].sqr()?.sum_all()? + operator(&t[0])?.sum_all()?
        });
        check(&format!("{name}, on its own square"), &x, |t| operator(&(&t[0] * &t[0])?));
    }
}

/// One tensor as two arguments of an operator.
#[test]
fn inputs_in_both_places() {
    let weight = [tensor(&[3, 3, 3, 3], 1)];
    check("conv2d", &weight, |t| conv2d(&t[0], &t[0], None, 1, 1));
    check("linear", &[tensor(&[3, 3], 1)], |t| linear(&t[0], &t[0], None));
    let (x, channels) = (tensor(&[2, 3, 2, 2], 1), tensor(&[3], 2));
    check("batch_norm", &[x, channels], |t| Ok(batch_norm(&t[0], &t[1], &t[1], 1e-3)?.y));
}

/// A small network: gradients through chains of operators, skip connection included.
#[test]
fn chain() {
    let inputs: Vec<Tensor> =
        [&[2, 3, 9, 7][..], &[4, 3, 3, 3], &[4], &[4], &[8, 4, 3, 3], &[8], &[3, 2], &[3]]
            .iter()
            .zip(1..)
            .map(|(dims, seed)| tensor(dims, seed))
            .collect();
    let classes = Tensor::new(&[2u32, 0], &Device::Cpu).unwrap();
    check("chain", &inputs, |t| {
        let stem = conv2d(&t[0], &t[1], None, 2, 1)?;
        let stem = mish(&batch_norm(&stem, &t[2], &t[3], 1e-3)?.y)?;
        let deep = max_pool2d(&stem, 3, 2, 1)?;
        let deep = blur_pool2d(&deep, 3, 2)?;
        let deep = conv2d(&deep, &t[4], Some(&t[5]), 1, 1)?;
        let up = replicate_blur2d(&pixel_shuffle(&deep, 2)?)?;
        let (h, w) = (stem.dim(2)?, stem.dim(3)?);
        let up = upsample_bilinear2d(&upsample_nearest2d(&up, 3, 3)?, h, w)?;
        let joined = (up + avg_pool2d(&stem, 3, 1, 1, AvgPool::default())?.narrow(1, 1, 2)?)?;
        let logits = linear(&global_avg_pool2d(&relu(&joined)?)?, &t[6], Some(&t[7]))?;
        cross_entropy(&logits, &classes, 0.1)? + mse_loss(&joined, &joined.ones_like()?)?
    });
}

/// What is not trained costs no work and gets no gradient.
#[test]
fn constants_get_none() -> Result<()> {
    let (x, weight) = (tensor(&[2, 3, 4, 4], 1), Var::from_tensor(&tensor(&[2, 3, 3, 3], 2))?);
    let gradients = backward(&conv2d(&x, &weight, None, 1, 1)?)?;
    assert!(gradients.get(&x).is_none() && gradients.get(&weight).is_some());
    let gradients =
        backward(&mse_loss(&conv2d(&x, &weight, None, 1, 3)?, &tensor(&[2, 2, 8, 8], 3))?)?;
    assert!(gradients.get(&x).is_none() && gradients.get(&weight).is_some());
    Ok(())
}
