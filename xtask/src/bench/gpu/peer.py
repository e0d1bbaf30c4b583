"""PyTorch's side of `cargo xtask bench gpu`, in bf16 and channels-last.

`step NETWORK BATCH SIZE GROUP DEVICE eager|compile`: a line of stdin is a number of groups of training
steps, answered by the seconds of one step in each; the GPU is waited for after a group.
`epochs NETWORK BATCH SIZE FOLDER EPOCHS DEVICE eager|compile`: trains on the folder's `train/` and scores
`val/` after each epoch, by ImageFolder and DataLoader; says the seconds of each epoch. A U-Net restores
rectangles that were blurred and turned grey, any other network classifies.
"""

import os
import random
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


def grey_blur(picture):
    """`[3, H, W]`, `uint8`, with 5 to 9 rectangles blurred and grey, each with what lies around it."""
    _, height, width = picture.shape
    scale = width / 128
    out = picture.clone()
    for _ in range(random.randint(5, 9)):
        h, w = (random.randint(round(5 * scale), round(49 * scale)) for _ in "hw")
        top, left = random.randint(0, height - h), random.randint(0, width - w)
        sigma = random.uniform(2, 6) * scale
        reach = round(3 * sigma)
        rows = slice(max(top - reach, 0), min(top + h + reach, height))
        columns = slice(max(left - reach, 0), min(left + w + reach, width))
        grey = v2.functional.rgb_to_grayscale(out[:, rows, columns])
        grey = v2.functional.gaussian_blur(grey, 2 * reach + 1, sigma)
        inside = grey[:, top - rows.start :, left - columns.start :][:, :h, :w]
        out[:, top : top + h, left : left + w] = inside
    return out


class Puzzle(nn.Module):
    """A picture as the network sees it, and as it was."""

    def __init__(self, last):
        super().__init__()
        self.last = v2.Compose(last)

    def forward(self, picture):
        return self.last(grey_blur(picture)), self.last(picture)


def both(samples):
    """Puzzles and clean pictures of a batch; it has no labels."""
    pairs = [pair for pair, _ in samples]
    return tuple(torch.stack(pictures) for pictures in zip(*pairs))


def loader(folder, split, batch, size, restores):
    if split == "train":
        crop = [v2.RandomResizedCrop(size, antialias=True), v2.RandomHorizontalFlip()]
    else:
        crop = [v2.Resize(size, antialias=True), v2.CenterCrop(size)]
    last = [v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
    last = [Puzzle(last)] if restores else last
    change = v2.Compose([*crop, v2.PILToTensor(), *last])
    pictures = torchvision.datasets.ImageFolder(os.path.join(folder, split), change)
    training = split == "train"
    return torch.utils.data.DataLoader(
        pictures,
        batch,
        collate_fn=both if restores else None,
        shuffle=training,
        drop_last=training,
        num_workers=len(os.sched_getaffinity(0)),
        pin_memory=torch.cuda.is_available(),
        persistent_workers=True,
    )


def epochs(name, batch, size, folder, count, device, how):
    batch, size = int(batch), int(size)
    training = Training(name, size, device, how)
    train, val = (
        loader(folder, split, batch, size, training.restores) for split in ("train", "val")
    )

    def there(*batch):
        def layout(x):
            return torch.channels_last if x.dim() == 4 else torch.contiguous_format

        return [x.to(device, non_blocking=True, memory_format=layout(x)) for x in batch]

    for _ in range(int(count)):
        start = time.perf_counter()
        training.network.train()
        total = torch.zeros((), device=device)
        for x, y in train:
            total += training.step(*there(x, y))
        training.network.eval()
        score = torch.zeros((), device=device)
        with torch.no_grad():
            for x, y in val:
                x, y = there(x, y)
                out = training.run(x)
                if training.restores:
                    score += nn.functional.mse_loss(out.float(), y)
                else:
                    score += (out.argmax(1) == y).sum()
        total.item(), score.item()
        print(f"{time.perf_counter() - start:.6f}", flush=True)


if __name__ == "__main__":
    work, *arguments = sys.argv[1:]
    {"step": steps, "epochs": epochs}[work](*arguments)
