"""Makes the sample data set beside this script: labelled crops of free photographs.

    apt-get download lomiri-wallpapers-16.04 lomiri-wallpapers-20.04 gcompris-qt-data
    for deb in *.deb; do dpkg -x "$deb" "packages/${deb%%_*}"; done
    python make.py packages                # writes train/, val/, unsup/, LICENSES.md and overview.jpg
    python make.py packages --key key.csv  # also the class of every picture of unsup/, to measure how hard the set is

Needs Python 3.11, numpy and Pillow. The versions of the packages are in `sources.py`. Every draw comes from the seed, so
the same packages give the same crops; the bytes of a JPEG depend on the version of the encoder as well (Pillow 13.0
wrote the committed ones).
"""

import argparse
import io
import math
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

import licences
import rcc
from sources import FULL, SOURCES, TENTH, Source

HERE = Path(__file__).parent
SEED = 7

# Pictures per class and split.
COUNTS = {FULL: {"train": 60}, TENTH: {"train": 12, "unsup": 108, "val": 60}}

WIDTH = 1024  # px of a photograph's longer side, so that crops of all photographs have the same scale
CROP = (0.13, 0.27)  # shorter side of a crop, as a part of WIDTH
ASPECT = 4 / 3  # longer side of a crop over its shorter side, at most
ROTATION = 8  # degrees to either side, at most
SHORT = 96  # px of a sample's shorter side
DETAIL = 5.0  # mean step between neighbouring grey values (0 to 255) that a crop has at least: no empty sky
GREY = 0.04  # part of the samples that are stored as greyscale JPEG
QUALITY = 80  # of the JPEG files


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels, right and bottom exclusive."""

    left: int
    top: int
    right: int
    bottom: int

    def touches(self, other: "Box") -> bool:
        across = self.left < other.right and other.left < self.right
        return across and self.top < other.bottom and other.top < self.bottom

    def tuple(self) -> tuple[int, int, int, int]:
        return self.left, self.top, self.right, self.bottom


@dataclass(frozen=True)
class Photograph:
    """A photograph and the boxes its crops come from; `val` is empty for a class that is absent from val/."""

    image: Image.Image
    train: list[Box]
    val: list[Box]


def load(source: Source, packages: Path) -> Photograph:
    container, _, inner = source.file.partition("!")
    path = packages / source.package / container
    image = Image.open(io.BytesIO(rcc.read(path, inner)) if inner else path).convert("RGB")
    scale = WIDTH / max(image.size)
    image = image.resize([round(side * scale) for side in image.size], Image.LANCZOS)

    left, top, right, bottom = source.area
    rows = math.ceil(top * image.height), math.floor(bottom * image.height)

    def stripe(start: float, end: float) -> Box:
        return Box(math.ceil(start * image.width), rows[0], math.floor(end * image.width), rows[1])

    if source.val is None:
        return Photograph(image, [stripe(left, right)], [])
    start, end = source.val
    # A stripe too narrow for the smallest crop gives none.
    train = [box for box in (stripe(left, start), stripe(end, right)) if box.right - box.left > 1.2 * CROP[0] * WIDTH]
    val = stripe(start, end)
    assert train and not any(box.touches(val) for box in train), source.name
    return Photograph(image, train, [val])


def crop(image: Image.Image, boxes: list[Box], rng: np.random.Generator) -> tuple[Image.Image, Box]:
    """A random crop inside one of `boxes`, at its final size, and the box of all pixels that it was made from."""
    weights = np.array([(box.right - box.left) * (box.bottom - box.top) for box in boxes], float)
    while True:
        box = boxes[rng.choice(len(boxes), p=weights / weights.sum())]
        short, stretch = rng.uniform(*CROP) * WIDTH, ASPECT ** rng.uniform(-1, 1)
        width, height = (short * stretch, short) if stretch > 1 else (short, short / stretch)
        angle = rng.uniform(-ROTATION, ROTATION)
        cos, sin = math.cos(math.radians(angle)), abs(math.sin(math.radians(angle)))
        outer_width, outer_height = math.ceil(width * cos + height * sin), math.ceil(width * sin + height * cos)
        if outer_width > box.right - box.left or outer_height > box.bottom - box.top:
            continue
        left = int(rng.integers(box.left, box.right - outer_width, endpoint=True))
        top = int(rng.integers(box.top, box.bottom - outer_height, endpoint=True))
        used = Box(left, top, left + outer_width, top + outer_height)
        turned = image.crop(used.tuple()).rotate(angle, Image.BICUBIC)
        x, y = (outer_width - width) / 2, (outer_height - height) / 2
        scale = SHORT / min(width, height)
        size = round(width * scale), round(height * scale)
        sample = turned.resize(size, Image.LANCZOS, box=(x, y, x + width, y + height))
        grey = np.asarray(sample.convert("L"), float)
        if (np.abs(np.diff(grey, axis=0)).mean() + np.abs(np.diff(grey, axis=1)).mean()) / 2 >= DETAIL:
            return sample, used


def relight(sample: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Another exposure, white balance, saturation and contrast, a mirror image, now and then grey."""
    if rng.random() < 0.5:
        sample = sample.transpose(Image.FLIP_LEFT_RIGHT)
    x = (np.asarray(sample, float) / 255) ** math.exp(rng.normal(0, 0.22))
    x = x * np.exp(rng.normal(0, 0.1, 3)) * math.exp(rng.normal(0, 0.15))
    x = lerp(x @ [0.299, 0.587, 0.114], x, rng.uniform(0.2, 1.3))
    x = x.mean() + (x - x.mean()) * rng.uniform(0.7, 1.2)
    sample = Image.fromarray((x.clip(0, 1) * 255).round().astype(np.uint8))
    return sample.convert("L") if rng.random() < GREY else sample


