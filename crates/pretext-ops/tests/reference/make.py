"""Writes vectors.safetensors: PyTorch's results and gradients of every operator, in f64.

    python make.py

A case is named after its operator and arguments, "conv2d padding=1 stride=2", so that the test can
call the same; what follows "#" only tells cases apart. Its tensors are "<case>/<input>", "<case>/y"
(further results "<case>/<name>") and "<case>/gradient/<input>": the gradients of sum(y * w), where
element i of w, row by row, is (7 i mod 11 - 5) / 4.

Needs torch, numpy and safetensors. The committed file was made with torch 2.15.
"""

from pathlib import Path

import numpy
import torch
import torch.nn.functional as F
from safetensors.numpy import save_file

torch.manual_seed(0)
torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)

tensors = {}


def case(name, operator, inputs, constants=None, results=()):
    """Runs `operator` on `inputs`, whose gradients are wanted, and `constants`."""
    constants = constants or {}
    assert f"{name}/y" not in tensors, name
    inputs = {key: value.detach().clone().requires_grad_() for key, value in inputs.items()}
    y = operator(*inputs.values(), *constants.values())
    extra = {}
    if results:
        y, *rest = y
        extra = dict(zip(results, rest, strict=True))
    weights = (torch.arange(y.numel()) * 7 % 11 - 5) / 4
    (y * weights.reshape(y.shape)).sum().backward()
    for key, value in {**inputs, **constants, **extra, "y": y}.items():
        tensors[f"{name}/{key}"] = value.detach()
    for key, value in inputs.items():
        tensors[f"{name}/gradient/{key}"] = value.grad


def ties(*shape):
    """Whole numbers from -2 to 2: many equal maxima, zeros and ties."""
    return torch.randint(-2, 3, shape).double()


def conv2d(shape, out, kernel, stride, padding, bias=True, note=""):
    inputs = {"x": torch.randn(shape), "weight": torch.randn(out, shape[1], *kernel)}
    if bias:
        inputs["bias"] = torch.randn(out)
    case(
        f"conv2d padding={padding} stride={stride} #{kernel[0]}x{kernel[1]}{note}",
        lambda x, weight, bias=None: F.conv2d(x, weight, bias, stride, padding),
        inputs,
    )


conv2d((2, 3, 5, 4), 5, (1, 1), 1, 0)
conv2d((2, 3, 5, 4), 3, (1, 1), 2, 0, bias=False)
conv2d((2, 3, 7, 6), 4, (3, 3), 1, 1)
conv2d((3, 2, 7, 8), 3, (3, 3), 2, 1, bias=False)
conv2d((1, 3, 1, 1), 2, (3, 3), 1, 1, note=" one pixel")
conv2d((1, 2, 9, 11), 3, (7, 7), 2, 3)
conv2d((2, 2, 6, 5), 2, (2, 4), 3, 2, note=" stride beyond kernel")
conv2d((1, 1, 25, 24), 2, (3, 3), 1, 1, bias=False, note=" several tiles")
conv2d((5, 2, 12, 11), 2, (3, 3), 2, 1, bias=False, note=" several pictures a tile")
conv2d((2, 37, 3, 3), 2, (3, 3), 1, 1, note=" many channels")

for bias in (True, False):
    inputs = {"x": torch.randn(3, 7), "weight": torch.randn(5, 7)}
    if bias:
        inputs["bias"] = torch.randn(5)
    case(f"linear #{'with' if bias else 'without'} bias", F.linear, inputs)


def batch_norm(x, weight, bias, eps):
    # With momentum 1 the running statistics are the batch's own.
    mean, variance = torch.zeros(x.shape[1]), torch.ones(x.shape[1])
    y = F.batch_norm(x, mean, variance, weight, bias, training=True, momentum=1.0, eps=eps)
    return y, mean, variance


