//! Each operator on a GPU against the same on the CPU: results and gradients. Skipped with a line
//! where there is no GPU, unless `PRETEXT_NEED_GPU` is set.

use candle_core::{DType, Device, Result, Tensor, Var};
use pretext_ops::channels_last::{self, Activation, FeatureMap, Running, Then};
use pretext_ops::{AvgPool, cuda};

fn gpu() -> Option<Device> {
    match cuda::device(0) {
        Ok(device) => Some(device),
        Err(error) => {
            assert!(std::env::var_os("PRETEXT_NEED_GPU").is_none(), "PRETEXT_NEED_GPU: {error}");
            #[expect(clippy::print_stderr, reason = "a skipped test says so")]
            {
                eprintln!("skipped: {error}");
            }
            None
        }
    }
}

/// Numbers between about -2 and 2 that repeat at no power of two.
fn noise(shape: &[usize], seed: usize) -> Tensor {
    let count: usize = shape.iter().product();
    let number = |i: usize| ((i * 7919 + seed * 104_729) % 1013) as f32 / 253.0 - 2.0;
    Tensor::from_vec((0..count).map(number).collect::<Vec<_>>(), shape, &Device::Cpu).unwrap()
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

#[track_caller]
fn close(what: &str, got: &Tensor, want: &Tensor, tolerance: f32) {
    assert_eq!((got.dims(), got.dtype()), (want.dims(), want.dtype()), "{what}");
    let (got, want) = (values(got), values(want));
    let most = want.iter().fold(1e-3_f32, |most, v| most.max(v.abs()));
    for (i, (got, want)) in got.iter().zip(&want).enumerate() {
        assert!((got - want).abs() <= tolerance * most, "{what}: {got} at {i}, not {want}");
    }
}

/// The operator's result and the gradients of its arguments.
fn run(
    device: &Device,
    arguments: &[Tensor],
    operator: &dyn Fn(&[Tensor]) -> Result<Tensor>,
) -> Result<Vec<Tensor>> {
    let moved = |tensor: &Tensor| Var::from_tensor(&tensor.to_device(device)?);
    let variables: Vec<Var> = arguments.iter().map(moved).collect::<Result<_>>()?;
    let tensors: Vec<Tensor> = variables.iter().map(|v| v.as_tensor().clone()).collect();
    let y = operator(&tensors)?;
    let dy = noise(y.dims(), 99).to_device(device)?;
    let loss = (y.to_dtype(DType::F32)? * dy)?.sum_all()?;
    let gradients = pretext_ops::backward(&loss)?;
    let mut all = vec![y];
    all.extend(variables.iter().filter_map(|v| gradients.get(v.as_tensor()).cloned()));
    assert_eq!(all.len(), arguments.len() + 1, "a gradient for each argument");
    all.iter().map(|tensor| tensor.to_device(&Device::Cpu)).collect()
}

/// Runs an operator on both, twice on the GPU: the second time must give the same bits.
#[track_caller]
fn check(
    gpu: &Device,
    what: &str,
    arguments: &[Tensor],
    tolerance: f32,
    operator: impl Fn(&[Tensor]) -> Result<Tensor>,
) {
    // The CPU has no f16: there it is the same numbers in f32.
    let wide = |t: &Tensor| {
        if t.dtype() == DType::F16 { t.to_dtype(DType::F32).unwrap() } else { t.clone() }
    };
    let here: Vec<Tensor> = arguments.iter().map(wide).collect();
    let want = run(&Device::Cpu, &here, &operator).unwrap();
    let got = run(gpu, arguments, &operator).unwrap();
    let narrow = want.iter().zip(&got).map(|(want, got)| want.to_dtype(got.dtype()).unwrap());
    let want: Vec<Tensor> = narrow.collect();
    for (argument, gradient) in arguments.iter().zip(&got[1..]) {
        assert_eq!(argument.dtype(), gradient.dtype(), "{what}");
    }
    let again = run(gpu, arguments, &operator).unwrap();
    for (i, (got, want)) in got.iter().zip(&want).enumerate() {
        close(&format!("{what}, {i}"), got, want, tolerance);
    }
    for (got, again) in got.iter().zip(&again) {
        assert_eq!(values(got), values(again), "{what}: another run gives other bits");
    }
}

/// The first argument, pictures, in a dtype.
fn pictures(shape: &[usize], dtype: DType) -> Tensor {
    noise(shape, 1).to_dtype(dtype).unwrap()
}

/// With how far the two may be apart, of the largest number. Sums of `f32` differ in their order. A `bf16`
/// is rounded by 2^-8 of itself at most: once where it is written, on both sides, and of what it is the sum
/// of, which is written in between; an `f16` by 2^-11.
const DTYPES: [(DType, f32); 3] =
    [(DType::F32, 1e-4), (DType::BF16, 4.0 / 256.0), (DType::F16, 4.0 / 1024.0)];

#[test]
fn convolutions() {
    let Some(gpu) = gpu() else { return };
    // Input, kernels, stride, padding: the shapes of networks, and odd ones.
    let shapes: [([usize; 4], [usize; 4], usize, usize); 6] = [
        ([2, 17, 15, 3], [32, 3, 3, 3], 2, 1),
        ([2, 9, 11, 32], [64, 32, 3, 3], 1, 1),
        ([3, 8, 8, 64], [128, 64, 1, 1], 1, 0),
        ([2, 7, 5, 24], [16, 24, 1, 1], 2, 0),
        ([1, 32, 32, 3], [64, 3, 7, 7], 2, 3),
        ([2, 5, 5, 5], [7, 5, 2, 3], 1, 1),
    ];
    for (input, kernels, stride, padding) in shapes {
        for (dtype, tolerance) in DTYPES {
            let what = format!("{input:?} {kernels:?} {stride} {padding} {dtype:?}");
            let window = (stride, padding);
            let (weight, bias) = (noise(&kernels, 2), noise(&[kernels[0]], 3));
            let x = pictures(&input, dtype);
            let none = [x.clone(), weight.clone()];
            check(&gpu, &format!("conv2d {what}"), &none, tolerance, |a| {
                channels_last::conv2d(&a[0], &a[1], None, stride, padding, Activation::Identity)
            });
            // The CPU adds the bias before it rounds; Mish has no edge for a rounding to cross.
            let exact = dtype == DType::F32;
            let activation = if exact { Activation::Relu } else { Activation::Mish };
            let biased = [x.clone(), weight.clone(), bias.clone()];
            check(&gpu, &format!("conv_bias {what}"), &biased, tolerance, |a| {
                let then = Then { residual: None, activation };
                let x = FeatureMap::from(&a[0]);
                channels_last::conv_bias(&x, &a[1], &a[2], window, then)?.tensor()
            });
            let normed = [x, weight, noise(&[kernels[0]], 4), bias];
            // Statistics divide what sums of `f32` are off by.
            let tolerance = if dtype == DType::F32 { 4.0 * tolerance } else { tolerance };
            check(&gpu, &format!("conv_norm {what}"), &normed, tolerance, |a| {
                let (x, norm) = (FeatureMap::from(&a[0]), (&a[2], &a[3]));
                let then = Then::default();
                channels_last::conv_norm(&x, &a[1], norm, window, then, 1e-5)?.y.tensor()
            });
        }
    }
    // A part of other pictures, an odd number of numbers from their beginning.
    for (dtype, tolerance) in DTYPES {
        let parts = [pictures(&[3, 7, 3, 5], dtype), noise(&[4, 5, 3, 3], 2)];
        check(&gpu, &format!("a part, {dtype:?}"), &parts, tolerance, |a| {
            let x = a[0].narrow(0, 1, 2)?;
            channels_last::conv2d(&x, &a[1], None, 1, 1, Activation::Identity)
        });
    }
    let plain = [noise(&[2, 6, 4, 5], 1), noise(&[3, 6, 1, 1], 2), noise(&[3], 3)];
    check(&gpu, "plain conv2d", &plain, 1e-4, |a| {
        pretext_ops::conv2d(&a[0], &a[1], Some(&a[2]), 1, 0)
    });
}

#[test]
fn normalisations() {
    let Some(gpu) = gpu() else { return };
    for (dtype, tolerance) in DTYPES {
        for activation in [Activation::Identity, Activation::Relu, Activation::Mish] {
            for channels in [17, 24] {
                let shape = [5, 31, 29, channels];
                let residual = noise(&shape, 4).to_dtype(dtype).unwrap();
                let x = pictures(&shape, dtype);
                let arguments = [x, noise(&[channels], 2), noise(&[channels], 3), residual];
                let what = format!("{channels} {dtype:?} {activation:?}");
                check(&gpu, &format!("batch_norm {what}"), &arguments, tolerance, |a| {
                    let then = Then { residual: Some(&a[3]), activation };
                    Ok(channels_last::batch_norm(&a[0], &a[1], &a[2], then, 1e-5)?.y)
                });
                check(&gpu, &format!("batch_norm_eval {what}"), &arguments, tolerance, |a| {
                    let then = Then { residual: Some(&a[3]), activation };
                    let running = (noise(&[channels], 5), noise(&[channels], 6).sqr()?);
                    let mean = running.0.to_device(a[0].device())?;
                    let variance = running.1.to_device(a[0].device())?;
                    let affine = (&a[1], &a[2]);
                    channels_last::batch_norm_eval(&a[0], affine, (&mean, &variance), then, 1e-5)
                });
            }
        }
    }
    let statistics = |device: &Device| {
        let x = noise(&[4, 9, 9, 6], 1).to_device(device).unwrap();
        let ones = Tensor::ones(6, DType::F32, device).unwrap();
        let out = channels_last::batch_norm(&x, &ones, &ones, Then::default(), 1e-5).unwrap();
        [out.mean, out.variance].map(|tensor| tensor.to_device(&Device::Cpu).unwrap())
    };
    for (got, want) in statistics(&gpu).iter().zip(&statistics(&Device::Cpu)) {
        close("statistics", got, want, 1e-5);
    }
}

#[test]
fn rows() {
    let Some(gpu) = gpu() else { return };
    for ((dtype, tolerance), channels) in DTYPES.into_iter().flat_map(|of| [(of, 33), (of, 64)]) {
        let arguments =
            [pictures(&[7, 300, channels], dtype), noise(&[channels], 2), noise(&[channels], 3)];
        check(&gpu, &format!("layer_norm {channels} {dtype:?}"), &arguments, tolerance, |a| {
            // The CPU's takes f32 and f64.
            let x = if a[0].device().is_cpu() { a[0].to_dtype(DType::F32)? } else { a[0].clone() };
            pretext_ops::layer_norm(&x, &a[1], &a[2], 1e-5)?.to_dtype(a[0].dtype())
        });
    }
}

/// Two layers and a sum of gradients, and the statistics that follow.
#[test]
fn a_residual_block() {
    let Some(gpu) = gpu() else { return };
    for (dtype, tolerance) in DTYPES {
        let weight = |seed| (noise(&[16, 16, 3, 3], seed) * 0.1).unwrap();
        let arguments = [
            pictures(&[3, 9, 7, 16], dtype),
            weight(2),
            weight(3),
            noise(&[16], 4),
            noise(&[16], 5),
        ];
        // What is summed, and what is written, of two layers; Mish has no edge for a rounding to cross.
        check(&gpu, &format!("block {dtype:?}"), &arguments, 4.0 * tolerance, |a| {
            let statistics =
                [6, 7].map(|seed| Var::from_tensor(&noise(&[16], seed).to_device(a[0].device())?));
            let [mean, variance] = statistics;
            let (mean, variance) = (mean?, variance?);
            let running = Running { mean: &mean, variance: &variance, momentum: 0.1 };
            let (x, norm) = (FeatureMap::from(&a[0]), (&a[3], &a[4]));
            let layer = |x: &FeatureMap, weight, residual| {
                let then = Then { residual, activation: Activation::Mish };
                channels_last::conv_norm_following(x, weight, norm, (1, 1), then, 1e-5, running)
            };
            let y = layer(&x, &a[1], None)?;
            let y = layer(&y, &a[2], Some(&y))?.tensor()?;
            y.broadcast_add(
                &(mean.as_detached_tensor() + variance.as_detached_tensor())?
                    .to_dtype(y.dtype())?,
            )
        });
    }
}

#[test]
fn pixels() {
    let Some(gpu) = gpu() else { return };
    // Channels of a number at a time and of sixteen bytes.
    for ((dtype, _), channels) in DTYPES.into_iter().flat_map(|of| [(of, 12), (of, 32)]) {
        let one = [pictures(&[2, 7, 9, channels], dtype)];
        // The same terms in the same order; of f16 the CPU's are rounded elsewhere.
        let tolerance = if dtype == DType::F16 { 2.0 / 1024.0 } else { 1e-6 };
        let check = |what: &str, operator: &dyn Fn(&FeatureMap) -> Result<Tensor>| {
            let what = format!("{what} {channels} {dtype:?}");
            check(&gpu, &what, &one, tolerance, |a| operator(&FeatureMap::from(&a[0])));
        };
        check("max", &|x| channels_last::max_pool2d(x, 3, 2, 1)?.tensor());
        let ceil = AvgPool { ceil_mode: true, ..AvgPool::default() };
        check("avg", &|x| channels_last::avg_pool2d(x, 2, 2, 0, ceil)?.tensor());
        check("blur", &|x| channels_last::blur_pool2d(x, 3, 2)?.tensor());
        check("replicate", &|x| channels_last::replicate_blur2d(x)?.tensor());
        check("nearest", &|x| channels_last::upsample_nearest2d(x, 14, 17)?.tensor());
        check("mean", &channels_last::global_avg_pool2d);
        check("shuffle", &|x| channels_last::pixel_shuffle(x, 2)?.tensor());
        check("turned", &|x| channels_last::channels_first(&x.tensor()?));
        check("relu", &|x| pretext_ops::relu(&x.tensor()?));
        let other = noise(&[2, 7, 9, channels - 8], 2).to_dtype(dtype).unwrap();
        let both = [pictures(&[2, 7, 9, channels], dtype), other];
        self::check(&gpu, "concat", &both, tolerance, |a| {
            let (a, b) = (FeatureMap::from(&a[0]), FeatureMap::from(&a[1]));
            channels_last::concat(&a, &b, Activation::Relu)?.tensor()
        });
    }
    for (dtype, tolerance) in DTYPES {
        let one = [pictures(&[999], dtype)];
        check(&gpu, "mish", &one, tolerance, |a| pretext_ops::mish(&a[0]));
    }
}

#[test]
fn heads_and_losses() {
    let Some(gpu) = gpu() else { return };
    let linear = [noise(&[33, 40], 1), noise(&[10, 40], 2), noise(&[10], 3)];
    check(&gpu, "linear", &linear, 1e-5, |a| pretext_ops::linear(&a[0], &a[1], Some(&a[2])));
    let two = [noise(&[5, 3, 60, 61], 1), noise(&[5, 3, 60, 61], 2)];
    check(&gpu, "mse", &two, 1e-6, |a| pretext_ops::mse_loss(&a[0], &a[1]));
    check(&gpu, "l1", &two, 1e-6, |a| pretext_ops::l1_loss(&a[0], &a[1]));
    let classes: Vec<u32> = (0..130).map(|i| i * 7 % 24).collect();
    let classes = Tensor::new(&classes[..], &Device::Cpu).unwrap();
    for smoothing in [0.0, 0.1] {
        check(&gpu, "cross_entropy", &[noise(&[130, 24], 1)], 1e-5, |a| {
            pretext_ops::cross_entropy(&a[0], &classes, smoothing)
        });
        check(&gpu, "cross_entropy, classes beside", &[noise(&[130, 24], 1)], 1e-5, |a| {
            pretext_ops::cross_entropy(&a[0], &classes.to_device(a[0].device())?, smoothing)
        });
    }
}

#[test]
fn without_a_gpu_there_is_one_line() {
    let Err(error) = cuda::devices() else { return };
    let error = error.to_string();
    assert_eq!(error.lines().count(), 1, "{error}");
    assert!(error.contains("GPU"), "{error}");
    assert_eq!(cuda::device(0).unwrap_err().to_string(), error);
}
