"""Writing a .box that vmctl and Vagrant's libvirt provider both take."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from vmctl import process
from vmctl.boxes import space
from vmctl.boxes.box import Box
from vmctl.boxes.vagrant_box import DEFAULT_USER, LIBVIRT_DISK, METADATA
from vmctl.errors import UsageError
from vmctl.spec import GIB
from vmctl.store import files

WORDS = {"x86_64": "amd64", "aarch64": "arm64"}
"""Vagrant's words for architectures, where they are not the kernel's."""
MODE = 0o644
LEVEL = 6


def repackage(box: Box, target: Path) -> None:
    """Write a box of the store as a .box file; an existing file is never replaced.

    Raises:
        UsageError: the target exists.
        VmctlError: the disk is full, or qemu-img failed.
    """
    if target.exists():
        raise UsageError(
            f"{target} exists already", hint=f"vmctl box repackage {box.name}@{box.version} --output OTHER"
        )
    with space.needed(target.parent, f"to write {target}"):
        if box.format == "qcow2":
            files.write_with(target, lambda stream: _write(stream, box, box.path), mode=MODE)
            return
        converted = target.with_name(f".{target.name}.qcow2")
        try:
            process.run([process.find("qemu-img", package="qemu-utils"), "convert", "-f", box.format, "-O", "qcow2",
                         box.path, converted])  # fmt: skip
            files.write_with(target, lambda stream: _write(stream, box, converted), mode=MODE)
        finally:
            converted.unlink(missing_ok=True)


def metadata(box: Box) -> dict[str, Any]:
    """``metadata.json``, with the three keys that Vagrant's libvirt provider insists on; sizes rounded up to GiB."""
    return {
        "provider": "libvirt",
        "format": "qcow2",
        "virtual_size": -(-box.virtual_size // GIB),
        "architecture": WORDS.get(box.arch, box.arch),
    }


def vagrantfile(box: Box) -> str:
    """The embedded Vagrantfile: the login user, and what the box says of its machines."""
    lines = ['Vagrant.configure("2") do |config|']
    lines += [f'  config.ssh.username = "{box.user}"'] if box.user != DEFAULT_USER else []
    lines += _provider(box.defaults)
    return "\n".join([*lines, "end", ""])


def _provider(defaults: Mapping[str, Any]) -> list[str]:
    memory = str(defaults.get("memory", ""))
    known = [f"    libvirt.cpus = {defaults['cpus']}"] if isinstance(defaults.get("cpus"), int) else []
    known += [f"    libvirt.memory = {memory.removesuffix('MiB')}"] if memory.endswith("MiB") else []
    return ["  config.vm.provider :libvirt do |libvirt|", *known, "  end"] if known else []


def _write(target: BinaryIO, box: Box, image: Path) -> None:
    info = box.provenance.get("vagrant", {}).get("info") or {"Source": box.source}
    with tarfile.open(fileobj=target, mode="w:gz", compresslevel=LEVEL, format=tarfile.GNU_FORMAT) as archive:
        _add(archive, METADATA, json.dumps(metadata(box)).encode())
        _add(archive, "info.json", json.dumps(info).encode())
        _add(archive, "Vagrantfile", vagrantfile(box).encode())
        with image.open("rb") as stream:
            member = tarfile.TarInfo(LIBVIRT_DISK)
            member.size, member.mode = image.stat().st_size, MODE
            archive.addfile(member, stream)


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(data), MODE
    archive.addfile(member, io.BytesIO(data))
