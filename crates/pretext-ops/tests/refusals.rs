//! What does not fit is an error that names it, and an empty batch is right or an error.

mod support;

use candle_core::{DType, Device, Result, Tensor};
use pretext_ops::{
    AvgPool, avg_pool2d, batch_norm, batch_norm_eval, blur_pool2d, conv2d, cross_entropy,
    global_avg_pool2d, l1_loss, layer_norm, linear, max_pool2d, mish, mse_loss, pixel_shuffle,
    relu, replicate_blur2d, upsample_bilinear2d, upsample_nearest2d,
};
use support::{flat, gradients};

const CEIL: AvgPool = AvgPool { ceil_mode: true, count_include_pad: true };
const HUGE: usize = usize::MAX;

fn zeros(dims: &[usize]) -> Tensor {
    Tensor::zeros(dims, DType::F64, &Device::Cpu).unwrap()
}

fn classes(values: &[u32]) -> Tensor {
    Tensor::new(values, &Device::Cpu).unwrap()
}

/// Checks that a call is refused with one line that begins with the operator's name and holds
/// `words`.
#[track_caller]
fn check(operator: &str, result: Result<Tensor>, words: &[&str]) {
    let error = result.expect_err(operator).to_string();
    // candle adds a backtrace where it is told to.
    let line = error.lines().next().unwrap_or_default();
    assert!(line.starts_with(&format!("{operator}: ")), "{line:?} does not name {operator}");
    for word in words {
        assert!(line.contains(word), "{line:?} does not say {word:?}");
    }
}

#[test]
fn conv2d_refuses() {
    let (x, weight, bias) = (zeros(&[2, 3, 5, 4]), zeros(&[6, 3, 3, 3]), zeros(&[6]));
    let refused =
        |x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, stride, padding, words: &[&str]| {
            check("conv2d", conv2d(x, weight, bias, stride, padding), words);
        };
    refused(&zeros(&[3, 5, 4]), &weight, None, 1, 0, &["[3, 5, 4]", "[N, C, H, W]"]);
    refused(&x, &zeros(&[6, 3, 3]), None, 1, 0, &["weight", "[6, 3, 3]", "[O, C, K, L]"]);
    refused(&x, &zeros(&[6, 4, 3, 3]), None, 1, 0, &["3 channels", "[6, 4, 3, 3]"]);
    refused(&x, &weight, Some(&zeros(&[5])), 1, 0, &["bias", "[5]", "[6, 3, 3, 3]"]);
    refused(&x, &weight, Some(&zeros(&[6, 1])), 1, 0, &["bias", "[6, 1]"]);
    refused(&x, &weight, Some(&bias), 0, 0, &["stride is 0"]);
    refused(&x, &zeros(&[6, 3, 0, 3]), None, 1, 0, &["kernel 0 x 3"]);
    refused(&x, &zeros(&[6, 3, 7, 5]), None, 1, 0, &["kernel 7 x 5", "input 5 x 4"]);
    refused(&x, &zeros(&[6, 3, 8, 8]), None, 1, 1, &["kernel 8 x 8", "padded by 1"]);
    refused(&x, &weight, None, HUGE, 0, &["stride"]);
    refused(&x, &weight, None, 1, HUGE / 2, &["padding"]);
    let pixels = zeros(&[9, 9]).broadcast_as((1 << 20, 3, 9, 9)).unwrap();
    refused(&pixels, &weight, None, 1, 1 << 24, &["too large", "1048576"]);
    let halves = weight.to_dtype(DType::F32).unwrap();
    refused(&x, &halves, None, 1, 0, &["F64", "F32", "differ"]);
    refused(&x, &weight, Some(&bias.to_dtype(DType::F32).unwrap()), 1, 0, &["F64", "F32"]);
    refused(&x.to_dtype(DType::U8).unwrap(), &weight, None, 1, 0, &["U8", "f32 or f64"]);
    refused(&x, &weight.to_dtype(DType::I64).unwrap(), None, 1, 0, &["I64", "f32 or f64"]);
    refused(&x.to_dtype(DType::BF16).unwrap(), &weight, None, 1, 0, &["BF16", "f32 or f64"]);
}

