"""Disk images in other tools' formats, made into qcow2: VMDK, VDI, VHDX and VHD.

A VMDK may name further files, or a parent; a stranger's could so show the guest any file of the host. Such an image
is refused before qemu-img opens it for reading.
"""

from __future__ import annotations

import re
import signal
import struct
from pathlib import Path

from vmctl import json_text, process
from vmctl.boxes import space
from vmctl.boxes.image import LARGEST, NotAnImage
from vmctl.errors import VmctlError, shell_command

VMDK, VMDK_TEXT = b"KDMV", b"# Disk DescriptorFile"
VDI_MAGIC, VDI_PLACE = b"\x7f\x10\xda\xbe", 0x40
MAGICS = {VMDK: "vmdk", VMDK_TEXT: "vmdk", b"COWD": "vmdk", b"vhdxfile": "vhdx", b"conectix": "vpc"}
VDI_LAYOUT = struct.Struct("<I28xI8xI")
"""From 0x158: where the data begins, …, block size, …, number of blocks that are there."""
VDI_LAYOUT_PLACE = 0x158
VMDK_HEADER = struct.Struct("<4sIIQQQQ")
"""Magic, version, flags, capacity, grain size, place and size of the descriptor (in sectors)."""
SECTOR = 512
LONGEST_DESCRIPTOR = 2048
NO_PARENT = re.compile(rb"^\s*parentCID\s*=\s*f{8}\s*$", re.IGNORECASE | re.MULTILINE)
PARENT = re.compile(rb"parentCID\s*=|parentFileNameHint\s*=", re.IGNORECASE)
INFO_DEADLINE = 60.0
CORRUPT = 2
"""Exit status of `qemu-img check`; formats that it cannot check end otherwise."""


def sniff(path: Path) -> str | None:
    """qemu-img's name of the image's format, if it is one of the foreign ones."""
    with path.open("rb") as stream:
        head = stream.read(SECTOR)
    if head[VDI_PLACE:].startswith(VDI_MAGIC):
        return "vdi"
    return next((kind for magic, kind in MAGICS.items() if head.startswith(magic)), None)


def to_qcow2(source: Path, target: Path, *, name: str) -> None:
    """Convert a foreign image, zeros as holes.

    Args:
        source: the image, as ``sniff`` knows it.
        target: the new qcow2 file.
        name: what the user calls the image, for errors.

    Raises:
        NotAnImage: it is damaged, or refers to other files.
        VmctlError: qemu-img is not installed, or failed for another reason (a full disk).
    """
    kind = sniff(source)
    if kind is None:
        raise NotAnImage(name, "It is in none of the formats that can be converted.")
    if kind == "vmdk":
        _check_vmdk(source, name)
    elif kind == "vdi":
        _check_vdi(source, name)
    qemu_img = process.find("qemu-img", package="qemu-utils")
    try:
        done = process.run(
            [qemu_img, "info", "--output=json", "-f", kind, "--", source.absolute()], deadline=INFO_DEADLINE
        )  # fmt: skip
        answer = json_text.loads(done.stdout)
        if any("backing" in key for key in answer):
            raise NotAnImage(name, "It is an overlay: it refers to a parent image.")
        if answer.get("virtual-size", 0) > LARGEST:
            raise NotAnImage(name, f"Its virtual size is {answer['virtual-size']} bytes.")
        if process.run([qemu_img, "check", "-q", "-f", kind, "--", source.absolute()], check=False).status == CORRUPT:
            raise NotAnImage(name, f"It is a damaged or truncated {kind.upper()} image.")
        _convert(qemu_img, kind, source, target, name=name)
    except process.CommandFailed as error:
        complaint = error.completed.stderr.strip()
        if "No space left" in complaint:
            raise VmctlError(
                f"no space left to convert {name}", details=complaint, hint=shell_command("df", "-h", target.parent)
            ) from error
        raise NotAnImage(name, f"It is a damaged {kind.upper()} image: {complaint}") from error


def _convert(qemu_img: str, kind: str, source: Path, target: Path, *, name: str) -> None:
    """Convert, up to the disk's reserve: a small image may say of many places that the same block is there."""
    room = space.available(target.parent)
    limited: list[str | Path] = [process.find("prlimit", package="util-linux"), f"--fsize={room}", "--"]
    argv: list[str | Path] = [
        qemu_img,
        "convert",
        "-f",
        kind,
        "-O",
        "qcow2",
        "--",
        source.absolute(),
        target.absolute(),
    ]
    try:
        process.run([*limited, *argv])
    except process.CommandFailed as error:
        if error.completed.status == -signal.SIGXFSZ or "File too large" in error.completed.stderr:
            space.require(target.parent, room + 1, f"to convert {name}")
        raise


def _check_vdi(path: Path, name: str) -> None:
    """qemu-img takes what is missing at the end of a VDI for zeros."""
    with path.open("rb") as stream:
        head = stream.read(SECTOR)
    if len(head) < SECTOR:
        raise NotAnImage(name, "It is a damaged or truncated VDI image.")
    begin, block, count = VDI_LAYOUT.unpack_from(head, VDI_LAYOUT_PLACE)
    if path.stat().st_size < begin + block * count:
        raise NotAnImage(name, "It is a damaged or truncated VDI image.")


def _check_vmdk(path: Path, name: str) -> None:
    with path.open("rb") as stream:
        head = stream.read(SECTOR)
        if not head.startswith(VMDK) or len(head) < SECTOR:
            raise NotAnImage(name, "It is a VMDK that keeps its data in other files. Export it as one file.")
        _, _, _, capacity, _, place, size = VMDK_HEADER.unpack_from(head)
        if not capacity:
            raise NotAnImage(name, "It is a VMDK that keeps its data in other files. Export it as one file.")
        if size > LONGEST_DESCRIPTOR or path.stat().st_size % SECTOR:
            raise NotAnImage(name, "It is a damaged or truncated VMDK image.")
        stream.seek(min(place * SECTOR, 1 << 62))
        descriptor = stream.read(size * SECTOR)
    if PARENT.search(NO_PARENT.sub(b"", descriptor)):
        raise NotAnImage(name, "It is an overlay: it refers to a parent image.")
