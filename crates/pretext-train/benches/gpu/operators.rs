//! Operators of networks, forward and backward, in `bf16`; linear layers in `f32`, as heads are.
//!
//! Bytes and operations are those of the operator. Time is of the graph's node: candle adds each gradient
//! of a picture to zeros, which is counted as time and not as bytes.

use candle_core::{DType, Device, Result, Tensor, Var};
use pretext_ops::channels_last::{self, Activation, FeatureMap, Then};
use pretext_ops::{AvgPool, cross_entropy, mse_loss};

use super::timing::Case;

/// Pictures of a batch.
const BATCH: usize = 256;
/// Bytes of a `bf16`.
const HALF: usize = 2;

type Operator = fn(&[Tensor]) -> Result<Tensor>;

/// A layer on `[N, 32, 32, 64]`, and the memory that passes through it.
struct Layer {
    name: &'static str,
    /// Numbers read and written, in multiples of the input's.
    forward: f64,
    backward: f64,
    /// Whether it has a residual or another picture beside the first.
    two: bool,
    operator: Operator,
}

fn then(a: &[Tensor], activation: Activation) -> Then<'_> {
    Then { residual: a.get(1), activation }
}

fn norm(a: &[Tensor]) -> Result<Tensor> {
    let one = Tensor::ones(CHANNELS, DType::F32, a[0].device())?;
    let y = channels_last::batch_norm(&a[0], &one, &one, then(a, Activation::Relu), 1e-5)?;
    Ok(y.y)
}

const SIDE: usize = 32;
const CHANNELS: usize = 64;

const LAYERS: &[Layer] = &[
    Layer {
        name: "relu",
        forward: 2.0,
        backward: 3.0,
        two: false,
        operator: |a| pretext_ops::relu(&a[0]),
    },
    Layer {
        name: "mish",
        forward: 2.0,
        backward: 3.0,
        two: false,
        operator: |a| pretext_ops::mish(&a[0]),
    },
    Layer { name: "batch norm, relu", forward: 3.0, backward: 5.0, two: false, operator: norm },
    Layer {
        name: "batch norm, residual, relu",
        forward: 4.0,
        backward: 8.0,
        two: true,
        operator: norm,
    },
    Layer {
        name: "max pool 3, stride 2",
        forward: 1.25,
        backward: 2.25,
        two: false,
        operator: |a| channels_last::max_pool2d(&FeatureMap::from(&a[0]), 3, 2, 1)?.tensor(),
    },
    Layer {
        name: "average pool 2",
        forward: 1.25,
        backward: 1.25,
        two: false,
        operator: |a| {
            channels_last::avg_pool2d(&FeatureMap::from(&a[0]), 2, 2, 0, AvgPool::default())?
                .tensor()
        },
    },
    Layer {
        name: "blur pool 3, stride 2",
        forward: 1.25,
        backward: 1.25,
        two: false,
        operator: |a| channels_last::blur_pool2d(&FeatureMap::from(&a[0]), 3, 2)?.tensor(),
    },
    Layer {
        name: "replicate blur",
        forward: 2.0,
        backward: 2.0,
        two: false,
        operator: |a| channels_last::replicate_blur2d(&FeatureMap::from(&a[0]))?.tensor(),
    },
    Layer {
        name: "upsample 2",
        forward: 5.0,
        backward: 5.0,
        two: false,
        operator: |a| {
            channels_last::upsample_nearest2d(&FeatureMap::from(&a[0]), 2 * SIDE, 2 * SIDE)?
                .tensor()
        },
    },
    Layer {
        name: "pixel shuffle 2",
        forward: 2.0,
        backward: 2.0,
        two: false,
        operator: |a| channels_last::pixel_shuffle(&FeatureMap::from(&a[0]), 2)?.tensor(),
    },
    Layer {
        name: "global average",
        forward: 1.0,
        backward: 1.0,
        two: false,
        operator: |a| channels_last::global_avg_pool2d(&FeatureMap::from(&a[0])),
    },
    Layer {
        name: "concat, relu",
        forward: 4.0,
        backward: 6.0,
        two: true,
        operator: |a| {
            let (a, b) = (FeatureMap::from(&a[0]), FeatureMap::from(&a[1]));
            channels_last::concat(&a, &b, Activation::Relu)?.tensor()
        },
    },
];

/// A convolution of ResNets on pictures of 128 px: side of its input, channels in and out, kernel, stride.
const CONVOLUTIONS: &[(usize, usize, usize, usize, usize)] = &[
    (128, 3, 64, 7, 2),
    (32, 64, 64, 3, 1),
    (16, 128, 128, 3, 1),
    (8, 256, 256, 3, 1),
    (4, 512, 512, 3, 1),
    (32, 64, 128, 3, 2),
    (32, 64, 256, 1, 1),
    (32, 256, 64, 1, 1),
    (8, 1024, 256, 1, 1),
];

/// A linear layer: rows, numbers in and out. The first is a head of ImageNet's.
const LINEAR: &[(usize, usize, usize)] = &[(256, 2048, 1000), (8192, 1024, 4096)];

pub(crate) fn all(device: &Device) -> Vec<Result<Case>> {
    let mut cases = vec![];
    for layer in LAYERS {
        for backward in [false, true] {
            cases.push(of_layer(device, layer, backward));
        }
    }
    for &shape in CONVOLUTIONS {
        for product in ["forward", "input gradient", "weight gradient"] {
            // A network's pictures need no gradient.
            if !(shape.1 == 3 && product == "input gradient") {
                cases.push(convolution(device, shape, product));
            }
        }
    }
    for shape in LINEAR {
        for product in ["forward", "input gradient", "weight gradient"] {
            cases.push(linear(device, *shape, product));
        }
    }
    for backward in [false, true] {
        cases.push(loss(device, "mean squared error", backward, |a| mse_loss(&a[0], &a[1])));
        cases.push(loss(device, "cross-entropy of 1000 classes", backward, |a| {
            let classes: Vec<u32> = (0..a[0].dim(0)? as u32).map(|i| i % 1000).collect();
            cross_entropy(&a[0], &Tensor::new(classes, &Device::Cpu)?, 0.1)
        }));
    }
    cases
}