for shape, eps, shift in (((3, 5, 4, 3), 1e-5, 0), ((4, 3, 1, 1), 1e-3, 0), ((2, 2, 5, 7), 1e-5, 30)):
    inputs = {
        "x": torch.randn(shape) * 2 + shift,
        "weight": torch.randn(shape[1]),
        "bias": torch.randn(shape[1]),
    }
    name = "x".join(map(str, shape))
    case(
        f"batch_norm eps={eps} #{name}",
        lambda x, weight, bias, eps=eps: batch_norm(x, weight, bias, eps),
        inputs,
        results=("mean", "variance"),
    )
    statistics = {"mean": torch.randn(shape[1]), "variance": torch.rand(shape[1]) + 0.1}
    case(
        f"batch_norm_eval eps={eps} #{name}",
        lambda x, weight, bias, mean, variance, eps=eps: F.batch_norm(
            x, mean, variance, weight, bias, training=False, eps=eps
        ),
        inputs,
        statistics,
    )

for shape, kernel, stride, padding in (
    ((2, 3, 6, 8), 2, 2, 0),
    ((2, 2, 7, 6), 3, 2, 1),
    ((1, 2, 5, 5), 3, 1, 1),
    ((1, 1, 8, 9), 5, 3, 2),
    ((1, 2, 1, 1), 3, 2, 1),
):
    arguments = f"kernel={kernel} padding={padding} stride={stride}"
    for note, x in (("random", torch.randn(shape)), ("ties", ties(*shape)), ("negative", -torch.rand(shape) - 1)):
        case(
            f"max_pool2d {arguments} #{'x'.join(map(str, shape))} {note}",
            lambda x, k=kernel, s=stride, p=padding: F.max_pool2d(x, k, s, p),
            {"x": x},
        )

for shape, kernel, stride, padding, modes in (
    ((2, 2, 6, 5), 2, 2, 0, (0, 1)),
    ((1, 2, 7, 6), 3, 2, 1, (0, 1)),
    ((1, 1, 5, 8), 3, 3, 1, (0, 1)),
    ((1, 2, 1, 1), 2, 2, 0, (1,)),
    ((1, 1, 4, 3), 4, 3, 2, (0, 1)),
    # A first window that is larger than the input, which ceil_mode allows.
    ((1, 1, 3, 4), 5, 4, 0, (1,)),
):
    x = torch.randn(shape)
    for ceil in modes:
        for include in (0, 1):
            case(
                f"avg_pool2d ceil={ceil} include={include} kernel={kernel} padding={padding} stride={stride}"
                f" #{'x'.join(map(str, shape))}",
                lambda x, k=kernel, s=stride, p=padding, c=ceil, i=include: F.avg_pool2d(
                    x, k, s, p, ceil_mode=bool(c), count_include_pad=bool(i)
                ),
                {"x": x},
            )

case("global_avg_pool2d", lambda x: x.mean((2, 3)), {"x": torch.randn(2, 3, 4, 5)})


def blur_pool2d(x, kernel, stride):
    """Zhang's BlurPool: reflection padding, one binomial filter for each channel."""
    row = torch.tensor([1.0])
    for _ in range(kernel - 1):
        row = F.pad(row, (1, 0)) + F.pad(row, (0, 1))
    weight = row[:, None] * row[None, :]
    weight = (weight / weight.sum()).expand(x.shape[1], 1, -1, -1)
    before, after = (kernel - 1) // 2, kernel // 2
    x = F.pad(x, (before, after, before, after), mode="reflect")
    return F.conv2d(x, weight, stride=stride, groups=x.shape[1])


for shape, kernel, stride in (
    ((2, 3, 5, 6), 3, 2),
    ((1, 2, 2, 2), 3, 2),
    ((1, 2, 5, 7), 3, 1),
    ((1, 2, 6, 5), 2, 2),
    ((1, 1, 7, 5), 4, 2),
    ((1, 1, 8, 7), 5, 3),
    ((1, 1, 4, 6), 7, 2),
):
    case(
        f"blur_pool2d kernel={kernel} stride={stride} #{'x'.join(map(str, shape))}",
        lambda x, k=kernel, s=stride: blur_pool2d(x, k, s),
        {"x": torch.randn(shape)},
    )


