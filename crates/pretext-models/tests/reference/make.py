"""Makes the reference vectors beside it from fastai 2.8.12 and torchvision.

    python make.py          # all; needs fastai, torchvision and numpy
    python make.py resnet18 # one case

Weights are not stored: each value is a hash of its tensor's name and its place, the same here and
in tests/common/mod.rs. Stored are names and shapes, some outputs, running statistics and
gradients, in double precision.
"""

import json
import math
import sys
import zlib
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import torchvision.models
from fastai.layers import AvgPool, MaxPool
from fastai.vision.models import xresnet
from fastai.vision.models.unet import DynamicUnet
from safetensors.torch import save_file
from torch import nn

HERE = Path(__file__).parent
CLASSES = 20


def hashed(name, count):
    """`count` numbers from -1 to 1."""
    x = np.arange(count, dtype=np.uint64) * 2654435761 + zlib.crc32(name.encode())
    x &= 0xFFFFFFFF
    x ^= x >> 16
    x = x * 0x85EBCA6B & 0xFFFFFFFF
    x ^= x >> 13
    x = x * 0xC2B2AE35 & 0xFFFFFFFF
    x ^= x >> 16
    return x.astype(np.float64) / 2**31 - 1


def value(name, shape):
    """The value of one tensor of a network, rounded to single precision."""
    values = hashed(name, math.prod(shape))
    last = name.split(".")[-1]
    if last == "gamma":
        values = 1e-4 * values
    elif last in ("weight_u", "weight_v"):
        values = values / np.sqrt((values**2).sum())
    elif last == "running_var":
        values = 1 + 0.3 * values
    elif last == "weight" and len(shape) == 1:
        values = 0.5 + 0.2 * values
    elif len(shape) == 1:
        values = 0.1 * values
    else:
        values = values * math.sqrt(6 / math.prod(shape[1:]))
    return torch.from_numpy(values.astype(np.float32)).reshape(shape)


def fill(model):
    state = model.state_dict()
    for name, tensor in state.items():
        if not name.endswith("num_batches_tracked"):
            tensor.copy_(value(name, tuple(tensor.shape)))
    model.load_state_dict(state)


class Blur(nn.Module):
    """Zhang (2019): 1 2 1 in both directions, every second pixel, reflected borders."""

    def forward(self, x):
        taps = torch.tensor([1.0, 2.0, 1.0], dtype=x.dtype) / 4
        kernel = (taps[:, None] * taps[None, :]).expand(x.shape[1], 1, 3, 3)
        return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), kernel, stride=2, groups=x.shape[1])


class ShortcutMaxBlur(nn.Module):
    """Each pixel with its right and lower neighbours, blurred; fastai's `pool` interface."""

    def __init__(self, stride, ndim=2, ceil_mode=True):
        super().__init__()
        self.blur = Blur()

    def forward(self, x):
        return self.blur(F.max_pool2d(F.pad(x, (0, 1, 0, 1), value=-math.inf), 2, 1))


def xres(make, stem=None, **options):
    model = make(n_out=CLASSES, **options)
    if stem is not None:
        model[3] = stem
    return model


def unet(model, size, **options):
    # As fastai's create_body cuts both families (behind the last stage), but by name: it would
    # number a resnet's layers, which keep torchvision's names in this crate.
    children = dict(model.named_children())
    names = list(children)[: -4 if isinstance(model, xresnet.XResNet) else -2]
    encoder = nn.Sequential(OrderedDict((name, children[name]) for name in names))
    model = DynamicUnet(encoder, 3, (size, size), **options)
    # The last layer makes fastai's tensor type, which is in single precision.
    model.layers = model.layers[:-1]
    return model


def resnet(make):
    return make(weights=None, num_classes=CLASSES)


x18, x34, x50 = xresnet.xresnet18, xresnet.xresnet34, xresnet.xresnet50
# Name: network, shape of the input.
CASES = {
    "xresnet18": (lambda: xres(x18), (3, 3, 48, 48)),
    "xresnet34": (lambda: xres(x34), (3, 3, 48, 48)),
    "xresnet50": (lambda: xres(x50), (3, 3, 48, 48)),
    "xresnet18-odd": (lambda: xres(x18), (3, 3, 45, 61)),
    "xresnet18-mish": (lambda: xres(x18, act_cls=nn.Mish), (3, 3, 48, 48)),
    "xresnet18-sa": (lambda: xres(x18, sa=True), (3, 3, 48, 48)),
    "xresnet18-se": (lambda: xres(xresnet.xse_resnet18), (3, 3, 48, 48)),
    "xresnet50-se-sa-mish": (
        lambda: xres(xresnet.xse_resnet50, sa=True, act_cls=nn.Mish),
        (3, 3, 48, 48),
    ),
    # fastai's MaxPool forgets to round up, so every stage needs an even side.
    "xresnet18-max": (lambda: xres(x18, pool=MaxPool), (3, 3, 64, 64)),
    "xresnet18-max-blur": (lambda: xres(x18, pool=ShortcutMaxBlur), (3, 3, 48, 48)),
    "xresnet18-stem-avg": (lambda: xres(x18, AvgPool(3, 2, 1)), (3, 3, 48, 48)),
    "xresnet18-stem-max-blur": (
        lambda: xres(x18, nn.Sequential(nn.MaxPool2d(3, 1, 1), Blur())),
        (3, 3, 48, 48),
    ),
    "resnet18": (lambda: resnet(torchvision.models.resnet18), (3, 3, 48, 48)),
    "resnet34": (lambda: resnet(torchvision.models.resnet34), (3, 3, 48, 48)),
    "resnet50": (lambda: resnet(torchvision.models.resnet50), (3, 3, 48, 48)),
    "unet-xresnet18": (lambda: unet(xres(x18), 48), (2, 3, 48, 48)),
    "unet-xresnet18-odd": (lambda: unet(xres(x18), 48), (2, 3, 45, 61)),
    "unet-xresnet18-small": (lambda: unet(xres(x18), 16), (4, 3, 16, 16)),
    "unet-xresnet18-all": (
        lambda: unet(xres(x18), 48, blur=True, self_attention=True, y_range=(0, 1)),
        (2, 3, 48, 48),
    ),
    "unet-xresnet34": (lambda: unet(xres(x34), 48), (2, 3, 48, 48)),
    # Made for 16 pixels, so it has fewer blocks, but used where batch norms see enough values.
    "unet-xresnet50-small": (lambda: unet(xres(x50), 16), (3, 3, 48, 48)),
    "unet-resnet18": (lambda: unet(resnet(torchvision.models.resnet18), 48), (2, 3, 48, 48)),
}
# Their blocks are those of smaller networks, so gradients need not be had again.
OUTPUTS_ALONE = [
    "xresnet34",
    "xresnet50-se-sa-mish",
    "resnet34",
    "unet-xresnet34",
    "unet-xresnet50-small",
    "unet-resnet18",
]


