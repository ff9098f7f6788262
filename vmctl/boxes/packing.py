"""Writing a .box that vmctl and, but for those with containers, Vagrant's providers for libvirt and VirtualBox take."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from vmctl import interrupt, process
from vmctl.box_facts import SEEDED_BY_VMCTL
from vmctl.boxes import image, space
from vmctl.boxes.box import BASE, OWN, OWN_KEY, Box
from vmctl.boxes.vagrant_box import (
    DEFAULT_USER,
    INCUS,
    KEY,
    LIBVIRT_DISK,
    METADATA,
    OURS,
    OVF_NAME,
    ROOT_FILE_SYSTEM,
)
from vmctl.driver import CONTAINER
from vmctl.errors import UsageError, shell_command
from vmctl.spec import DEFAULT_SSH_PORT, GIB
from vmctl.store import files

WORDS = {"x86_64": "amd64", "aarch64": "arm64"}
"""Vagrant's words for architectures, where they are not the kernel's."""
MODE = 0o644
LEVEL = 4
"""Of gzip: takes half as long as the usual 6 for a file that is 2.4 % larger (debian-12's disk: 35.5 and 36.4 %)."""
LOADER = "/usr/share/OVMF/OVMF_CODE.fd"
"""Of Debian and Ubuntu; vagrant-libvirt wants a path for UEFI, vmctl takes any for it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Contents:
    """What a .box is made of."""

    disks: tuple[Path, ...]
    """qcow2 files, the one to boot from first; or those that the descriptor names."""
    descriptor: Path | None = None
    """An OVF: the box is for VirtualBox then, else for libvirt."""
    form: str = "qcow2"
    """``CONTAINER``: the box is for Incus and LXD, and its only disk the image of a root file system."""
    size: int = 0
    """Bytes of the disk for that."""
    arch: str
    user: str
    firmware: str = "bios"
    ssh_port: int = DEFAULT_SSH_PORT
    """Where the guest's SSH server listens."""
    password: str = field(default="", repr=False)
    """What lets in besides the key; "" = nothing."""
    mac: str = ""
    """What NIC 1 must be; "" = anything."""
    cpus: int | None = None
    memory: int | None = None
    """MiB."""
    key: Path | None = None
    """The private key that lets in; None = the one that Vagrant publishes."""
    seeding: str = ""
    """What in it reads a seed, where that is known (``BoxInfo.seeding``)."""
    base: str = ""
    """The digest of the image of which the machine was made that is packaged."""
    info: Mapping[str, Any] = field(default_factory=dict)
    include: tuple[Path, ...] = ()
    """Further files, which land in ``include/``."""

    @property
    def provider(self) -> str:
        """For which provider, in Vagrant's words where it has one."""
        if self.form == CONTAINER:
            return INCUS
        return "virtualbox" if self.descriptor else "libvirt"


def repackage(box: Box, target: Path) -> None:
    """Write a box from the store to a .box file; an existing file is never replaced.

    Raises:
        UsageError: the target exists.
        VmctlError: the disk is full, or qemu-img failed.
    """
    check_target(target, f"vmctl box repackage {box.name}@{box.version} --output OTHER")
    memory = str(box.defaults.get("memory", ""))
    with space.needed(target.parent, f"to write {target}"), ExitStack() as stack:
        disks = [_as_qcow2(box.directory / one.image_name, one.format, target, stack) for one in box.images]
        contents = Contents(
            disks=tuple(disks),
            form=CONTAINER if box.format == CONTAINER else "qcow2",
            size=box.virtual_size,
            arch=box.arch,
            user=box.user,
            firmware=box.firmware,
            cpus=box.defaults["cpus"] if isinstance(box.defaults.get("cpus"), int) else None,
            memory=int(memory.removesuffix("MiB")) if memory.endswith("MiB") else None,
            ssh_port=box.defaults.get("ssh_port", DEFAULT_SSH_PORT),
            password=box.first_login_password() or "",
            seeding=box.seeding,
            base=box.provenance.get(BASE, ""),
            key=box.directory / OWN_KEY if box.first_key == OWN else None,
            info=box.provenance.get("vagrant", {}).get("info") or {"Source": box.source},
        )
        write(contents, target)


def _as_qcow2(path: Path, form: str, target: Path, stack: ExitStack) -> Path:
    """The image: itself if a .box takes its format, or a conversion beside ``target`` that goes with ``stack``."""
    if form in ("qcow2", CONTAINER):
        return path
    converted = target.with_name(f".{target.name}.{path.stem[:16]}.qcow2")
    stack.callback(converted.unlink, missing_ok=True)
    process.run(
        [process.find("qemu-img", package="qemu-utils"), "convert", "-f", form, "-O", "qcow2", "--", path, converted]
    )
    return converted


def check_target(target: Path, hint: str) -> None:
    """See that nothing is there yet.

    Raises:
        UsageError: something is, or its directory is not.
    """
    if target.exists():
        raise UsageError(f"{target} exists already", hint=hint)
    if not target.parent.is_dir():
        raise UsageError(f"there is no directory {target.parent}", hint=shell_command("mkdir", "-p", target.parent))


def write(contents: Contents, target: Path) -> None:
    """Write the .box; it appears whole or not at all.

    Raises:
        OSError: the disk is full, or cannot be written.
        Interrupted: the user asked to stop.
    """
    files.write_with(target, lambda stream: _write(stream, contents), mode=MODE)


def metadata(contents: Contents) -> dict[str, Any]:
    """``metadata.json``, with the keys that Vagrant's providers insist on; sizes rounded up to GiB."""
    metadata: dict[str, Any] = {"provider": contents.provider, "architecture": WORDS.get(contents.arch, contents.arch)}
    ours = {"seeding": contents.seeding} if contents.seeding == SEEDED_BY_VMCTL else {}
    ours |= {"base": contents.base} if contents.base else {}
    metadata |= {OURS: ours} if ours else {}
    if contents.descriptor:
        return metadata
    if contents.form == CONTAINER:
        return {**metadata, "format": CONTAINER, "virtual_size": -(-contents.size // GIB)}
    if len(contents.disks) > 1:
        return {**metadata, "format": "qcow2", "disks": [{"path": name} for name in _names(contents)]}
    size = image.inspect(contents.disks[0], str(contents.disks[0])).virtual_size
    return {**metadata, "format": "qcow2", "virtual_size": -(-size // GIB)}


def vagrantfile(contents: Contents) -> str:
    """The embedded Vagrantfile: the login, and what the box says of its machines."""
    lines = ['Vagrant.configure("2") do |config|']
    lines += [f'  config.ssh.username = "{contents.user}"'] if contents.user != DEFAULT_USER else []
    if contents.key:
        lines.append(f'  config.ssh.private_key_path = File.expand_path("../{KEY}", __FILE__)')
    if contents.password:
        lines.append(f"  config.ssh.password = {_quoted(contents.password)}")
    if contents.ssh_port != DEFAULT_SSH_PORT:
        lines.append(f"  config.ssh.guest_port = {contents.ssh_port}")
    if contents.mac:
        lines.append(f'  config.vm.base_mac = "{contents.mac.replace(":", "").upper()}"')
    lines += _provider(contents)
    return "\n".join([*lines, "end", ""])


def _quoted(text: str) -> str:
    """A literal for Ruby that expands nothing."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _provider(contents: Contents) -> list[str]:
    settings = {"cpus": contents.cpus, "memory": contents.memory}
    known = [f"    machine.{name} = {value}" for name, value in settings.items() if value]
    if contents.firmware == "uefi" and not contents.descriptor:
        known.append(f'    machine.loader = "{LOADER}"')
    return [f"  config.vm.provider :{contents.provider} do |machine|", *known, "  end"] if known else []


def _names(contents: Contents) -> list[str]:
    """What the disks are called in the box."""
    if contents.descriptor:
        return [disk.name for disk in contents.disks]
    if contents.form == CONTAINER:
        return [ROOT_FILE_SYSTEM]
    if len(contents.disks) == 1:
        return [LIBVIRT_DISK]
    return [f"box_{number}.img" for number in range(1, len(contents.disks) + 1)]


def _write(target: BinaryIO, contents: Contents) -> None:
    with tarfile.open(fileobj=target, mode="w:gz", compresslevel=LEVEL, format=tarfile.GNU_FORMAT) as archive:
        texts = {METADATA: json.dumps(metadata(contents)), "Vagrantfile": vagrantfile(contents)}
        if contents.info:
            texts["info.json"] = json.dumps(contents.info)
        for name, text in texts.items():
            _add(archive, name, len(text.encode()), io.BytesIO(text.encode()))
        for name, path in _files(contents):
            with path.open("rb") as stream:
                _add(archive, name, path.stat().st_size, stream)


def _files(contents: Contents) -> Iterator[tuple[str, Path]]:
    if contents.key:
        yield KEY, contents.key
    if contents.descriptor:
        yield OVF_NAME, contents.descriptor
    for path in contents.include:
        yield f"include/{path.name}", path
    yield from zip(_names(contents), contents.disks, strict=True)


def _add(archive: tarfile.TarFile, name: str, size: int, stream: BinaryIO) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, MODE
    archive.addfile(member, _InterruptibleReader(stream))


@dataclass(frozen=True, slots=True)
class _InterruptibleReader:
    """A stream that ends when the user asks to stop."""

    stream: BinaryIO

    def read(self, size: int = -1) -> bytes:
        interrupt.check()
        return self.stream.read(size)