#[test]
fn linear_refuses() {
    let (x, weight) = (zeros(&[2, 3]), zeros(&[5, 3]));
    let refused = |x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, words: &[&str]| {
        check("linear", linear(x, weight, bias), words);
    };
    refused(&zeros(&[2, 3, 1]), &weight, None, &["[2, 3, 1]", "[N, I]"]);
    refused(&x, &zeros(&[5]), None, &["weight [5]", "[O, I]"]);
    refused(&x, &zeros(&[3, 5]), None, &["input is [2, 3]", "weight [3, 5]"]);
    refused(&x, &weight, Some(&zeros(&[3])), &["bias is [3]"]);
    refused(&x, &weight, Some(&zeros(&[5]).to_dtype(DType::F32).unwrap()), &["F64", "F32"]);
    refused(&x.to_dtype(DType::U32).unwrap(), &weight, None, &["U32", "f32 or f64"]);
}

#[test]
fn layer_norm_refuses() {
    let (x, c) = (zeros(&[2, 3, 4]), zeros(&[4]));
    let refused = |x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64, words: &[&str]| {
        check("layer_norm", layer_norm(x, weight, bias, eps), words);
    };
    refused(&x, &zeros(&[3]), &c, 1e-5, &["[2, 3, 4]", "[3]"]);
    refused(&x, &c, &zeros(&[1, 4]), 1e-5, &["[2, 3, 4]", "[1, 4]"]);
    refused(&zeros(&[2, 0]), &zeros(&[0]), &zeros(&[0]), 1e-5, &["[2, 0]", "[.., C]"]);
    refused(&zeros(&[]), &c, &c, 1e-5, &["[]", "[.., C]"]);
    refused(&x, &c, &c, -1.0, &["eps is -1"]);
    refused(&x, &c.to_dtype(DType::F32).unwrap(), &c, 1e-5, &["F64", "F32"]);
    let [narrow, one] = [(&x, DType::BF16), (&c, DType::F32)].map(|(t, d)| t.to_dtype(d).unwrap());
    refused(&narrow, &one, &one, 1e-5, &["BF16", "f32 or f64"]);
    assert_eq!(layer_norm(&zeros(&[0, 4]), &c, &c, 1e-5).unwrap().dims(), [0, 4]);
}

#[test]
fn batch_norm_refuses() {
    let (x, c, d) = (zeros(&[2, 3, 5, 4]), zeros(&[3]), zeros(&[4]));
    let refused = |x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64, words: &[&str]| {
        check("batch_norm", batch_norm(x, weight, bias, eps).map(|out| out.y), words);
        let eval = batch_norm_eval(x, weight, bias, weight, bias, eps);
        check("batch_norm", eval, words);
    };
    refused(&zeros(&[2, 3]), &c, &c, 1e-5, &["[2, 3]", "[N, C, H, W]"]);
    refused(&x, &d, &c, 1e-5, &["[2, 3, 5, 4]", "[4]"]);
    refused(&x, &c, &d, 1e-5, &["[2, 3, 5, 4]", "[4]"]);
    refused(&x, &zeros(&[3, 1]), &c, 1e-5, &["[3, 1]"]);
    refused(&x, &c, &c, -1.0, &["eps is -1"]);
    refused(&x, &c, &c, f64::NAN, &["eps is NaN"]);
    refused(&x.to_dtype(DType::U8).unwrap(), &c, &c, 1e-5, &["U8", "f32 or f64"]);
    refused(&x, &c.to_dtype(DType::F32).unwrap(), &c, 1e-5, &["F64", "F32"]);
    for (mean, variance) in [(&d, &c), (&c, &d)] {
        check("batch_norm", batch_norm_eval(&x, &c, &c, mean, variance, 1e-5), &["[4]"]);
    }
    // One value a channel has no variance; PyTorch refuses too.
    let single = batch_norm(&zeros(&[1, 3, 1, 1]), &c, &c, 1e-5).map(|out| out.y);
    check("batch_norm", single, &["[1, 3, 1, 1]", "1 values a channel"]);
    let none = batch_norm(&zeros(&[0, 3, 5, 4]), &c, &c, 1e-5).map(|out| out.y);
    check("batch_norm", none, &["[0, 3, 5, 4]", "0 values a channel"]);
}

type Planes = fn(&Tensor) -> Result<Tensor>;

