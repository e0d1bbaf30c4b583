//! The operators of a machine as nodes of candle's graph, on the processor, against those of this
//! crate: results and gradients.

use candle_core::{DType, Device, Result, Tensor, Var};

use super::host::{DTYPES, Host, Lack, close, gradients, lacking, noise};
use super::loss::Kind;
use super::operators;
use super::operators::By;
use super::product::{Form, Order, Product};
use crate::BatchNormOutput;
use crate::channels_last::{self, Activation, FeatureMap, Running, Then};
use crate::conv2d::Geometry;
use crate::pool::{Mean, Windows};
use crate::upsample::Nearest;

pub(super) type Operator<'a> = &'a dyn Fn(&[Tensor]) -> Result<Tensor>;

/// Runs both with the same arguments, and once more without a gradient of the first.
#[track_caller]
pub(super) fn check(
    what: &str,
    arguments: &[Tensor],
    tolerance: f64,
    ours: Operator<'_>,
    plain: Operator<'_>,
) {
    let run = |operator: Operator<'_>, fixed: usize| {
        let variables: Vec<Var> = arguments.iter().map(|t| Var::from_tensor(t).unwrap()).collect();
        let tensors = variables.iter().enumerate();
        let tensors =
            tensors.map(|(i, v)| if i < fixed { v.detach() } else { v.as_tensor().clone() });
        let y = operator(&tensors.collect::<Vec<_>>()).unwrap();
        let dy = noise(y.dims(), 9, y.dtype());
        let wanted: Vec<&Var> = variables[fixed..].iter().collect();
        let mut all = vec![y.clone()];
        all.extend(gradients(&y, &dy, &wanted));
        all
    };
    for fixed in 0..arguments.len().min(2) {
        for (i, (got, want)) in run(ours, fixed).iter().zip(run(plain, fixed)).enumerate() {
            close(&format!("{what}, {i} of {fixed} fixed"), got, &want, tolerance);
        }
    }
}

/// How far two ways of computing the same may be apart, of the largest number. Sums of `f32` differ in
/// their order. A `bf16` is rounded by 2^-8 of itself at most, once for each time that a result, or what it
/// is the sum of, is written to memory in between: `roundings` on both sides together.
fn rounded(dtype: DType, roundings: u32) -> f64 {
    if dtype == DType::F32 { 1e-5 } else { f64::from(roundings) / 256.0 }
}

const BF16_LAST: Form = (DType::BF16, Order::ChannelsLast);
const F32_LAST: Form = (DType::F32, Order::ChannelsLast);

#[test]
fn convolutions_with_what_follows() {
    if Host::find().is_none() {
        return;
    }
    // Whatever cuDNN lacks.
    let lacks: [&[Lack]; 4] = [
        &[],
        &[(BF16_LAST, None)],
        &[(BF16_LAST, None), (F32_LAST, None)],
        // One product alone, whose operands then take another form than the others'.
        &[(BF16_LAST, Some(Product::Input)), (F32_LAST, Some(Product::Weight))],
    ];
    for lacks in lacks {
        for dtype in DTYPES {
            lacking(lacks, || convolutions(&format!("{dtype:?} without {lacks:?}"), dtype));
        }
    }
}

