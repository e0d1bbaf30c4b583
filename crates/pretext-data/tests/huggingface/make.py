"""Makes the Parquet files of this folder as Hugging Face's `datasets` does (datasets, Pillow).

    python make.py

Seven pictures of one colour in two splits; picture `i` has the red value `i`.
"""

from pathlib import Path

from datasets import ClassLabel, Dataset, Features, Image, Value
from PIL import Image as Picture

HERE = Path(__file__).parent
FEATURES = Features({
    "id": Value("string"),
    "image": Image(),
    "label": ClassLabel(names=["zebra", "ant", "cat"]),
})


def rows(numbers, labels):
    pictures = [Picture.new("RGB", (3 + i, 2), (i, 20, 30)) for i in numbers]
    return {"id": [f"no. {i}" for i in numbers], "image": pictures, "label": labels}


def main():
    splits = {"train": rows(range(5), [2, 0, 1, None, 2]), "validation": rows([5, 6], [0, 2])}
    for split, content in splits.items():
        dataset = Dataset.from_dict(content, features=FEATURES)
        dataset.to_parquet(HERE / f"{split}-00000-of-00001.parquet", batch_size=3)


if __name__ == "__main__":
    main()
