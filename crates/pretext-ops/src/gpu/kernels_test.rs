//! The kernels, launch after launch, on the processor, against the operators of this crate.

use candle_core::{DType, Device, Result, Tensor, Var};

use super::Machine as _;
use super::host::{DTYPES, Host, Memory, close, equal, gradients, noise, tolerance, values};
use super::loss::{Kind, Logits};
use super::norm::{Backward, Size};
use super::pixels::{Addresses, Maxima, Pictures, Table};
use crate::AvgPool;
use crate::blur_pool::{blur_pool_of, replicate_blur_of};
use crate::channels_last::pixels::Terms;
use crate::channels_last::{self, Activation, FeatureMap, Then};
use crate::pool::{Average, Mean, Windows};
use crate::upsample::Nearest;

#[test]
fn normalisation_and_its_gradients() {
    let Some(host) = Host::find() else { return };
    let activations = [Activation::Identity, Activation::Relu, Activation::Mish];
    // One chunk; several; chunks of chunks, the last of them short.
    let shapes = [
        [1, 3, 2, 5],
        [3, 5, 7, 1],
        [2, 3, 3, 64],
        [5, 31, 29, 17],
        [9, 33, 31, 3],
        [2, 43, 17, 8],
    ];
    for (i, shape) in shapes.into_iter().enumerate() {
        for dtype in DTYPES {
            for activation in activations {
                for adds in [false, true] {
                    for own in [true, false] {
                        check_norm(host, i, shape, dtype, activation, adds, own);
                    }
                }
            }
        }
    }
}

fn check_norm(
    host: Host,
    seed: usize,
    shape: [usize; 4],
    dtype: DType,
    activation: Activation,
    adds: bool,
    own: bool,
) {
    let what = format!("{shape:?} {dtype:?} {activation:?}, residual {adds}, own {own}");
    let (numbers, channels, eps) = (shape.iter().product::<usize>(), shape[3], 1e-5);
    // A mean far from 0 shows sums that cancel.
    let far = (noise(&shape, seed, DType::F32) + 30.0).unwrap();
    let x = Var::from_tensor(&far.to_dtype(dtype).unwrap()).unwrap();
    let residual = Var::from_tensor(&noise(&shape, seed + 1, dtype)).unwrap();
    let of_channels = |seed| noise(&[channels], seed, DType::F32);
    let weight = Var::from_tensor(&of_channels(seed + 2)).unwrap();
    let bias = Var::from_tensor(&of_channels(seed + 3)).unwrap();
    let running = ((of_channels(seed + 4) + 30.0).unwrap(), of_channels(seed + 5).sqr().unwrap());
    let dy = noise(&shape, seed + 6, dtype);

    let then = Then { residual: adds.then_some(residual.as_tensor()), activation };
    let (want, moments) = if own {
        let out = channels_last::batch_norm(&x, &weight, &bias, then, eps).unwrap();
        (out.y, Some((out.mean, out.variance)))
    } else {
        let affine = (weight.as_tensor(), bias.as_tensor());
        let running = (&running.0, &running.1);
        (channels_last::batch_norm_eval(&x, affine, running, then, eps).unwrap(), None)
    };
    let mut variables = vec![&x, &weight, &bias];
    variables.extend(adds.then_some(&residual));
    let wanted = gradients(&want, &dy, &variables);

    let size = Size::new(dtype, numbers, channels).unwrap();
    let [x_at, weight_at, bias_at, residual_at, dy_at, mean_at, variance_at] =
        [&x, &weight, &bias, &residual, &dy, &running.0, &running.1].map(|t| host.upload(t));
    let affine = (weight_at.at(), bias_at.at());
    let line = if let Some((mean, variance)) = moments {
        let line = |whole| {
            let parts = super::norm::moments(&host, size, x_at.at(), whole).unwrap();
            let of_channels = || host.room(DType::F32, channels);
            let (own_mean, own_variance) = (of_channels(), of_channels());
            let moments = (parts.memory.at(), parts.step, size.rows);
            let to = super::norm::Statistics {
                mean: own_mean.at(),
                variance: own_variance.at(),
                momentum: 1.0,
            };
            let line = super::norm::own_line(&host, size, moments, affine, eps, to).unwrap();
            close(&format!("{what}: mean"), &own_mean.tensor(&mean), &mean, 1e-6);
            close(&format!("{what}: variance"), &own_variance.tensor(&variance), &variance, 1e-5);
            line
        };
        // Joined to the end, as parts of several processes are.
        line(true);
        line(false)
    } else {
        let running = (mean_at.at(), variance_at.at());
        super::norm::given_line(&host, size, running, affine, eps).unwrap()
    };
    let residual_address = if adds { residual_at.at() } else { 0 };
    let y = host.room(dtype, numbers);
    let pictures = (x_at.at(), residual_address);
    super::norm::normalise(&host, size, pictures, line.at(), activation, y.at()).unwrap();
    // The shift takes a mean of 30 away, which costs `f32` five bits, here as there.
    let tolerance = 30.0 * tolerance(dtype);
    let tolerance = if dtype == DType::F32 { tolerance } else { tolerance / 30.0 };
    close(&format!("{what}: y"), &y.tensor(&want), &want, tolerance);

    let backward = Backward {
        size,
        x: x_at.at(),
        residual: residual_address,
        dy: dy_at.at(),
        line: line.at(),
        activation,
        own,
    };
    let (dw, db) = (host.room(DType::F32, channels), host.room(DType::F32, channels));
    let slopes = |whole| {
        let sums = super::norm::gradient_sums(&host, &backward, whole).unwrap();
        let of = (sums.memory.at(), sums.parts, size.rows);
        super::norm::parameter_gradients(&host, &backward, of, (dw.at(), db.at())).unwrap()
    };
    let sums = 4.0 * tolerance;
    for whole in [true, false] {
        slopes(whole);
        close(&format!("{what}: dw"), &dw.tensor(&weight), &wanted[1], sums);
        close(&format!("{what}: db"), &db.tensor(&bias), &wanted[2], sums);
    }
    let slopes = slopes(false);
    let (dx, before) = (host.room(dtype, numbers), host.room(dtype, numbers));
    let before_address = if adds { before.at() } else { 0 };
    let to = (dx.at(), before_address);
    super::norm::input_gradient(&host, &backward, slopes.at(), to).unwrap();
    close(&format!("{what}: dx"), &dx.tensor(&dy), &wanted[0], sums);
    if adds {
        close(&format!("{what}: residual"), &before.tensor(&dy), &wanted[3], sums);
    }
}

