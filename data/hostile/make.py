"""Makes the damaged and odd pictures of this folder (Pillow 11 or newer with libjpeg-turbo, NumPy,
and `cjpeg` of libjpeg-turbo for what Pillow cannot write).

    python make.py

good/      odd but whole pictures
expected/  what each of them shows: RGB8 as PNG, by Pillow where Pillow is right
damaged/   files that must be refused
"""

import io
import shutil
import struct
import subprocess
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

HERE = Path(__file__).parent
GOOD, EXPECTED, DAMAGED = (HERE / name for name in ("good", "expected", "damaged"))
WIDTH, HEIGHT = 64, 48


def scene():
    """Smooth shading, one hard edge, no symmetry: a turned copy never looks like the original."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float64)
    red = 255 * x / (WIDTH - 1)
    green = 255 * y / (HEIGHT - 1)
    blue = 127 + 100 * np.sin(x / 9) * np.cos(y / 7)
    picture = np.stack([red, green, blue], -1)
    picture[8:20, 6:30] = (240, 200, 20)
    picture[30:44, 40:48] = (10, 30, 90)
    return picture.round().astype(np.uint8)


def encode(image, format, **options):
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def cjpeg(image, *options):
    """A JPEG that Pillow cannot write."""
    command = ["cjpeg", "-quality", "90", *options]
    return subprocess.run(command, input=encode(image, "PPM"), stdout=subprocess.PIPE, check=True).stdout


def chunk(kind, data):
    body = kind + data
    return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))


def png(pixels, colour, depth):
    """A PNG that Pillow cannot write; pixels are rows of bytes."""
    height, row = pixels.shape
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[colour]
    width = row // (channels * depth // 8)

    rows = b"".join(b"\0" + line.tobytes() for line in pixels)
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
            + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b""))


def interlaced(rgb):
    """Adam7, which Pillow reads but does not write."""
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
              (0, 1, 1, 2)]
    rows = b"".join(b"\0" + line.tobytes()
                    for x, y, dx, dy in passes for line in rgb[y::dy, x::dx])

    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 2, 0, 0, 1)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 9))
            + chunk(b"IEND", b""))


def one_scan_per_channel(rgb):
    """A sequential JPEG with three scans, spliced together from three grey ones."""
    parts = [encode(Image.fromarray(rgb[..., i]), "JPEG", quality=90) for i in range(3)]
    first = parts[0]
    frame, tables, scan = (first.index(marker) for marker in (b"\xff\xc0", b"\xff\xc4", b"\xff\xda"))
    size = first[frame + 4:frame + 9]
    header = b"\xff\xc0\x00\x11" + size + b"\x03R\x11\x00G\x11\x00B\x11\x00"
    joined = first[:frame] + header + first[tables:scan]
    # Without JFIF's header, the names R, G and B of the channels say that they are colours.
    jfif = first.index(b"\xff\xe0")
    joined = joined[:jfif] + joined[jfif + 18:]
    for name, part in zip(b"RGB", parts):
        start = part.index(b"\xff\xda")
        joined += b"\xff\xda\x00\x08\x01" + bytes([name, 0, 0, 63, 0]) + part[start + 10:-2]
    return joined + b"\xff\xd9"


def shown(data):
    """What a viewer shows: upright, first frame, transparency on white."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        paper = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(paper, image)
    return image.convert("RGB")


def good(name, data, expected=None):
    (GOOD / name).write_bytes(data)
    (expected or shown(data)).save(EXPECTED / f"{name}.png", optimize=True)


def damaged(name, data):
    (DAMAGED / name).write_bytes(data)


