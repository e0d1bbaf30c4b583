"""Makes a folder of 1,000 photographs of 160 px short side for the benchmarks (Pillow).

    python corpus.py FOLDER

Mosaics of data/sample at its own scale: baseline JPEG, quality 90, 4:2:0, as Image网's smallest
archive has them.
"""

import random
import sys
from pathlib import Path

from PIL import Image

SAMPLE = Path(__file__).parents[3] / "data" / "sample"
COUNT = 1000


def mosaic(photographs, rng, width, height):
    sheet = Image.new("RGB", (width, height))
    for top in range(0, height, 96):
        left = 0
        while left < width:
            tile = Image.open(rng.choice(photographs)).convert("RGB")
            sheet.paste(tile, (left, top))
            left += tile.width
    return sheet


def main():
    photographs = sorted(SAMPLE.rglob("*.jpg"))
    folder, rng = Path(sys.argv[1]), random.Random(0)
    for i in range(COUNT):
        path = folder / "train" / "ab"[i % 2] / f"{i:04d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        size = (213, 160) if i % 3 else (160, 213)
        mosaic(photographs, rng, *size).save(path, quality=90, subsampling="4:2:0")


if __name__ == "__main__":
    main()