fn convolutions(what: &str, dtype: DType) {
    // Sums, results and gradients between the two, and results on the other side.
    let tolerance = rounded(dtype, 4);
    // Statistics divide what sums of `f32` are off by.
    let normed = if dtype == DType::F32 { 4.0 * tolerance } else { tolerance };
    let (input, kernels, stride, padding) = ([2, 7, 6, 5], [4, 5, 3, 2], 2, 1);
    let [n, h, w, c] = input;
    let x = noise(&input, 1, dtype);
    let weight = noise(&kernels, 2, DType::F32);
    let g = Geometry::new((n, c, h, w), &weight, stride, padding).unwrap();
    let residual = noise(&[n, g.out.0, g.out.1, g.o], 3, dtype);
    let of_channels = |seed| noise(&[g.o], seed, DType::F32);
    let window = (stride, padding);

    for activation in [Activation::Identity, Activation::Relu, Activation::Mish] {
        let what = format!("{what}, {activation:?}");
        let arguments = [x.clone(), weight.clone()];
        check(
            &format!("conv2d {what}"),
            &arguments,
            tolerance,
            &|a| operators::conv2d::<Host>(g, &a[0], &a[1], None, activation),
            &|a| channels_last::conv2d(&a[0], &a[1], None, stride, padding, activation),
        );
        for adds in [false, true] {
            let mut arguments = vec![x.clone(), weight.clone(), of_channels(4)];
            arguments.extend(adds.then(|| residual.clone()));
            check(
                &format!("conv_bias {what} {adds}"),
                &arguments,
                tolerance,
                &|a| {
                    let residual = a.get(3).map(FeatureMap::from);
                    let then = Then { residual: residual.as_ref(), activation };
                    let x = FeatureMap::from(&a[0]);
                    operators::conv_bias::<Host>(g, &x, &a[1], &a[2], then)?.tensor()
                },
                &|a| {
                    let residual = a.get(3).map(FeatureMap::from);
                    let then = Then { residual: residual.as_ref(), activation };
                    let x = FeatureMap::from(&a[0]);
                    channels_last::conv_bias(&x, &a[1], &a[2], window, then)?.tensor()
                },
            );
            arguments.insert(3, of_channels(5));
            check(
                &format!("conv_norm {what} {adds}"),
                &arguments,
                normed,
                &|a| {
                    let residual = a.get(4).map(FeatureMap::from);
                    let then = Then { residual: residual.as_ref(), activation };
                    let (x, norm) = (FeatureMap::from(&a[0]), (&a[2], &a[3]));
                    let out = operators::conv_norm::<Host>(g, &x, &a[1], norm, then, 1e-5, None);
                    out?.0.tensor()
                },
                &|a| {
                    let residual = a.get(4).map(FeatureMap::from);
                    let then = Then { residual: residual.as_ref(), activation };
                    let (x, norm) = (FeatureMap::from(&a[0]), (&a[2], &a[3]));
                    channels_last::conv_norm(&x, &a[1], norm, window, then, 1e-5)?.y.tensor()
                },
            );
            let running = (of_channels(6), of_channels(7).sqr().unwrap());
            check(
                &format!("conv_norm_eval {what} {adds}"),
                &arguments,
                normed,
                &|a| {
                    let residual = a.get(4).map(FeatureMap::from);
                    let then = Then { residual: residual.as_ref(), activation };
                    let (x, norm) = (FeatureMap::from(&a[0]), (&a[2], &a[3]));
                    let given = (&running.0, &running.1);
                    operators::conv_norm_eval::<Host>(g, &x, &a[1], norm, given, then, 1e-5)?
                        .tensor()
                },
                &|a| {
                    let residual = a.get(4).map(FeatureMap::from);
                    let then = Then { residual: residual.as_ref(), activation };
                    let (x, norm) = (FeatureMap::from(&a[0]), (&a[2], &a[3]));
                    let running = (&running.0, &running.1);
                    channels_last::conv_norm_eval(&x, &a[1], norm, running, window, then, 1e-5)?
                        .tensor()
                },
            );
        }
    }
    if dtype == DType::F32 {
        let turned = channels_last::channels_first(&x).unwrap();
        check(
            &format!("plain conv2d {what}"),
            &[turned, weight, of_channels(4)],
            tolerance,
            &|a| operators::conv2d_channels_first::<Host>(g, &a[0], &a[1], Some(&a[2])),
            &|a| crate::conv2d(&a[0], &a[1], Some(&a[2]), stride, padding),
        );
    }
}

#[test]
fn pictures_that_are_a_part_of_others() {
    if Host::find().is_none() {
        return;
    }
    // An odd number of numbers before them: they begin anywhere.
    for dtype in DTYPES {
        let all = noise(&[3, 7, 3, 5], 1, dtype);
        let weight = noise(&[4, 5, 3, 3], 2, DType::F32);
        let g = Geometry::new((2, 5, 7, 3), &weight, 1, 1).unwrap();
        check(
            &format!("a part, {dtype:?}"),
            &[all, weight],
            rounded(dtype, 2),
            &|a| operators::conv2d::<Host>(g, &a[0].narrow(0, 1, 2)?, &a[1], None, IDENTITY),
            &|a| channels_last::conv2d(&a[0].narrow(0, 1, 2)?, &a[1], None, 1, 1, IDENTITY),
        );
    }
}

const IDENTITY: Activation = Activation::Identity;

