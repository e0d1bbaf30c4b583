"""PyTorch's side of `cargo xtask bench train`: a network, stepped as often as stdin says.

Arguments: NETWORK BATCH SIZE PRECISION THREADS eager|compile. A line of stdin is `train` or
`evaluate` (what a step is), a number of steps (answered by their seconds), or `peak` (answered by
the most memory held, in MiB), as for `crates/pretext-train/benches/step.rs`.
"""

import resource
import sys
import time
import warnings

warnings.filterwarnings("ignore")

import torch
import torchvision
from fastai.vision.all import DynamicUnet
from fastai.vision.models.xresnet import xresnet34
from torch import nn

CLASSES = 20

name, batch, size, precision, threads, how = sys.argv[1:]
batch, size = int(batch), int(size)
torch.set_num_threads(int(threads))
torch.manual_seed(0)

x = torch.randn(batch, 3, size, size).contiguous(memory_format=torch.channels_last)
classes = torch.arange(batch) % CLASSES
if name == "unet-xresnet34":
    encoder = nn.Sequential(*list(xresnet34(n_out=CLASSES).children())[:-3])
    network = DynamicUnet(encoder, 3, (size, size), norm_type=None)
elif name == "xresnet34":
    network = xresnet34(n_out=CLASSES)
else:
    network = getattr(torchvision.models, name)(num_classes=CLASSES)
network = network.to(memory_format=torch.channels_last)
optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3)
forward = torch.compile(network) if how == "compile" else network


def run(x):
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        return forward(x)


def step(training):
    if not training:
        with torch.no_grad():
            run(x)
        return
    y = run(x).float()
    if name.startswith("unet"):
        loss = nn.functional.mse_loss(y, x)
    else:
        loss = nn.functional.cross_entropy(y, classes, label_smoothing=0.1)
    loss.backward()
    optimiser.step()
    optimiser.zero_grad()


training = True
for line in sys.stdin:
    word = line.strip()
    if word in ("train", "evaluate"):
        training = word == "train"
        network.train(training)
    elif word == "peak":
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, flush=True)
    else:
        seconds = []
        for _ in range(int(word)):
            start = time.perf_counter()
            step(training)
            seconds.append(f"{time.perf_counter() - start:.6f}")
        print(" ".join(seconds), flush=True)
