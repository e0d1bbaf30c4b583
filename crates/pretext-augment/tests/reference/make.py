"""Makes the reference pictures and numbers that tests/reference.rs compares with.

Run from anywhere: `python make.py`. Versions that made what is committed: torchvision 0.29.2,
PIL 13.0.0, fastai 2.8.12. Nothing is downloaded; the input is docs/photograph.jpg of this crate,
shrunk, and a picture of noise, so that every colour is tried.
"""

import json
import random
from pathlib import Path

import fastai.vision.augment as fastai
import numpy as np
import PIL.Image
import torch
import torchvision.transforms as v1
import torchvision.transforms.v2.functional as F
from fastai.vision.core import PILImage
from torchvision.transforms import v2

HERE = Path(__file__).parent
DRAWS = 10_000
QUANTILES = [0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99]

random.seed(0)
np.random.seed(0)
torch.manual_seed(0)

photograph = PIL.Image.open(HERE / "../../docs/photograph.jpg").convert("RGB")
inputs = {
    "photograph": photograph.resize((80, 60), PIL.Image.Resampling.LANCZOS),
    "noise": PIL.Image.fromarray(np.random.randint(0, 256, (33, 40, 3), dtype=np.uint8)),
}
for name, picture in inputs.items():
    picture.save(HERE / f"{name}.png", optimize=True)

cases = []


def case(op, source, picture, **values):
    """Adds a case: `picture`, of PIL or a tensor, is what `op` must make of the input `source`."""
    if isinstance(picture, torch.Tensor):
        picture = F.to_pil_image(picture)
    file = f"{len(cases):02}-{op}.png"
    picture.save(HERE / file, optimize=True)
    cases.append({"op": op, "input": source, "file": file, **values})


# Crops (x, y, width, height) and sizes (width, height): shrunk, grown, both, slightly, to a point.
boxes = [
    ("photograph", (0, 0, 80, 60), (32, 32)),
    ("photograph", (0, 0, 80, 60), (48, 90)),
    ("photograph", (13, 7, 51, 44), (50, 43)),
    ("photograph", (30, 20, 9, 11), (40, 40)),
    ("photograph", (5, 0, 70, 3), (12, 12)),
    ("photograph", (79, 59, 1, 1), (5, 4)),
    ("photograph", (0, 0, 80, 60), (1, 1)),
    ("noise", (0, 0, 40, 33), (13, 17)),
    ("noise", (3, 2, 21, 30), (44, 7)),
    ("noise", (0, 0, 40, 33), (41, 34)),
]
for source, (x, y, w, h), (width, height) in boxes:
    picture = F.resized_crop(inputs[source], y, x, h, w, [height, width], antialias=True)
    case("crop", source, picture, rect=[x, y, w, h], size=[width, height])

for resize, side in [(48, 40), (30, 30), (90, 77)]:
    picture = F.center_crop(F.resize(inputs["photograph"], resize), [side, side])
    case("eval-torchvision", "photograph", picture, resize=resize, side=side)
for side in [32, 50]:
    crop = fastai.RandomResizedCrop(side, min_scale=0.35)
    crop.before_call(inputs["photograph"], split_idx=1)
    picture = crop.encodes(PILImage.create(np.array(inputs["photograph"])))
    case("eval-fastai", "photograph", picture, side=side)

for source, pil in inputs.items():
    tensor = F.pil_to_tensor(pil)
    case("flip", source, F.horizontal_flip(tensor))
    case("grey", source, F.rgb_to_grayscale(pil, num_output_channels=3))
    case("solarise", source, F.solarize(tensor, 128), threshold=128)
    for op, function, values in [
        ("brightness", F.adjust_brightness, [0.0, 0.35, 1.7]),
        ("contrast", F.adjust_contrast, [0.0, 0.4, 1.8]),
        ("saturation", F.adjust_saturation, [0.0, 0.3, 1.9]),
        ("hue", F.adjust_hue, [-0.5, -0.13, 0.2]),
    ]:
        for value in values:
            case(op, source, function(tensor, value), value=value)
    for kernel, sigma in [(3, 0.8), (9, 2.0), (23, 1.1), (5, 10.0)]:
        picture = F.gaussian_blur(tensor, [kernel, kernel], [sigma, sigma])
        case("blur", source, picture, kernel=kernel, sigma=sigma)