/// A batch norm of tensors.
pub(super) fn batch_norm(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    then: Then<'_>,
) -> Result<BatchNormOutput> {
    let residual = then.residual.map(FeatureMap::from);
    let then = Then { residual: residual.as_ref(), activation: then.activation };
    let by = By::Own { affine: (weight, bias), running: None, eps: 1e-5 };
    let (y, statistics) = operators::normalised::<Host>(&x.into(), by, then)?;
    let (mean, variance) = statistics.unwrap();
    Ok(BatchNormOutput { y: y.tensor()?, mean, variance })
}

#[test]
fn statistics_of_a_batch() {
    if Host::find().is_none() {
        return;
    }
    let (x, one) = (noise(&[3, 5, 4, 6], 1, DType::F32), noise(&[6], 2, DType::F32));
    let then = Then::default();
    let got = batch_norm(&x, &one, &one, then).unwrap();
    let want = channels_last::batch_norm(&x, &one, &one, then, 1e-5).unwrap();
    close("mean", &got.mean, &want.mean, 1e-6);
    close("variance", &got.variance, &want.variance, 1e-5);

    // And running ones that follow.
    let run = |follow: &dyn Fn(Running<'_>)| {
        let [mean, variance] = [3, 4].map(|seed| noise(&[6], seed, DType::F32).sqr().unwrap());
        let [mean, variance] = [mean, variance].map(|t| Var::from_tensor(&t).unwrap());
        for _ in 0..3 {
            follow(Running { mean: &mean, variance: &variance, momentum: 0.1 });
        }
        [mean, variance].map(|var| var.as_tensor().clone())
    };
    let map = FeatureMap::from(&x);
    let got = run(&|running| {
        let by = By::Own { affine: (&one, &one), running: Some(running), eps: 1e-5 };
        let (_, statistics) = operators::normalised::<Host>(&map, by, Then::default()).unwrap();
        assert!(statistics.is_none());
    });
    let want = run(&|running| {
        let identity = Activation::Identity;
        channels_last::batch_norm_following(&map, (&one, &one), identity, 1e-5, running).unwrap();
    });
    for (got, want) in got.iter().zip(&want) {
        close("running", got, want, 1e-6);
    }
}

/// Threads that stand for processes: two with 2 and 3 of 5 pictures.
struct Threads {
    barrier: std::sync::Barrier,
    sums: std::sync::Mutex<Vec<f64>>,
    part: usize,
    other: Option<std::sync::Arc<Threads>>,
}

impl crate::Peers for Threads {
    fn sum(&self, values: &mut [f64]) -> Result<()> {
        let all = self.other.as_deref().unwrap_or(self);
        {
            let mut sums = all.sums.lock().unwrap();
            sums.resize(values.len(), 0.0);
            sums.iter_mut().zip(&*values).for_each(|(sum, value)| *sum += value);
        }
        all.barrier.wait();
        values.copy_from_slice(&all.sums.lock().unwrap());
        if all.barrier.wait().is_leader() {
            all.sums.lock().unwrap().clear();
        }
        all.barrier.wait();
        Ok(())
    }

    fn whole(&self, count: usize) -> usize {
        count / self.part * 5
    }
}

#[test]
fn parts_of_several_processes_normalise_as_the_whole() {
    use std::sync::Arc;

    if Host::find().is_none() {
        return;
    }
    let (shape, of_channels) = ([5, 3, 4, 6], |seed| noise(&[6], seed, DType::F32));
    let x = (noise(&shape, 1, DType::F32) + 30.0).unwrap();
    let dy = noise(&shape, 9, DType::F32);
    // Result, statistics and the gradients of x, weight and bias for some of the pictures.
    let pass = |from: usize, count: usize| {
        let part = |t: &Tensor| t.narrow(0, from, count).unwrap().contiguous().unwrap();
        let variables =
            [part(&x), of_channels(2), of_channels(3)].map(|t| Var::from_tensor(&t).unwrap());
        let then = Then { residual: None, activation: Activation::Mish };
        let [x, weight, bias] = &variables;
        let out = batch_norm(x, weight, bias, then).unwrap();
        let mut all = vec![out.y.clone(), out.mean, out.variance];
        all.extend(gradients(&out.y, &part(&dy), &[x, weight, bias]));
        all
    };
    let whole = pass(0, 5);
    let new = |part, other| {
        let (barrier, sums) = (std::sync::Barrier::new(2), std::sync::Mutex::default());
        Arc::new(Threads { barrier, sums, part, other })
    };
    let first = new(2, None);
    let second = new(3, Some(first.clone()));
    let parts = std::thread::scope(|scope| {
        let run = |peers: Arc<Threads>, from, count| {
            let pass = &pass;
            scope.spawn(move || crate::among(Some(peers), || pass(from, count)))
        };
        [run(first, 0, 2), run(second, 2, 3)].map(|thread| thread.join().unwrap())
    });
    let [a, b] = &parts;
    for (i, what) in ["y", "mean", "variance", "dx", "dw", "db"].into_iter().enumerate() {
        match i {
            0 | 3 => close(what, &Tensor::cat(&[&a[i], &b[i]], 0).unwrap(), &whole[i], 1e-5),
            1 | 2 => parts.iter().for_each(|part| close(what, &part[i], &whole[i], 1e-5)),
            _ => close(what, &(&a[i] + &b[i]).unwrap(), &whole[i], 1e-5),
        }
    }
}

