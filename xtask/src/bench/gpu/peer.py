"""PyTorch's side of `cargo xtask bench gpu`, in bf16 and channels-last.

`step NETWORK BATCH SIZE GROUP DEVICE eager|compile`: a line of stdin is a number of groups of training
steps, answered by the seconds of one step in each; the GPU is waited for after a group.
`epochs NETWORK BATCH SIZE FOLDER EPOCHS DEVICE eager|compile`: trains a classifier on the folder's
`train/` and scores `val/` after each epoch, by ImageFolder and DataLoader; says the seconds of each epoch.
"""

import os
import sys
import time
import warnings

warnings.filterwarnings("ignore")

import torch
import torchvision
from torch import nn
from torchvision.transforms import v2

CLASSES = 20
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def network_of(name, size):
    from fastai.vision.all import DynamicUnet
    from fastai.vision.models import xresnet

    if name.startswith("unet-"):
        body = getattr(xresnet, name.removeprefix("unet-"))(n_out=CLASSES)
        encoder = nn.Sequential(*list(body.children())[:-3])
        return DynamicUnet(encoder, 3, (size, size), norm_type=None)
    if name.startswith("xresnet"):
        return getattr(xresnet, name)(n_out=CLASSES)
    return getattr(torchvision.models, name)(num_classes=CLASSES)


class Training:
    def __init__(self, name, size, device, how):
        torch.manual_seed(0)
        torch.backends.cudnn.benchmark = True
        self.device, self.restores = device, name.startswith("unet-")
        network = network_of(name, size).to(device, memory_format=torch.channels_last)
        self.network = network
        self.forward = torch.compile(network) if how == "compile" else network
        fused = device == "cuda"
        self.optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3, fused=fused)

    def run(self, x):
        with torch.autocast(self.device, torch.bfloat16):
            return self.forward(x)

    def step(self, x, target):
        y = self.run(x).float()
        if self.restores:
            loss = nn.functional.mse_loss(y, target)
        else:
            loss = nn.functional.cross_entropy(y, target, label_smoothing=0.1)
        loss.backward()
        self.optimiser.step()
        self.optimiser.zero_grad()
        return loss.detach()

    def wait(self):
        if self.device == "cuda":
            torch.cuda.synchronize()


def steps(name, batch, size, group, device, how):
    batch, size, group = int(batch), int(size), int(group)
    training = Training(name, size, device, how)
    x = torch.randn(batch, 3, size, size, device=device).contiguous(memory_format=torch.channels_last)
    target = x if training.restores else torch.arange(batch, device=device) % CLASSES
    training.network.train()
    for line in sys.stdin:
        seconds = []
        for _ in range(int(line)):
            training.wait()
            start = time.perf_counter()
            for _ in range(group):
                training.step(x, target)
            training.wait()
            seconds.append(f"{(time.perf_counter() - start) / group:.6f}")
        print(" ".join(seconds), flush=True)


def loader(folder, split, batch, size):
    if split == "train":
        crop = [v2.RandomResizedCrop(size, antialias=True), v2.RandomHorizontalFlip()]
    else:
        crop = [v2.Resize(size, antialias=True), v2.CenterCrop(size)]
    last = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
    pictures = torchvision.datasets.ImageFolder(os.path.join(folder, split), v2.Compose(crop + last))
    training = split == "train"
    return torch.utils.data.DataLoader(
        pictures,
        batch,
        shuffle=training,
        drop_last=training,
        num_workers=len(os.sched_getaffinity(0)),
        pin_memory=torch.cuda.is_available(),
        persistent_workers=True,
    )


def epochs(name, batch, size, folder, count, device, how):
    batch, size = int(batch), int(size)
    training = Training(name, size, device, how)
    train, val = (loader(folder, split, batch, size) for split in ("train", "val"))

    def there(x, y):
        x = x.to(device, non_blocking=True, memory_format=torch.channels_last)
        return x, y.to(device, non_blocking=True)

    for _ in range(int(count)):
        start = time.perf_counter()
        training.network.train()
        total = torch.zeros((), device=device)
        for x, y in train:
            total += training.step(*there(x, y))
        training.network.eval()
        right = torch.zeros((), device=device)
        with torch.no_grad():
            for x, y in val:
                x, y = there(x, y)
                right += (training.run(x).argmax(1) == y).sum()
        total.item(), right.item()
        print(f"{time.perf_counter() - start:.6f}", flush=True)


if __name__ == "__main__":
    work, *arguments = sys.argv[1:]
    {"step": steps, "epochs": epochs}[work](*arguments)