#[test]
fn a_bias_is_a_normalisation_by_nothing() {
    let Some(host) = Host::find() else { return };
    for dtype in DTYPES {
        let (x, bias) = (noise(&[2, 3, 5, 7], 1, dtype), noise(&[7], 2, DType::F32));
        let size = Size::new(dtype, x.elem_count(), 7).unwrap();
        let (x_at, bias_at) = (host.upload(&x), host.upload(&bias));
        let line = super::norm::bias_line(&host, size, bias_at.at()).unwrap();
        let y = host.room(dtype, x.elem_count());
        let relu = Activation::Relu;
        super::norm::normalise(&host, size, (x_at.at(), 0), line.at(), relu, y.at()).unwrap();
        let sum = x.to_dtype(DType::F32).unwrap().broadcast_add(&bias).unwrap();
        let want = crate::relu(&sum).unwrap().to_dtype(dtype).unwrap();
        equal("bias", &y.tensor(&want), &want);
    }
}

#[test]
fn weighted_sums_of_pixels_and_their_gradients() {
    let Some(host) = Host::find() else { return };
    for (seed, shape) in
        [[2, 7, 5, 3], [1, 1, 1, 1], [3, 8, 8, 16], [1, 2, 9, 5]].iter().enumerate()
    {
        for dtype in DTYPES {
            let size = (shape[1], shape[2]);
            let x = &noise(shape, seed, dtype);
            for (ceil, pad) in [(false, true), (true, false), (true, true)] {
                let options = AvgPool { ceil_mode: ceil, count_include_pad: pad };
                let windows = Windows::new("avg_pool2d", size, 3, 2, 1, ceil).unwrap();
                check_sums(host, x, &Average { windows, options }, windows.size(size), |x| {
                    channels_last::avg_pool2d(x, 3, 2, 1, options)
                });
            }
            for (kernel, stride) in [(3, 2), (4, 1), (1, 3)] {
                let blur = blur_pool_of(size, kernel, stride).unwrap();
                check_sums(host, x, &blur, blur.output(size), |x| {
                    channels_last::blur_pool2d(x, kernel, stride)
                });
            }
            let blur = replicate_blur_of(size).unwrap();
            check_sums(host, x, &blur, size, channels_last::replicate_blur2d);
            for (height, width) in [(14, 10), (3, 4), (1, 17)] {
                check_sums(host, x, &Nearest { height, width }, (height, width), |x| {
                    channels_last::upsample_nearest2d(x, height, width)
                });
            }
            check_sums(host, x, &Mean, (1, 1), |x| {
                let (n, _, _, c) = x.dims4()?;
                Ok(channels_last::global_avg_pool2d(x)?.reshape((n, 1, 1, c))?.into())
            });
        }
    }
}