def main():
    for folder in (GOOD, EXPECTED, DAMAGED):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    rgb = scene()
    image = Image.fromarray(rgb)
    jpeg = encode(image, "JPEG", quality=90)
    progressive = encode(image, "JPEG", quality=90, progressive=True)

    # JPEG, whole.
    good("plain.jpg", jpeg)
    good("grey.jpg", encode(image.convert("L"), "JPEG", quality=90))
    good("progressive.jpg", progressive)
    good("progressive_grey.jpg", encode(image.convert("L"), "JPEG", quality=90, progressive=True))
    good("full_chroma.jpg", encode(image, "JPEG", quality=95, subsampling=0))
    good("rgb.jpg", encode(image, "JPEG", quality=90, keep_rgb=True))
    good("three_scans.jpg", one_scan_per_channel(rgb))
    good("restart.jpg", encode(image, "JPEG", quality=90, restart_marker_blocks=3))
    good("odd_size.jpg", encode(image.crop((0, 0, 61, 43)), "JPEG", quality=90))
    good("one_pixel.jpg", encode(image.crop((0, 0, 1, 1)), "JPEG", quality=90))
    good("flat.jpg", encode(Image.new("RGB", (200, 200), (90, 120, 30)), "JPEG", quality=90))
    wide = Image.fromarray(np.tile(rgb[:1], (1, 60, 1)))
    good("wide.jpg", encode(wide, "JPEG", quality=90))
    # Pillow writes CMYK as Adobe does, inverted, with the transform 0 (none). The same bytes with
    # the transform 2 are YCCK: other colours, but the same ones for every correct decoder.
    cmyk = encode(image.convert("CMYK"), "JPEG", quality=95, subsampling=0)
    adobe = cmyk.index(b"Adobe")
    good("cmyk.jpg", cmyk)
    good("ycck.jpg", cmyk[:adobe + 11] + b"\x02" + cmyk[adobe + 12:])
    good("cmyk_progressive.jpg", encode(image.convert("CMYK"), "JPEG", quality=95, progressive=True))
    # Each sampling of colour that cameras and programs write, and some that none does.
    for name, factors in (("422", "2x1"), ("440", "1x2"), ("411", "4x1"), ("441", "1x4"),
                          ("410", "4x2"), ("mixed", "2x2,2x1,1x1"), ("crossed", "2x1,1x2,1x1"),
                          ("3x1", "3x1"), ("finer_colour", "1x1,2x2,2x2")):
        good(f"sampling_{name}.jpg", cjpeg(image, "-sample", factors))
        good(f"sampling_{name}_progressive_restart.jpg",
             cjpeg(image, "-sample", factors, "-progressive", "-restart", "3B"))
    good("progressive_restart.jpg",
         encode(image, "JPEG", quality=90, progressive=True, restart_marker_blocks=3))
    good("progressive_restart_grey.jpg",
         encode(image.convert("L"), "JPEG", quality=90, progressive=True, restart_marker_blocks=1))
    good("progressive_full_chroma.jpg",
         encode(image, "JPEG", quality=95, subsampling=0, progressive=True))
    good("restart_rows.jpg", encode(image, "JPEG", quality=90, restart_marker_rows=1))
    good("restart_full_chroma.jpg",
         encode(image, "JPEG", quality=90, subsampling=0, restart_marker_blocks=8))
    small = image.crop((5, 9, 22, 18))
    good("size_17x9.jpg", encode(small, "JPEG", quality=90))
    good("size_17x9_progressive.jpg", encode(small, "JPEG", quality=90, progressive=True))
    good("size_17x9_411_restart.jpg", cjpeg(small, "-sample", "4x1", "-restart", "1B"))
    good("one_pixel_progressive.jpg", cjpeg(image.crop((0, 0, 1, 1)), "-progressive"))
    second = jpeg.index(b"\xff\xdb")
    good("stray_bytes.jpg", jpeg[:second] + b"stray" + jpeg[second:] + b"and more\xff\xd8")
    undo = [None, Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.ROTATE_180,
            Image.Transpose.FLIP_TOP_BOTTOM, Image.Transpose.TRANSPOSE, Image.Transpose.ROTATE_90,
            Image.Transpose.TRANSVERSE, Image.Transpose.ROTATE_270]
    for orientation, turn in enumerate(undo, start=1):
        stored = image if turn is None else image.transpose(turn)
        exif = Image.Exif()
        exif[0x0112] = orientation
        good(f"orientation_{orientation}.jpg",
             encode(stored, "JPEG", quality=95, subsampling=0, exif=exif))
        if orientation == 6:
            good("orientation_6.png", encode(stored, "PNG", exif=exif))
            good("orientation_6.webp", encode(stored, "WEBP", lossless=True, exif=exif))

    # The other formats, whole.
    good("png_named.JPEG", encode(image, "PNG"))
    good("one_pixel.png", encode(image.crop((0, 0, 1, 1)), "PNG"))
    good("grey.png", encode(image.convert("L"), "PNG"))
    good("two_colours.png", encode(image.convert("1"), "PNG"))
    good("palette.png", encode(image.quantize(16), "PNG"))
    good("interlaced.png", interlaced(rgb))
    deep = rgb.astype(">u2") * 257
    good("deep.png", png(deep.view(np.uint8).reshape(HEIGHT, -1), 2, 16), image)
    grey = np.asarray(image.convert("L"))
    good("deep_grey.png", png((grey.astype(">u2") * 257).view(np.uint8).reshape(HEIGHT, -1), 0, 16),
         Image.fromarray(grey).convert("RGB"))
    alpha = Image.fromarray(np.tile(np.linspace(0, 255, WIDTH).round().astype(np.uint8), (HEIGHT, 1)))
    clear = image.copy()
    clear.putalpha(alpha)
    good("alpha.png", encode(clear, "PNG"))
    good("grey_alpha.png", encode(clear.convert("LA"), "PNG"))
    good("palette_alpha.png", encode(image.quantize(16), "PNG", transparency=3))
    good("alpha.webp", encode(clear, "WEBP", lossless=True, exact=True))
    good("lossy.webp", encode(image, "WEBP", quality=80))
    good("lossless.webp", encode(image, "WEBP", lossless=True))
    good("plain.bmp", encode(image, "BMP"))
    good("palette.bmp", encode(image.quantize(16), "BMP"))
    frames = [image, *(image.transpose(turn) for turn in undo[1:4])]
    good("animated.gif", encode(frames[0].quantize(32), "GIF", save_all=True,
                                append_images=[f.quantize(32) for f in frames[1:]], duration=50))
    good("transparent.gif", encode(image.quantize(16), "GIF", transparency=3))
    good("animated.webp", encode(frames[0], "WEBP", save_all=True, append_images=frames[1:],
                                 lossless=True))

    # Damaged.
    damaged("empty.jpg", b"")
    damaged("text.jpg", b"This is not a picture.\n")
    damaged("magic_only.jpg", jpeg[:3])
    damaged("header_only.jpg", jpeg[:jpeg.index(b"\xff\xda")])
    damaged("truncated.jpg", jpeg[:len(jpeg) // 2 + 200])
    damaged("without_end_marker.jpg", jpeg[:-2])
    damaged("truncated_and_ended.jpg", jpeg[:len(jpeg) * 3 // 4] + b"\xff\xd9")
    damaged("truncated_progressive.jpg", progressive[:len(progressive) * 3 // 4])
    cut = progressive[:len(progressive) // 2]
    damaged("truncated_and_ended_progressive.jpg", cut + b"\xff\xd9")
    thumbnail = b"\xff\xe1" + struct.pack(">H", 2 + len(jpeg)) + jpeg
    damaged("truncated_with_thumbnail.jpg", jpeg[:2] + thumbnail + jpeg[2:len(jpeg) // 2 + 200])
    scan = jpeg.index(b"\xff\xda") + 14
    middle = (scan + len(jpeg)) // 2
    damaged("overwritten.jpg", jpeg[:middle] + b"\xff\x00" * 20 + jpeg[middle + 40:])
    damaged("marker_inside.jpg", jpeg[:middle] + b"\xff\xc4\x00\x02" + jpeg[middle + 4:])
    frame = jpeg.index(b"\xff\xc0")
    # Kinds of JPEG that are not read; for two of them the header alone says so.
    damaged("arithmetic.jpg", cjpeg(image, "-arithmetic"))
    damaged("arithmetic_progressive.jpg", cjpeg(image, "-arithmetic", "-progressive"))
    damaged("twelve_bits.jpg", jpeg[:frame] + b"\xff\xc1\x00\x11\x0c" + jpeg[frame + 5:])
    damaged("lossless.jpg", jpeg[:frame] + b"\xff\xc3" + jpeg[frame + 2:])
    damaged("bomb.jpg", jpeg[:frame + 5] + b"\xff\xff\xff\xff" + jpeg[frame + 9:])
    whole = encode(image, "PNG")
    damaged("truncated.png", whole[:len(whole) // 2])
    damaged("overwritten.png", whole[:len(whole) // 2] + b"\0" * 20 + whole[len(whole) // 2 + 20:])
    huge = png(np.zeros((1, 3), np.uint8), 2, 8)
    ihdr = b"IHDR" + struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    damaged("bomb.png", huge[:12] + ihdr + struct.pack(">I", zlib.crc32(ihdr)) + huge[33:])
    for name, format, options in (("truncated.gif", "GIF", {}), ("truncated.bmp", "BMP", {}),
                                  ("truncated.webp", "WEBP", {"quality": 80}),
                                  ("truncated_lossless.webp", "WEBP", {"lossless": True})):
        whole = encode(image, format, **options)
        damaged(name, whole[:len(whole) * 2 // 3])

    total = sum(path.stat().st_size for path in HERE.rglob("*") if path.is_file())
    print(f"{total} bytes in all")


if __name__ == "__main__":
    main()
