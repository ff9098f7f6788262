"""Small disk images for tests, made without qemu-img."""

from __future__ import annotations

import struct
from pathlib import Path

CLUSTER = 65536
MIB = 1024**2


def qcow2(
    *, size: int = 64 * MIB, payload: bytes = b"x" * 1000, version: int = 3, backing: bytes = b"", features: int = 0,
    encrypted: int = 0, cluster_bits: int = 16,
) -> bytes:  # fmt: skip
    """A qcow2 image with one data cluster, which holds ``payload``; valid unless told otherwise."""
    l1, l2, refcounts, blocks, data = (CLUSTER * number for number in range(1, 6))
    backing_offset = 512 if backing else 0
    header = struct.pack(
        ">4sIQIIQIIQQIIQQQQII",
        b"QFI\xfb", version, backing_offset, len(backing), cluster_bits, size, encrypted, 1, l1,
        refcounts, 1, 0, 0, features, 0, 0, 4, 104,
    )  # fmt: skip
    image = bytearray(6 * CLUSTER)
    image[: len(header)] = header
    image[512 : 512 + len(backing)] = backing
    copied = 1 << 63
    struct.pack_into(">Q", image, l1, l2 | copied)
    struct.pack_into(">Q", image, l2, data | copied)
    struct.pack_into(">Q", image, refcounts, blocks)
    struct.pack_into(">6H", image, blocks, *[1] * 6)
    image[data : data + len(payload)] = payload
    return bytes(image)


def raw(*, size: int = 4 * MIB, payload: bytes = b"boot") -> bytes:
    """A raw disk with a boot sector and holes."""
    image = bytearray(size)
    image[: len(payload)] = payload
    image[510:512] = b"\x55\xaa"
    image[-512:] = b"z" * 512
    return bytes(image)


def write(path: Path, data: bytes) -> Path:
    """Write a file; its path."""
    path.write_bytes(data)
    return path