/// To the last bit: the terms are the same, in the same order.
fn check_sums<T: Terms>(
    host: Host,
    x: &Tensor,
    terms: &T,
    output: (usize, usize),
    operator: impl Fn(&FeatureMap) -> Result<FeatureMap>,
) {
    let what = format!("{terms:?} of {:?} {:?}", x.shape(), x.dtype());
    let x = Var::from_tensor(x).unwrap();
    let want = operator(&x.as_tensor().into()).unwrap().tensor().unwrap();
    let dy = noise(want.dims(), 9, x.dtype());
    let dx_wanted = &gradients(&want, &dy, &[&x])[0];

    let (n, h, w, channels) = x.dims4().unwrap();
    let tables = Table::both(terms, (h, w), output).unwrap().map(|table| host.table(table));
    let addresses = |[starts, places, weights]: &[Memory; 3]| Addresses {
        starts: starts.at(),
        places: places.at(),
        weights: weights.at(),
    };
    let (inputs, outputs) = (h * w, output.0 * output.1);
    let there = Pictures { dtype: x.dtype(), n, inputs, outputs, channels };
    let (from, y) = (host.upload(&x), host.room(x.dtype(), want.elem_count()));
    super::pixels::gather(&host, &there, addresses(&tables[0]), from.at(), y.at()).unwrap();
    equal(&what, &y.tensor(&want), &want);

    let back = Pictures { inputs: outputs, outputs: inputs, ..there };
    let (from, dx) = (host.upload(&dy), host.room(x.dtype(), x.elem_count()));
    super::pixels::gather(&host, &back, addresses(&tables[1]), from.at(), dx.at()).unwrap();
    equal(&format!("gradient of {what}"), &dx.tensor(&x), dx_wanted);
}

#[test]
fn maxima_and_their_gradients() {
    let Some(host) = Host::find() else { return };
    for (seed, shape) in
        [[2, 7, 5, 3], [1, 2, 2, 1], [2, 9, 8, 4], [1, 5, 6, 16]].iter().enumerate()
    {
        for (kernel, stride, padding) in [(3, 2, 1), (2, 2, 0), (2, 1, 0), (2, 3, 1), (1, 1, 0)] {
            for (dtype, nan) in [(DType::F32, false), (DType::BF16, false), (DType::F32, true)] {
                let mut x = noise(shape, seed, dtype);
                if nan {
                    // Some NaNs, and many numbers alike.
                    let numbers = values(&x).into_iter().enumerate();
                    let numbers =
                        numbers.map(|(i, v)| if i % 7 == 3 { f64::NAN } else { v.round() });
                    let numbers: Vec<f64> = numbers.collect();
                    x = Tensor::from_vec(numbers, &shape[..], &Device::Cpu).unwrap();
                    x = x.to_dtype(dtype).unwrap();
                }
                check_maxima(host, &x, (kernel, stride, padding));
            }
        }
    }
}

fn check_maxima(host: Host, x: &Tensor, (kernel, stride, padding): (usize, usize, usize)) {
    let what = format!("maxima of {:?}, {kernel} {stride} {padding}", x.shape());
    let x = Var::from_tensor(x).unwrap();
    let want = channels_last::max_pool2d(&x.as_tensor().into(), kernel, stride, padding).unwrap();
    let want = want.tensor().unwrap();
    let dy = noise(want.dims(), 5, x.dtype());
    let dx_wanted = &gradients(&want, &dy, &[&x])[0];

    let input = x.dims4().unwrap();
    let windows =
        Windows::new("max_pool2d", (input.1, input.2), kernel, stride, padding, false).unwrap();
    let maxima = Maxima { dtype: x.dtype(), input, windows };
    let (from, y) = (host.upload(&x), host.room(x.dtype(), want.elem_count()));
    let places = host.alloc(maxima.places().unwrap()).unwrap();
    maxima.forward(&host, from.at(), places.at(), y.at()).unwrap();
    equal(&what, &y.tensor(&want), &want);
    let (slopes, dx) = (host.upload(&dy), host.room(x.dtype(), x.elem_count()));
    maxima.backward(&host, places.at(), slopes.at(), dx.at()).unwrap();
    equal(&format!("gradient of {what}"), &dx.tensor(&x), dx_wanted);
}