/// Operators of `[N, C, H, W]` alone.
const PLANES: &[(&str, Planes)] = &[
    ("max_pool2d", |x| max_pool2d(x, 3, 2, 1)),
    ("avg_pool2d", |x| avg_pool2d(x, 3, 2, 1, AvgPool::default())),
    ("avg_pool2d", |x| avg_pool2d(x, 3, 2, 1, CEIL)),
    ("global_avg_pool2d", global_avg_pool2d),
    ("blur_pool2d", |x| blur_pool2d(x, 3, 2)),
    ("replicate_blur2d", replicate_blur2d),
    ("upsample_nearest2d", |x| upsample_nearest2d(x, 7, 9)),
    ("upsample_bilinear2d", |x| upsample_bilinear2d(x, 7, 9)),
];

#[test]
fn planes_are_refused() {
    for (operator, f) in PLANES {
        check(operator, f(&zeros(&[3, 5, 4])), &["[3, 5, 4]", "[N, C, H, W]"]);
        check(
            operator,
            f(&zeros(&[2, 3, 5, 4]).to_dtype(DType::U8).unwrap()),
            &["U8", "f32 or f64"],
        );
        for empty in [[2, 3, 0, 4], [2, 3, 5, 0]] {
            check(operator, f(&zeros(&empty)), &["0"]);
        }
    }
    for f in [relu, mish] {
        let error = f(&zeros(&[2]).to_dtype(DType::I64).unwrap()).unwrap_err().to_string();
        assert!(error.contains("I64") && error.contains("f32 or f64"), "{error}");
    }
}

#[test]
fn windows_are_refused() {
    let x = zeros(&[1, 1, 5, 4]);
    for (kernel, stride, padding, words) in [
        (0, 1, 0, &["kernel is 0"][..]),
        (2, 0, 0, &["stride 0"]),
        (5, 1, 0, &["kernel 5", "input 5 x 4", "padded by 0"]),
        (9, 1, 2, &["kernel 9", "input 5 x 4", "padded by 2"]),
        (3, 1, 2, &["padding 2", "half the kernel 3"]),
        (3, 1, HUGE, &["padding", "half"]),
        (HUGE, 1, 0, &["kernel"]),
        (2, HUGE, 0, &["stride"]),
    ] {
        check("max_pool2d", max_pool2d(&x, kernel, stride, padding), words);
        for options in [AvgPool::default(), CEIL] {
            check("avg_pool2d", avg_pool2d(&x, kernel, stride, padding, options), words);
        }
    }
    for (kernel, stride) in [(0, 1), (16, 1), (HUGE, 1), (3, 0), (3, HUGE)] {
        let words: &[&str] = if kernel == 3 { &["stride"] } else { &["kernel is"] };
        check("blur_pool2d", blur_pool2d(&x, kernel, stride), words);
    }
    for (height, width) in [(0, 3), (3, 0), (HUGE, 2), (HUGE, HUGE)] {
        let size = height.to_string();
        let words: &[&str] = &[&size];
        check("upsample_nearest2d", upsample_nearest2d(&x, height, width), words);
        check("upsample_bilinear2d", upsample_bilinear2d(&x, height, width), words);
    }
    for (channels, factor) in [(4, 0), (4, 3), (6, 2), (4, HUGE)] {
        let shuffled = pixel_shuffle(&zeros(&[1, channels, 2, 2]), factor);
        check("pixel_shuffle", shuffled, &["channels", &factor.to_string()]);
    }
    check("pixel_shuffle", pixel_shuffle(&zeros(&[4, 2, 2]), 2), &["[4, 2, 2]"]);
    let whole = zeros(&[1, 4, 2, 2]).to_dtype(DType::I64).unwrap();
    check("pixel_shuffle", pixel_shuffle(&whole, 2), &["I64", "f32 or f64"]);
}