# Erasing, with a colour.
for source, (x, y, w, h), colour in [
    ("photograph", (10, 5, 30, 41), (0, 0, 0)),
    ("noise", (39, 0, 1, 33), (124, 116, 104)),
]:
    value = torch.tensor(colour, dtype=torch.uint8)[:, None, None]
    picture = F.erase(F.pil_to_tensor(inputs[source]), y, x, h, w, value)
    case("erase", source, picture, rect=[x, y, w, h], colour=list(colour))


def step(tensor, op, values):
    """One operation of a chain."""
    match op:
        case "crop":
            (x, y, w, h), (width, height) = values["rect"], values["size"]
            return F.resized_crop(tensor, y, x, h, w, [height, width], antialias=True)
        case "flip":
            return F.horizontal_flip(tensor)
        case "grey":  # of PIL, which rounds
            grey = F.rgb_to_grayscale(F.to_pil_image(tensor), num_output_channels=3)
            return F.pil_to_tensor(grey)
        case "blur":
            k, sigma = values["kernel"], values["sigma"]
            return F.gaussian_blur(tensor, [k, k], [sigma, sigma])
        case "solarise":
            return F.solarize(tensor, values["threshold"])
        case _:
            return getattr(F, f"adjust_{op}")(tensor, values["value"])


# Whole views with fixed parameters. The first operation of those of tolerance 2 copies pixels; in the
# others resizing is off by one level here and there, which what follows makes larger.
def cropped(rect, size):
    return ("crop", {"rect": rect, "size": size})


def jitter(order, brightness, contrast, saturation, hue):
    factors = {"brightness": brightness, "contrast": contrast, "saturation": saturation, "hue": hue}
    return [(name, {"value": factors[name]}) for name in order.split()]


FLIP, GREY = ("flip", {}), ("grey", {})
blur = lambda kernel, sigma: ("blur", {"kernel": kernel, "sigma": sigma})
same = cropped([7, 4, 66, 51], [66, 51])
chains = [
    # SimCLR, MoCo: jitter in several orders.
    (2, [same, FLIP, *jitter("brightness contrast saturation hue", 1.4, 0.7, 1.5, 0.1)]),
    (2, [same, *jitter("hue saturation contrast brightness", 0.8, 1.6, 0.5, -0.15), blur(7, 1.3)]),
    (2, [same, *jitter("contrast hue brightness saturation", 1.2, 1.3, 1.8, 0.2), GREY]),
    (2, [same, *jitter("saturation brightness hue contrast", 0.4, 0.4, 0.2, -0.05), FLIP]),
    # BYOL's second view.
    (2, [same, FLIP, *jitter("contrast saturation brightness hue", 0.9, 1.2, 0.9, 0.08), blur(23, 0.4),
         ("solarise", {"threshold": 128})]),
    # Multi-crop: a large and a small view, of odd sizes.
    (3, [cropped([0, 2, 77, 58], [97, 91]), FLIP,
         *jitter("brightness saturation contrast hue", 1.3, 1.2, 0.8, -0.1), blur(9, 1.9)]),
    (3, [cropped([21, 13, 19, 17], [41, 41]),
         *jitter("hue contrast brightness saturation", 0.7, 1.1, 1.4, 0.07), GREY]),
    (3, [cropped([3, 0, 70, 60], [31, 33]), *jitter("contrast brightness", 1.1, 1.2, 0, 0), blur(3, 1.0)]),
]  # fmt: skip
for source in inputs:
    for tolerance, steps in chains:
        tensor = F.pil_to_tensor(inputs[source])
        if source == "noise":  # is smaller
            resized = lambda rect: [min(rect[0], 9), min(rect[1], 9), min(rect[2], 31), min(rect[3], 24)]
            steps = [
                (op, {**v, "rect": resized(v["rect"])} if op == "crop" else v) for op, v in steps
            ]
            if steps[0][1]["size"] == [66, 51]:
                steps[0] = cropped([7, 4, 31, 24], [31, 24])
        for op, values in steps:
            tensor = step(tensor, op, values)
        steps = [{"op": op, **values} for op, values in steps]
        case("chain", source, tensor, tolerance=tolerance, steps=steps)