#[test]
fn activations_and_their_gradients() {
    let Some(host) = Host::find() else { return };
    for dtype in DTYPES {
        for activation in [Activation::Relu, Activation::Mish] {
            let special = [f32::NAN, f32::INFINITY, -80.0, 90.0, 0.0, -0.0];
            let special = Tensor::new(&special, &Device::Cpu).unwrap().to_dtype(dtype).unwrap();
            let x = Tensor::cat(&[&noise(&[1000], 1, dtype), &special], 0).unwrap();
            let count = x.elem_count();
            let (x, dy) = (Var::from_tensor(&x).unwrap(), noise(&[count], 2, dtype));
            let want = activation.apply(&x).unwrap();
            let dx_wanted = &gradients(&want, &dy, &[&x])[0];
            let (from, slopes) = (host.upload(&x), host.upload(&dy));
            let (y, dx) = (host.room(dtype, count), host.room(dtype, count));
            let of = (dtype, count);
            let both = (from.at(), slopes.at());
            super::activation::activation(&host, of, from.at(), activation, y.at()).unwrap();
            super::activation::activation_gradient(&host, of, both, activation, dx.at()).unwrap();
            if activation == Activation::Relu {
                equal("relu", &y.tensor(&x), &want);
                equal("gradient of relu", &dx.tensor(&x), dx_wanted);
            } else {
                // NaNs and infinities have no distance.
                let plain = |t: &Tensor| t.narrow(0, 0, 1000).unwrap();
                close("mish", &plain(&y.tensor(&x)), &plain(&want), tolerance(dtype));
                let (got, want) = (plain(&dx.tensor(&x)), plain(dx_wanted));
                close("gradient of mish", &got, &want, tolerance(dtype));
            }
        }
    }
}

#[test]
fn losses_and_their_gradients() {
    let Some(host) = Host::find() else { return };
    // More numbers than threads, and not a multiple of them.
    for count in [1, 33, 70_001] {
        for kind in [Kind::Squared, Kind::Absolute] {
            let (mut p, t) = (noise(&[count], 1, DType::F32), noise(&[count], 2, DType::F32));
            if count == 33 {
                p = t.clone(); // The slope of an absolute difference of 0 is 0.
            }
            let p = Var::from_tensor(&p).unwrap();
            let want = match kind {
                Kind::Squared => crate::mse_loss(&p, &t),
                Kind::Absolute => crate::l1_loss(&p, &t),
            }
            .unwrap();
            let dloss = Tensor::new(0.7_f32, &Device::Cpu).unwrap();
            let dp_wanted = &gradients(&want, &dloss, &[&p])[0];
            let (p_at, t_at, dloss_at) = (host.upload(&p), host.upload(&t), host.upload(&dloss));
            let (at, n) = ((p_at.at(), t_at.at()), count as u32);
            let loss = super::loss::mean_difference(&host, kind, n, at).unwrap();
            close(&format!("{kind:?} of {count}"), &loss.tensor(&want), &want, 1e-6);
            let out = host.room(DType::F32, count);
            super::loss::difference_gradient(&host, kind, n, at, dloss_at.at(), out.at()).unwrap();
            equal(&format!("gradient of {kind:?}"), &out.tensor(&p), dp_wanted);
        }
    }
    for (rows, k) in [(1, 1), (5, 10), (130, 24), (1100, 3)] {
        for smoothing in [0.0, 0.1] {
            let logits = Var::from_tensor(&noise(&[rows, k], 3, DType::F32)).unwrap();
            let classes: Vec<u32> = (0..rows).map(|i| (i * 7 % k) as u32).collect();
            let classes = Tensor::from_vec(classes, rows, &Device::Cpu).unwrap();
            let want = crate::cross_entropy(&logits, &classes, smoothing).unwrap();
            let dloss = Tensor::new(-1.3_f32, &Device::Cpu).unwrap();
            let wanted = &gradients(&want, &dloss, &[&logits])[0];
            let (logits_at, classes_at) = (host.upload(&logits), host.upload(&classes));
            let dloss_at = host.upload(&dloss);
            let batch = Logits {
                logits: logits_at.at(),
                classes: classes_at.at(),
                rows: rows as u32,
                k: k as u32,
                smoothing,
            };
            let loss = super::loss::cross_entropy(&host, &batch).unwrap();
            close(&format!("cross-entropy {rows} {k}"), &loss.tensor(&want), &want, 1e-6);
            let out = host.room(DType::F32, rows * k);
            super::loss::cross_entropy_gradient(&host, &batch, dloss_at.at(), out.at()).unwrap();
            close(&format!("slopes {rows} {k}"), &out.tensor(&logits), wanted, 1e-6);
        }
    }
}
