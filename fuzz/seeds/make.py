"""Makes the seeds of the fuzz targets `dataset`, `checkpoint` and `record` (those of `decode` are
the pictures in data/hostile). Needs pyarrow and Pillow; run beside a stopped and a finished run:

    python3 fuzz/seeds/make.py runs/stopped/checkpoint.safetensors runs/finished/record.json
"""

import io
import json
import struct
import sys
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

SEEDS = Path(__file__).parent


def write(target, name, data):
    folder = SEEDS / target
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(data)


def safetensors(tensors, metadata):
    header, body = {"__metadata__": metadata}, b""
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + body


def picture(kind):
    out = io.BytesIO()
    Image.new("RGB", (3, 2), (200, 80, 20)).save(out, kind)
    return out.getvalue()


def cache():
    """One picture of each split; a source that is nowhere is not looked for."""
    numbers = lambda form, values: struct.pack(f"<{len(values)}{form}", *values)
    counts = {"train": "1", "val": "1", "unsup": "1", "damaged": "0", "ignored": "0"}
    about = {"format": "pretext-cache", "version": "2", "classes": '["a"]', "fingerprint": "f", "stamp": "s"}
    names = b"train/a/1.png\0val/a/1.png\0unsup/0123456789abcdef\0"
    return safetensors(
        {
            "offsets": ("I64", [4], numbers("q", [0, 18, 36, 54])),
            "sizes": ("U32", [3, 2], numbers("I", [3, 2] * 3)),
            "labels": ("U32", [3], numbers("I", [0, 0, 2**32 - 1])),
            "names": ("U8", [len(names)], names),
            "pixels": ("U8", [54], bytes(range(54))),
            "split": ("U8", [3], bytes([0, 1, 2])),
        },
        about | counts | {"source": "", "size": "full"},
    )


def tar():
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in [("000.png", picture("PNG")), ("000.cls", b"0"), ("001.jpg", picture("JPEG")), ("001.json", b'{"label":1}')]:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def parquet(compression):
    out = io.BytesIO()
    images = [{"bytes": picture("PNG"), "path": "a.png"}, {"bytes": picture("JPEG"), "path": None}]
    table = pa.table({"image": images, "label": pa.array([0, 1], pa.int64())})
    pq.write_table(table, out, compression=compression)
    return out.getvalue()


def checkpoint(path):
    """Its words, and two small tensors in the place of its own."""
    data = Path(path).read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    words = json.loads(data[8 : 8 + length])["__metadata__"]
    return safetensors(
        {"model.a.weight": ("F32", [2, 1], bytes(8)), "optimiser.a.weight.first": ("F32", [2, 1], bytes(8))}, words
    )


write("dataset", "cache", b"\0" + cache())
write("dataset", "tar", b"\1" + tar())
for compression in ["none", "snappy", "zstd"]:
    write("dataset", f"parquet-{compression}", b"\2" + parquet(compression))
write("checkpoint", "checkpoint", checkpoint(sys.argv[1]))
write("checkpoint", "absurd", struct.pack("<Q", 2**62) + b'{"a":{"dtype":"F32"}}')
write("checkpoint", "absurd-shape", safetensors({"a": ("F32", [2**40, 2**40], b"")}, {}))
# `dataset/parquet-panic` was found: the library panics on it, which is caught.
write("record", "record.json", Path(sys.argv[2]).read_bytes())