# Every byte in every channel, by the way that published recipes take.
ramp = PIL.Image.fromarray(np.arange(256, dtype=np.uint8)[None, :, None].repeat(3, 2))
normalise = v1.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])(v1.ToTensor()(ramp))


def quantiles(values):
    return [round(float(value), 6) for value in np.quantile(values, QUANTILES)]


def describe(draws, size, fallback=None):
    """Quantiles of rectangles (x, y, width, height) in a picture of `size`."""
    x, y, w, h = np.array(draws, dtype=np.float64).T
    values = {
        "area": w * h / (size[0] * size[1]),
        "ratio": w / h,
        "x": x + w / 2,
        "y": y + h / 2,
    }
    return {
        "size": size,
        "fallback": sum(tuple(draw) == fallback for draw in draws) / len(draws),
        "quantiles": {name: quantiles(v) for name, v in values.items()},
    }


def torchvision_boxes(size, scale):
    transform = v2.RandomResizedCrop(8, scale=scale)
    image = PIL.Image.new("RGB", size)
    draws = [transform.make_params([image]) for _ in range(DRAWS)]
    return [(d["left"], d["top"], d["width"], d["height"]) for d in draws]


def fastai_boxes(size):
    transform = fastai.RandomResizedCrop(8, min_scale=0.35)
    image = PIL.Image.new("RGB", size)
    draws = []
    for _ in range(DRAWS):
        transform.before_call(image, split_idx=0)
        draws.append((*transform.tl, *transform.cp_size))
    return draws


def erased(size):
    transform = v1.RandomErasing()
    image = torch.zeros(3, size[1], size[0])
    draws = []
    for _ in range(DRAWS):
        y, x, h, w, _ = transform.get_params(image, transform.scale, transform.ratio, [0.0])
        draws.append((x, y, w, h))
    return draws


# The third fits now and then, the last two never: all that remains is the fall-back.
distributions = []
for size, fallback in [
    ((213, 160), None),
    ((160, 213), None),
    ((500, 125), (166, 0, 167, 125)),
    ((2000, 20), (986, 0, 27, 20)),
    ((15, 1111), (0, 545, 15, 20)),
]:
    draws = torchvision_boxes(size, (0.08, 1.0))
    distributions.append({"of": "torchvision", **describe(draws, size, fallback)})
for size, fallback in [
    ((213, 160), None),
    ((500, 125), (167, 0, 166, 125)),
    ((2000, 20), (987, 0, 26, 20)),
    ((15, 1111), (0, 545, 15, 20)),
]:
    distributions.append({"of": "fastai", **describe(fastai_boxes(size), size, fallback)})
for size in [(213, 160), (64, 64)]:
    distributions.append({"of": "erasing", **describe(erased(size), size)})

jitter = v1.ColorJitter(0.8, 0.4, 1.2, 0.2)
presets = {
    "crop": {"scale": v1.RandomResizedCrop(8).scale, "ratio": v1.RandomResizedCrop(8).ratio},
    "jitter": [jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue],
    "erasing": {
        "p": v1.RandomErasing().p,
        "scale": v1.RandomErasing().scale,
        "ratio": v1.RandomErasing().ratio,
    },
    "flip": v1.RandomHorizontalFlip().p,
}

text = json.dumps(
    {
        "presets": presets,
        "probabilities": QUANTILES,
        "distributions": distributions,
        "cases": cases,
        "normalise": normalise.flatten().tolist(),
    },
)
# A line for each case and distribution, so that a change can be read.
for start in ['{"op"', '{"of"', '"cases"', '"normalise"']:
    text = text.replace(" " + start, "\n" + start)
(HERE / "reference.json").write_text(text + "\n")
