"""Bytes on disks that no guest ever booted from: written and compared with qemu-io."""

from __future__ import annotations

from pathlib import Path

from msgspec import structs

from tests.contract.contract_parts import make_disk
from vmctl.driver import Disk
from vmctl.process import find, run
from vmctl.spec import MIB


def make_disks(directory: Path) -> Disk:
    """A box with two disks; each has its number at 1 MiB."""
    root = make_disk(directory)
    further = structs.replace(root, path=directory / "data.qcow2", digest="e" * 64, virtual_size=128 * MIB)
    run([find("qemu-img"), "create", "-q", "-f", "qcow2", further.path, str(further.virtual_size)])
    for number, disk in enumerate((root, further), 1):
        write(disk.path, number, at=MIB)
    return structs.replace(root, further=(further,))


def write(path: str | Path, byte: int, *, at: int) -> None:
    """Write 64 KiB of one byte."""
    run([find("qemu-io"), "-f", "qcow2", "-c", f"write -P {byte} {at} 64k", path])


def holds(path: str | Path, byte: int, *, at: int) -> None:
    """Fail unless 64 KiB of that byte are there."""
    run([find("qemu-io"), "-r", "-f", "qcow2", "-c", f"read -P {byte} {at} 64k", path])