def lerp(grey: np.ndarray, colour: np.ndarray, amount: float) -> np.ndarray:
    return grey[..., None] + (colour - grey[..., None]) * amount


def samples(index: int, source: Source, packages: Path) -> dict[str, list[Image.Image]]:
    """The samples of a class, per split."""
    photograph, made = load(source, packages), {}
    for number, split in enumerate(("train", "unsup", "val")):
        rng = np.random.default_rng([SEED, index, number])
        boxes, others = (photograph.val, photograph.train) if split == "val" else (photograph.train, photograph.val)
        made[split] = []
        for _ in range(COUNTS[source.role].get(split, 0)):
            sample, used = crop(photograph.image, boxes, rng)
            assert not any(used.touches(box) for box in others), f"{source.name}: a crop of {split} touches another split"
            made[split].append(relight(sample, rng))
    return made


def save(sample: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    sample.save(path, quality=QUALITY, optimize=True)


def overview(rows: list[list[Image.Image]], path: Path) -> None:
    """One row of small samples per class."""
    side, columns = 40, max(len(row) for row in rows)
    sheet = Image.new("RGB", (columns * (side + 2), len(rows) * (side + 2)), "white")
    for y, row in enumerate(rows):
        for x, sample in enumerate(row):
            sheet.paste(sample.convert("RGB").resize((side, side), Image.LANCZOS), (x * (side + 2), y * (side + 2)))
    sheet.save(path, quality=70, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Makes the sample data set from unpacked Debian packages.")
    parser.add_argument("packages", type=Path, help="folder with one folder per unpacked package")
    parser.add_argument("--key", type=Path, help="write the class of every picture of unsup/ to this CSV file")
    arguments = parser.parse_args()

    for split in ("train", "val", "unsup"):
        shutil.rmtree(HERE / split, ignore_errors=True)
    unsup, rows = [], []
    for index, source in enumerate(SOURCES):
        made = samples(index, source, arguments.packages)
        unsup += [(source.name, sample) for sample in made["unsup"]]
        rows.append(made["train"][:8] + (made["val"][:4] or made["train"][8:12]))
        for split in ("train", "val"):
            for number, sample in enumerate(made[split]):
                save(sample, HERE / split / source.name / f"{number:03}.jpg")

    order = np.random.default_rng(SEED).permutation(len(unsup))
    key = []
    for number, place in enumerate(order):
        name, sample = unsup[place]
        save(sample, HERE / "unsup" / f"{number:04}.jpg")
        key.append(f"{number:04}.jpg,{name}\n")
    if arguments.key:
        arguments.key.write_text("".join(key))
    overview(rows, HERE / "overview.jpg")
    (HERE / "LICENSES.md").write_text(licences.text())


if __name__ == "__main__":
    main()