def max_blur_pool(x):
    return blur_pool2d(F.max_pool2d(x, 3, 1, 1), 3, 2)


# The two operators as xresnet's stem uses them.
case("max_blur_pool", max_blur_pool, {"x": torch.randn(1, 2, 9, 8)})
case(
    "replicate_blur2d",
    lambda x: F.avg_pool2d(F.pad(x, (1, 0, 1, 0), mode="replicate"), 2, stride=1),
    {"x": torch.randn(2, 2, 3, 5)},
)

for shape, sizes in (
    ((2, 3, 3, 4), ((6, 8), (7, 5), (3, 4), (1, 1), (9, 13))),
    ((1, 2, 1, 1), ((3, 2),)),
    ((1, 1, 7, 5), ((3, 4), (11, 10))),
    # Where PyTorch's rounding shows: the exact nearest pixel would be another.
    ((1, 1, 2, 1), ((82, 1),)),
):
    for size in sizes:
        name = f"height={size[0]} width={size[1]} #{'x'.join(map(str, shape))}"
        case(
            f"upsample_bilinear2d {name}",
            lambda x, size=size: F.interpolate(x, size=size, mode="bilinear", align_corners=False),
            {"x": torch.randn(shape)},
        )
        # In f32, because PyTorch rounds positions in the picture's dtype.
        case(
            f"upsample_nearest2d {name}",
            lambda x, size=size: F.interpolate(x.float(), size=size, mode="nearest").double(),
            {"x": torch.randn(shape).float().double()},
        )

for shape, factor in (((2, 8, 2, 3), 2), ((1, 9, 2, 1), 3), ((1, 3, 2, 2), 1)):
    case(
        f"pixel_shuffle factor={factor}",
        lambda x, factor=factor: F.pixel_shuffle(x, factor),
        {"x": torch.randn(shape)},
    )

case("relu #random", F.relu, {"x": torch.randn(2, 3, 4)})
case("relu #zeros", F.relu, {"x": ties(2, 3, 4)})
case("mish #random", F.mish, {"x": torch.randn(2, 3, 5) * 3})
case("mish #far out", F.mish, {"x": torch.linspace(-60, 60, 41)})

for smoothing in (0.0, 0.1, 1.0):
    case(
        f"cross_entropy smoothing={smoothing}",
        lambda logits, classes, smoothing=smoothing: F.cross_entropy(
            logits, classes.long(), label_smoothing=smoothing
        ),
        {"logits": torch.randn(6, 5) * 3},
        {"classes": torch.tensor([0, 4, 2, 2, 1, 3])},
    )
case(
    "cross_entropy smoothing=0.1 #large logits",
    lambda logits, classes: F.cross_entropy(logits, classes.long(), label_smoothing=0.1),
    {"logits": torch.tensor([[1000.0, -1000.0, 0.0], [-500.0, -500.0, -501.0]])},
    {"classes": torch.tensor([1, 2])},
)

for name, loss in (("mse_loss", F.mse_loss), ("l1_loss", F.l1_loss)):
    for note, make in (("random", torch.randn), ("ties", ties)):
        case(
            f"{name} #{note}",
            lambda prediction, target, loss=loss: loss(prediction, target),
            {"prediction": make(2, 3, 4), "target": make(2, 3, 4)},
        )

for shape, eps in (((2, 3, 5), 1e-5), ((4, 1), 1e-3), ((7,), 0.1), ((40, 3), 1e-6)):
    case(
        f"layer_norm eps={eps} #{'x'.join(map(str, shape))}",
        lambda x, weight, bias, eps=eps: F.layer_norm(x, shape[-1:], weight, bias, eps),
        {"x": torch.randn(shape), "weight": torch.randn(shape[-1]), "bias": torch.randn(shape[-1])},
    )

arrays = {
    key: value.contiguous().numpy().astype(numpy.uint32 if key.endswith("/classes") else numpy.float64)
    for key, value in tensors.items()
}
save_file(dict(sorted(arrays.items())), Path(__file__).with_name("vectors.safetensors"))