def summary(tensor, count=12):
    """The norm of a tensor and some of its values, evenly spread."""
    flat = torch.as_tensor(tensor.detach()).flatten()
    places = [i * flat.numel() // count for i in range(count)]
    short = lambda number: float(f"{number:.9g}")
    return {"norm": short(flat.norm().item()), "values": [short(flat[i].item()) for i in places]}


def difference(got, want):
    """The largest difference, as a share of the root mean square."""
    worst = (got.detach().double() - want.detach()).abs().max() / want.detach().square().mean().sqrt()
    return float(f"{worst.item():.2g}")


def picked(names):
    """Names of parameters spread over a network, the first and the last among them."""
    names, count = list(names), 12
    return sorted({names[i * (len(names) - 1) // (count - 1)] for i in range(count)})


def make(case):
    build, shape = CASES[case]
    torch.manual_seed(0)
    model, single = build(), build()
    fill(model)
    fill(single)
    # Spectral norm keeps plain tensors that double() does not reach; its hook replaces them.
    model = model.double()
    x = torch.from_numpy(hashed("input", math.prod(shape))).float().double().reshape(shape) * 2
    out = {
        "shape": shape,
        "parameters": sum(p.numel() for p in model.parameters()),
        "names": [
            f"{name} {'x'.join(map(str, tensor.shape))}"
            for name, tensor in model.state_dict().items()
            if not name.endswith("num_batches_tracked")
        ],
    }
    model.eval()
    with torch.no_grad():
        out["evaluate"] = summary(model(x), 60)
    model.train()
    y = model(x)
    out["train"] = summary(y, 60)
    out["train_f32_error"] = difference(single.train()(x.float()), y)
    if case not in OUTPUTS_ALONE:
        out |= after_a_step(model, y)
    (HERE / f"{case}.json").write_text(json.dumps(out, indent=0) + "\n")


def after_a_step(model, y):
    """Gradients and running statistics."""
    # Weights of both signs, so that nothing cancels by chance.
    (y * torch.from_numpy(hashed("loss", y.numel())).reshape(y.shape)).sum().backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    running = {
        name: buffer
        for name, buffer in model.named_buffers()
        if not name.endswith("num_batches_tracked")
    }
    return {
        "gradients": {name: summary(gradients[name]) for name in picked(gradients)},
        "running": {name: summary(running[name]) for name in picked(running)},
    }


def projection_head():
    """A whole file as PyTorch's users save it, with `num_batches_tracked` and their metadata."""
    model = nn.Sequential(nn.Linear(8, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 2))
    fill(model)
    model(torch.from_numpy(hashed("step", 4 * 8)).float().reshape(4, 8))  # Moves the statistics.
    x = torch.from_numpy(hashed("input", 3 * 8)).float().reshape(3, 8) * 2
    with torch.no_grad():
        y = model.eval()(x)
    save_file(model.state_dict(), HERE / "projection_head.safetensors", {"format": "pt"})
    (HERE / "projection_head.json").write_text(json.dumps(y.tolist()) + "\n")


INITIAL = {
    **{name: CASES[name][0] for name in ["xresnet18", "xresnet50", "xresnet18-sa", "xresnet18-se"]},
    "resnet18": CASES["resnet18"][0],
    "resnet50-zero": lambda: torchvision.models.resnet50(num_classes=CLASSES, zero_init_residual=True),
    "unet-xresnet18-all": CASES["unet-xresnet18-all"][0],
}


def initial():
    """Mean and standard deviation of every tensor before training."""
    out = {}
    for case, build in INITIAL.items():
        torch.manual_seed(0)
        out[case] = {
            name: [float(f"{x:.5g}") for x in (t.mean().item(), t.std(correction=0).item())]
            for name, t in build().state_dict().items()
            if not name.endswith("num_batches_tracked")
        }
    (HERE / "initial.json").write_text(json.dumps(out, indent=0) + "\n")


OTHERS = {"projection_head": projection_head, "initial": initial}
for case in sys.argv[1:] or [*CASES, *OTHERS]:
    OTHERS[case]() if case in OTHERS else make(case)
    print(case)
