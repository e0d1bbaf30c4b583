"""Reads one file out of a Qt binary resource container (`.rcc`), the form in which GCompris ships its pictures.

Layout: the magic `qres`, then big-endian 32-bit numbers (version, offset of the tree, of the data, of the names). A node
of the tree is (name offset u32, flags u16, then for a folder count u32 and first child u32, for a file locale u32 and
data offset u32), 14 bytes in version 1 and 22 bytes from version 2 on. A name is (length u16, hash u32, UTF-16 text), a
file's data is (length u32, bytes).
"""

import struct
import zlib
from pathlib import Path

ZLIB, FOLDER = 1, 2


def read(container: Path, path: str) -> bytes:
    """The bytes of the file at `path` (folders joined by `/`) in `container`."""
    blob = container.read_bytes()
    if blob[:4] != b"qres":
        raise ValueError(f"{container} is no Qt resource container")
    version, tree, data, names = struct.unpack_from(">4I", blob, 4)
    node_size = 14 if version < 2 else 22

    def name(node: int) -> str:
        at = names + struct.unpack_from(">I", blob, node)[0]
        length = struct.unpack_from(">H", blob, at)[0]
        return blob[at + 6 : at + 6 + 2 * length].decode("utf-16-be")

    node = tree
    for part in path.split("/"):
        count, first = struct.unpack_from(">II", blob, node + 6)
        children = [tree + child * node_size for child in range(first, first + count)]
        found = [child for child in children if name(child) == part]
        if not found:
            raise ValueError(f"{container} holds no {path}")
        node = found[0]

    flags = struct.unpack_from(">H", blob, node + 4)[0]
    if flags & FOLDER:
        raise ValueError(f"{path} in {container} is a folder")
    at = data + struct.unpack_from(">I", blob, node + 10)[0]
    length = struct.unpack_from(">I", blob, at)[0]
    content = blob[at + 4 : at + 4 + length]
    return zlib.decompress(content[4:]) if flags & ZLIB else content