#[test]
fn losses_refuse() {
    let logits = zeros(&[2, 3]);
    let refused = |logits: &Tensor, classes: &Tensor, smoothing: f64, words: &[&str]| {
        check("cross_entropy", cross_entropy(logits, classes, smoothing), words);
    };
    refused(&zeros(&[2, 3, 1]), &classes(&[0, 1]), 0.0, &["[2, 3, 1]", "[N, K]"]);
    refused(&logits, &classes(&[0, 1, 2]), 0.0, &["classes", "[3]", "[2]"]);
    refused(&logits, &classes(&[0, 3]), 0.0, &["class 3", "3 logits"]);
    refused(&logits, &classes(&[u32::MAX, 0]), 0.0, &["class 4294967295"]);
    refused(&logits, &classes(&[0, 1]).to_dtype(DType::I64).unwrap(), 0.0, &["I64", "u32"]);
    refused(&logits.to_dtype(DType::U32).unwrap(), &classes(&[0, 1]), 0.0, &["U32", "f32 or f64"]);
    refused(&zeros(&[2, 0]), &classes(&[0, 0]), 0.0, &["class 0", "0 logits"]);
    for smoothing in [-0.1, 1.1, f64::NAN] {
        refused(&logits, &classes(&[0, 1]), smoothing, &["smoothing"]);
    }
    for (operator, loss) in
        [("mse_loss", mse_loss as fn(&Tensor, &Tensor) -> Result<Tensor>), ("l1_loss", l1_loss)]
    {
        check(operator, loss(&logits, &zeros(&[3, 2])), &["[2, 3]", "[3, 2]"]);
        check(operator, loss(&logits, &zeros(&[3])), &["[2, 3]", "[3]"]);
        check(operator, loss(&logits, &logits.to_dtype(DType::F32).unwrap()), &["F64", "F32"]);
        let whole = logits.to_dtype(DType::U8).unwrap();
        check(operator, loss(&whole, &whole), &["U8", "f32 or f64"]);
    }
}

#[test]
fn means_of_empty_batches_are_refused() {
    let empty = zeros(&[0, 3]);
    check("cross_entropy", cross_entropy(&empty, &classes(&[]), 0.0), &["empty"]);
    check("mse_loss", mse_loss(&empty, &empty), &["no elements"]);
    check("l1_loss", l1_loss(&empty, &empty), &["no elements"]);
}

/// Everything else makes an empty batch of an empty batch, and its gradients are 0.
#[test]
fn empty_batches_pass() -> Result<()> {
    let check = |inputs: &[Tensor], dims: &[usize], f: &dyn Fn(&[Tensor]) -> Result<Tensor>| {
        let (y, gradients) = gradients(inputs, f)?;
        assert_eq!(y.dims(), dims);
        // candle's sum of empty tensors forgets the second one: a bias may get no gradient at all,
        // which is the same to an optimiser.
        assert!(gradients.iter().take(2).all(Option::is_some));
        for (input, gradient) in inputs.iter().zip(&gradients) {
            let Some(gradient) = gradient else { continue };
            assert_eq!(gradient.dims(), input.dims());
            assert!(flat(gradient).iter().all(|&g| g == 0.0));
        }
        Ok::<(), candle_core::Error>(())
    };
    let x = zeros(&[0, 4, 5, 4]);
    let (weight, bias) = (zeros(&[6, 4, 3, 3]), zeros(&[6]));
    check(&[x.clone(), weight, bias.clone()], &[0, 6, 3, 2], &|t| {
        conv2d(&t[0], &t[1], Some(&t[2]), 2, 1)
    })?;
    check(&[zeros(&[0, 3]), zeros(&[6, 3]), bias], &[0, 6], &|t| {
        linear(&t[0], &t[1], Some(&t[2]))
    })?;
    let c = zeros(&[4]);
    check(&[x.clone(), c.clone(), c.clone()], x.dims(), &|t| {
        batch_norm_eval(&t[0], &t[1], &t[2], &c, &c, 1e-5)
    })?;
    let x = [x];
    check(&x, &[0, 4, 3, 2], &|t| max_pool2d(&t[0], 3, 2, 1))?;
    check(&x, &[0, 4, 3, 2], &|t| avg_pool2d(&t[0], 3, 2, 1, AvgPool::default()))?;
    check(&x, &[0, 4], &|t| global_avg_pool2d(&t[0]))?;
    check(&x, &[0, 4, 3, 2], &|t| blur_pool2d(&t[0], 3, 2))?;
    check(&x, &[0, 4, 5, 4], &|t| replicate_blur2d(&t[0]))?;
    check(&x, &[0, 4, 7, 9], &|t| upsample_nearest2d(&t[0], 7, 9))?;
    check(&x, &[0, 4, 7, 9], &|t| upsample_bilinear2d(&t[0], 7, 9))?;
    check(&x, &[0, 1, 10, 8], &|t| pixel_shuffle(&t[0], 2))?;
    check(&x, &[0, 4, 5, 4], &|t| relu(&t[0]))?;
    check(&x, &[0, 4, 5, 4], &|t| mish(&t[0]))
}