#[test]
fn normalisations_by_themselves() {
    if Host::find().is_none() {
        return;
    }
    for dtype in DTYPES {
        let tolerance = rounded(dtype, 2);
        let of_channels = |seed| noise(&[4], seed, DType::F32);
        let shape = [3, 3, 5, 4];
        let residual = noise(&shape, 4, dtype);
        let arguments = [noise(&shape, 1, dtype), of_channels(2), of_channels(3), residual];
        let running = (of_channels(5), of_channels(6).sqr().unwrap());
        let activation = Activation::Relu;
        check(
            "batch_norm",
            &arguments,
            tolerance,
            &|a| {
                let then = Then { residual: Some(&a[3]), activation };
                Ok(batch_norm(&a[0], &a[1], &a[2], then)?.y)
            },
            &|a| {
                let then = Then { residual: Some(&a[3]), activation };
                Ok(channels_last::batch_norm(&a[0], &a[1], &a[2], then, 1e-5)?.y)
            },
        );
        check(
            "batch_norm_eval",
            &arguments,
            tolerance,
            &|a| {
                let then = Then { residual: Some(&a[3]), activation };
                let statistics = (&running.0, &running.1);
                let by = By::Given { affine: (&a[1], &a[2]), statistics, eps: 1e-5 };
                let residual = then.residual.map(FeatureMap::from);
                let then = Then { residual: residual.as_ref(), activation };
                operators::normalised::<Host>(&FeatureMap::from(&a[0]), by, then)?.0.tensor()
            },
            &|a| {
                let then = Then { residual: Some(&a[3]), activation };
                let (affine, running) = ((&a[1], &a[2]), (&running.0, &running.1));
                channels_last::batch_norm_eval(&a[0], affine, running, then, 1e-5)
            },
        );
        let mish = |a: &[Tensor]| operators::activate::<Host>(&a[0], Activation::Mish);
        check("mish", &arguments[..1], tolerance, &mish, &|a| crate::mish(&a[0]));
    }
}

#[test]
fn rows_by_themselves() {
    if Host::find().is_none() {
        return;
    }
    // Sums over rows in one part, and in parts of parts; channels of a number at a time and of sixteen
    // bytes.
    for (rows, channels) in [(3, 5), (70, 16), (1100, 8), (1, 1)] {
        for dtype in DTYPES {
            // A mean far from 0 shows sums that cancel.
            let x = (noise(&[rows, channels], 1, DType::F32) + 20.0).unwrap();
            let x = x.to_dtype(dtype).unwrap();
            let of_channels = |seed| noise(&[channels], seed, DType::F32);
            check(
                &format!("layer_norm, {rows} {channels} {dtype:?}"),
                &[x, of_channels(2), of_channels(3)],
                if dtype == DType::F32 { 3e-5 } else { rounded(dtype, 2) },
                &|a| operators::layer_norm::<Host>(&a[0], &a[1], &a[2], 1e-5),
                &|a| {
                    let x = a[0].to_dtype(DType::F32)?;
                    crate::layer_norm(&x, &a[1], &a[2], 1e-5)?.to_dtype(a[0].dtype())
                },
            );
        }
    }
}

