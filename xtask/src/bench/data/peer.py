"""The peers' side of `cargo xtask bench data`: one work of one peer, done as often as stdin says.

Arguments: WORK PEER FOLDER WORKERS. A line of stdin is a number of passes over the JPEGs of a flat
folder, answered by their seconds, as for `crates/pretext-train/benches/data`. Every peer computes
with one thread; WORKERS are the processes of a DataLoader, 0 for none beside this one.
"""

import math
import os
import random
import sys
import time
import warnings
from pathlib import Path

warnings.filterwarnings("ignore")
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"

SIDE = 128
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

work, peer, folder, workers = sys.argv[1:]
workers = int(workers)
files = sorted(str(path) for path in Path(folder).iterdir())


def torch_alone():
    import torch

    torch.set_num_threads(1)
    return torch


def cv2_alone():
    import cv2

    cv2.setNumThreads(0)
    return cv2


def torchvision_transform(to_tensor=()):
    torch = torch_alone()
    from torchvision.transforms import v2

    crop = [v2.RandomResizedCrop(SIDE, antialias=True), v2.RandomHorizontalFlip()]
    simclr = [
        v2.RandomApply([v2.ColorJitter(0.8, 0.8, 0.8, 0.2)], 0.8),
        v2.RandomGrayscale(0.2),
        v2.RandomApply([v2.GaussianBlur(13, (0.1, 2.0))], 0.5),
    ]
    last = [v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
    return v2.Compose(crop + (simclr if work == "simclr" else []) + list(to_tensor) + last)


def albumentations_transform():
    cv2_alone()
    import albumentations as A
    from albumentations.pytorch import ToTensorV2

    factors, hue = (0.2, 1.8), (-0.2, 0.2)
    crop = [A.RandomResizedCrop((SIDE, SIDE)), A.HorizontalFlip()]
    simclr = [
        A.ColorJitter(brightness=factors, contrast=factors, saturation=factors, hue=hue, p=0.8),
        A.ToGray(p=0.2),
        A.GaussianBlur(blur_limit=(13, 13), sigma_limit=(0.1, 2.0), p=0.5),
    ]
    last = [A.Normalize(MEAN, STD), ToTensorV2()]
    return A.Compose(crop + (simclr if work == "simclr" else []) + last)


def loader():
    """Files to batches."""
    torch = torch_alone()
    if peer == "pil":
        from PIL import Image
        from torchvision.transforms import v2

        transform = torchvision_transform([v2.PILToTensor()])
        read = lambda file: Image.open(file).convert("RGB")
    else:
        from torchvision.io import ImageReadMode, decode_image

        transform = torchvision_transform()
        read = lambda file: decode_image(file, ImageReadMode.RGB)

    class Pictures(torch.utils.data.Dataset):
        def __len__(self):
            return len(files)

        def __getitem__(self, i):
            return transform(read(files[i]))

    # A script from the command line can be forked, not imported again.
    how = dict(persistent_workers=True, multiprocessing_context="fork") if workers else {}
    batches = torch.utils.data.DataLoader(Pictures(), 64, num_workers=workers, **how)

    def run():
        for batch in batches:
            assert batch.shape[1:] == (3, SIDE, SIDE)

    return run


def decoded():
    """All pictures as the peer holds them: [3, H, W] tensors (channels last in memory), PIL images
    or [H, W, 3] arrays."""
    if peer == "torchvision":
        torch_alone()
        from torchvision.io import ImageReadMode, decode_image

        return [decode_image(file, ImageReadMode.RGB) for file in files]
    from PIL import Image

    images = [Image.open(file).convert("RGB") for file in files]
    if peer == "pil":
        return images
    import numpy

    return [numpy.array(image) for image in images]


def over(pictures, transform):
    """A pass of a transform over pictures in memory."""

    def run():
        for picture in pictures:
            transform(picture)

    return run


def augment():
    """Decoded pictures to normalised tensors."""
    if peer == "torchvision":
        return over(decoded(), torchvision_transform())
    transform = albumentations_transform()
    return over(decoded(), lambda picture: transform(image=picture)["image"])


def regions(width, height):
    """Four rectangles with a sigma each, drawn as `pretext_augment::RandomGreyBlur` does, and the
    part of the picture that their blur depends on."""
    for _ in range(4):
        sigma = random.uniform(2, 6)
        reach = math.ceil(3 * sigma)
        w, h = (random.randint(round(5 / 128 * n), round(49 / 128 * n)) for n in (width, height))
        left, top = random.randrange(width) - w // 2, random.randrange(height) - h // 2
        right, bottom = min(left + w, width), min(top + h, height)
        left, top = max(left, 0), max(top, 0)
        margin = (
            max(left - reach, 0),
            max(top - reach, 0),
            min(right + reach, width),
            min(bottom + reach, height),
        )
        yield (left, top, right, bottom), margin, sigma, 2 * reach + 1


def grey_blur():
    """Rectangles of the middle of each picture, blurred and turned grey; only what must be."""
    if peer == "opencv":
        cv2 = cv2_alone()

        def middle(picture):
            y, x = (max(n - SIDE, 0) // 2 for n in picture.shape[:2])
            return picture[y : y + SIDE, x : x + SIDE].copy()

        def transform(picture):
            out = picture.copy()
            grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
            for (l, t, r, b), (ml, mt, mr, mb), sigma, taps in regions(*grey.shape[::-1]):
                # Four times as fast as GaussianBlur, whose results it equals within 1 level.
                kernel = cv2.getGaussianKernel(taps, sigma, cv2.CV_32F)
                part = cv2.sepFilter2D(grey[mt:mb, ml:mr], cv2.CV_32F, kernel, kernel)
                part = cv2.convertScaleAbs(part[t - mt : b - mt, l - ml : r - ml])
                cv2.cvtColor(part, cv2.COLOR_GRAY2RGB, dst=out[t:b, l:r])
            return out

    elif peer == "pil":
        from PIL import ImageFilter

        def middle(picture):
            x, y = (max(n - SIDE, 0) // 2 for n in picture.size)
            right, bottom = min(x + SIDE, picture.width), min(y + SIDE, picture.height)
            return picture.crop((x, y, right, bottom))

        def transform(picture):
            out = picture.copy()
            grey = picture.convert("L")
            for (l, t, r, b), margin, sigma, _ in regions(*picture.size):
                part = grey.crop(margin).filter(ImageFilter.GaussianBlur(sigma))
                ml, mt = margin[:2]
                out.paste(part.crop((l - ml, t - mt, r - ml, b - mt)), (l, t))
            return out

    else:
        torch_alone()
        from torchvision.transforms.v2 import functional as F

        def middle(picture):
            y, x = (max(n - SIDE, 0) // 2 for n in picture.shape[1:])
            return picture[:, y : y + SIDE, x : x + SIDE].clone()

        def transform(picture):
            out = picture.clone()
            grey = F.rgb_to_grayscale(picture).float()
            for (l, t, r, b), (ml, mt, mr, mb), sigma, taps in regions(*picture.shape[:0:-1]):
                # In one go it would be a convolution of taps x taps.
                part = F.gaussian_blur(grey[:, mt:mb, ml:mr], [taps, 1], [sigma, sigma])
                part = F.gaussian_blur(part, [1, taps], [sigma, sigma])
                out[:, t:b, l:r] = part[:, t - mt : b - mt, l - ml : r - ml].round()
            return out

    return over([middle(picture) for picture in decoded()], transform)


run = {"loader": loader, "cached": augment, "simclr": augment, "grey-blur": grey_blur}[work]()
for line in sys.stdin:
    seconds = []
    for _ in range(int(line)):
        start = time.perf_counter()
        run()
        seconds.append(f"{time.perf_counter() - start:.6f}")
    print(" ".join(seconds), flush=True)