/// Numbers between -2 and 2.
fn noise(shape: &[usize], dtype: DType, device: &Device) -> Result<Var> {
    let count: usize = shape.iter().product();
    let number = |i: usize| ((i * 7919) % 1013) as f32 / 253.0 - 2.0;
    let values = Tensor::from_iter((0..count).map(number), device)?;
    Var::from_tensor(&values.reshape(shape)?.to_dtype(dtype)?)
}

/// Times an operator, or the backward pass through it.
fn timed(case: Case, arguments: Vec<Tensor>, operator: Operator, backward: bool) -> Case {
    if backward {
        return case.launches(move || operator(&arguments), |y| pretext_ops::backward(y).map(drop));
    }
    let first = arguments[0].clone();
    case.launches(move || Ok(first.clone()), move |_| operator(&arguments).map(drop))
}

fn title(name: &str, backward: bool) -> String {
    format!("{name}{}", if backward { ", backward" } else { "" })
}

fn of_layer(device: &Device, layer: &Layer, backward: bool) -> Result<Case> {
    let shape = [BATCH, SIDE, SIDE, CHANNELS];
    let count = if layer.two { 2 } else { 1 };
    let arguments: Vec<Tensor> = (0..count)
        .map(|_| Ok(noise(&shape, DType::BF16, device)?.as_tensor().clone()))
        .collect::<Result<_>>()?;
    let numbers = arguments[0].elem_count() as f64;
    let passes = if backward { layer.backward } else { layer.forward };
    let case = Case::new("operator", title(layer.name, backward))
        .bytes((passes * numbers) as usize * HALF);
    Ok(timed(case, arguments, layer.operator, backward))
}

fn convolution(
    device: &Device,
    (side, inputs, outputs, kernel, stride): (usize, usize, usize, usize, usize),
    product: &'static str,
) -> Result<Case> {
    let x = noise(&[BATCH, side, side, inputs], DType::BF16, device)?;
    let weight = noise(&[outputs, inputs, kernel, kernel], DType::F32, device)?;
    let out = (side + 2 * (kernel / 2) - kernel) / stride + 1;
    let terms = BATCH * out * out * outputs * inputs * kernel * kernel;
    let numbers = x.elem_count() + BATCH * out * out * outputs + weight.elem_count();
    let name = format!("{kernel}x{kernel}/{stride}, {inputs} to {outputs}, {side} px, {product}");
    let case = Case::new("product", name).operations(2.0 * terms as f64).bytes(HALF * numbers);
    // Whoever is no variable gets no gradient.
    let (x, weight) = match product {
        "weight gradient" => (x.as_detached_tensor(), weight.as_tensor().clone()),
        _ => (x.as_tensor().clone(), weight.as_detached_tensor()),
    };
    let operator = move |x: &Tensor, weight: &Tensor| {
        channels_last::conv2d(x, weight, None, stride, kernel / 2, Activation::Identity)
    };
    Ok(match product {
        "forward" => case.launches(move || Ok(x.clone()), move |x| operator(x, &weight).map(drop)),
        _ => case.launches(move || operator(&x, &weight), |y| pretext_ops::backward(y).map(drop)),
    })
}

fn linear(
    device: &Device,
    (rows, inputs, outputs): (usize, usize, usize),
    product: &'static str,
) -> Result<Case> {
    let x = noise(&[rows, inputs], DType::F32, device)?;
    let weight = noise(&[outputs, inputs], DType::F32, device)?;
    let numbers = rows * inputs + rows * outputs + inputs * outputs;
    let case = Case::new("product", format!("linear, {rows}: {inputs} to {outputs}, {product}"))
        .operations(2.0 * (rows * inputs * outputs) as f64)
        .bytes(DType::F32.size_in_bytes() * numbers);
    // Whoever is no variable gets no gradient.
    let (x, weight) = match product {
        "weight gradient" => (x.as_detached_tensor(), weight.as_tensor().clone()),
        _ => (x.as_tensor().clone(), weight.as_detached_tensor()),
    };
    Ok(match product {
        "forward" => case.launches(
            move || Ok(x.clone()),
            move |x| pretext_ops::linear(x, &weight, None).map(drop),
        ),
        _ => case.launches(
            move || pretext_ops::linear(&x, &weight, None),
            |y| pretext_ops::backward(y).map(drop),
        ),
    })
}

fn loss(device: &Device, name: &str, backward: bool, operator: Operator) -> Result<Case> {
    let shape = [16_384, 1000];
    let prediction = noise(&shape, DType::F32, device)?.as_tensor().clone();
    let numbers = prediction.elem_count() * DType::F32.size_in_bytes();
    let squares = name == "mean squared error";
    let arguments = if squares {
        let target = noise(&shape, DType::F32, device)?.as_detached_tensor();
        vec![prediction, target]
    } else {
        vec![prediction]
    };
    let streams = match (squares, backward) {
        (true, false) | (false, true) => 2,
        (true, true) => 3,
        (false, false) => 1,
    };
    let case = Case::new("operator", title(name, backward)).bytes(streams * numbers);
    Ok(timed(case, arguments, operator, backward))
}