#[test]
fn pixels() {
    if Host::find().is_none() {
        return;
    }
    for dtype in DTYPES {
        let one = [noise(&[2, 5, 6, 8], 1, dtype)];
        let windows = Windows::new("max_pool2d", (5, 6), 3, 2, 1, false).unwrap();
        check(
            "max",
            &one,
            0.0,
            &|a| operators::max_pool2d::<Host>(&FeatureMap::from(&a[0]), windows)?.tensor(),
            &|a| channels_last::max_pool2d(&FeatureMap::from(&a[0]), 3, 2, 1)?.tensor(),
        );
        check(
            "nearest",
            &one,
            0.0,
            &|a| {
                let nearest = Nearest { height: 9, width: 7 };
                operators::weighted::<Host, _>(&FeatureMap::from(&a[0]), &nearest, (9, 7))?.tensor()
            },
            &|a| channels_last::upsample_nearest2d(&FeatureMap::from(&a[0]), 9, 7)?.tensor(),
        );
        check(
            "mean",
            &one,
            0.0,
            &|a| {
                let x = FeatureMap::from(&a[0]);
                operators::weighted::<Host, _>(&x, &Mean, (1, 1))?.tensor()?.flatten(1, 3)
            },
            &|a| channels_last::global_avg_pool2d(&FeatureMap::from(&a[0])),
        );
        // Channels of a number at a time and of sixteen bytes, and a factor other than 2.
        for (shape, factor) in [([2, 5, 6, 8], 2), ([2, 3, 5, 64], 2), ([2, 3, 5, 18], 3)] {
            check(
                "shuffle",
                &[noise(&shape, 3, dtype)],
                0.0,
                &|a| {
                    let x = FeatureMap::from(&a[0]);
                    operators::pixel_shuffle::<Host>(&x, factor)?.tensor()
                },
                &|a| channels_last::pixel_shuffle(&FeatureMap::from(&a[0]), factor)?.tensor(),
            );
        }
        let joins = [(3, Activation::Identity), (3, Activation::Relu), (16, Activation::Relu)];
        for (channels, activation) in joins {
            let two = [one[0].clone(), noise(&[2, 5, 6, channels], 2, dtype)];
            check(
                "concat",
                &two,
                0.0,
                &|a| {
                    let (a, b) = (FeatureMap::from(&a[0]), FeatureMap::from(&a[1]));
                    operators::concat::<Host>(&a, &b, activation)?.tensor()
                },
                &|a| {
                    let (a, b) = (FeatureMap::from(&a[0]), FeatureMap::from(&a[1]));
                    channels_last::concat(&a, &b, activation)?.tensor()
                },
            );
        }
    }
}

#[test]
fn losses() {
    if Host::find().is_none() {
        return;
    }
    let two = [noise(&[3, 5, 7], 1, DType::F32), noise(&[3, 5, 7], 2, DType::F32)];
    for kind in [Kind::Squared, Kind::Absolute] {
        check(
            &format!("{kind:?}"),
            &two,
            1e-6,
            &|a| operators::difference::<Host>("loss", &a[0], &a[1], kind),
            &|a| match kind {
                Kind::Squared => crate::mse_loss(&a[0], &a[1]),
                Kind::Absolute => crate::l1_loss(&a[0], &a[1]),
            },
        );
    }
    let classes: Vec<u32> = (0..9).map(|i| i * 7 % 5).collect();
    let tensor = Tensor::new(&classes[..], &Device::Cpu).unwrap();
    check(
        "cross-entropy",
        &[noise(&[9, 5], 1, DType::F32)],
        1e-6,
        &|a| operators::cross_entropy::<Host>(&a[0], &tensor, 0.1),
        &|a| crate::cross_entropy(&a[0], &tensor, 0.1),
    );
    // Nobody has looked at them.
    let logits = Var::from_tensor(&noise(&[2, 5], 1, DType::F32)).unwrap();
    let classes = Tensor::new(&[4_u32, 5], &Device::Cpu).unwrap();
    let loss = operators::cross_entropy::<Host>(&logits, &classes, 0.0).unwrap();
    assert!(loss.to_scalar::<f32>().unwrap().is_nan());
    let slopes = crate::backward(&loss).unwrap().get(&logits).unwrap().to_vec2::<f32>().unwrap();
    assert!(slopes[0].iter().all(|v| v.is_finite()) && slopes[1].iter().all(|v| v.is_nan()));
}
