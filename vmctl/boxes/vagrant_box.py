"""What an unpacked Vagrant box says: its disks, provider, login, and the machine it wants to be.

Both formats of both providers: libvirt with one disk (v1) or several (v2), VirtualBox with metadata (v2) or without
(v1, of Vagrant 1.0).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from vmctl import json_text
from vmctl.box_facts import SEEDED_BY_VMCTL
from vmctl.boxes import box_names, ovf, vagrantfile
from vmctl.boxes.vagrantfile import Settings
from vmctl.driver import CONTAINER
from vmctl.errors import VmctlError
from vmctl.spec import GIB, MIB

METADATA = "metadata.json"
OVF_NAME = "box.ovf"
LIBVIRT_DISK = "box.img"
VAGRANTFILES = ("Vagrantfile", "include/_Vagrantfile")
KEY = "vagrant_private_key"
OURS = "vmctl"
"""What vmctl itself says in ``METADATA`` of a box that it packaged; Vagrant passes over it."""
LONGEST = 4 * 1024**2
MOST, DEFAULT_SIZE = 64 * 1024, 10 * GIB
"""Of a container's disk: the most GiB that anyone has a use for, and the bytes where a box does not say."""
HIGHEST_PORT = 65535
DEFAULT_USER = "vagrant"
INCUS = "incus"
"""Not one of Vagrant's: what vmctl calls boxes for containers."""
ROOT_FILE_SYSTEM = "rootfs.container"
PROVIDERS = ("libvirt", "virtualbox", INCUS)


class BadBox(VmctlError):
    """A box's metadata is missing, broken, or about something that vmctl cannot run."""

    def __init__(self, box: str, details: str, *, hint: str = "") -> None:
        super().__init__(
            f"{box} is not a box that vmctl can use",
            details=details,
            hint=hint or "unpack it with tar, and add the disk image in it by itself: vmctl box add --name NAME IMAGE",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class VagrantBox:
    """An unpacked Vagrant box. Sizes are bytes; None = the box does not say."""

    provider: str
    disks: tuple[Path, ...]
    """The disk images, the one to boot from first; all are files below the box's directory."""
    size: int = 0
    """Bytes of the disk for a root file system (``provider`` is ``INCUS``), which does not tell by itself."""
    config_drives: tuple[str, ...] = ()
    """As ``Ovf.config_drives``."""
    arch: str | None = None
    user: str = DEFAULT_USER
    password: str | None = field(default=None, repr=False)
    """What lets in besides its key, until the machine has a key of its own."""
    insert_key: bool = True
    """Whether the box's key is to be replaced by one of the machine's own (vmctl always does)."""
    ssh_port: int | None = None
    """Where the guest's SSH server listens; None = 22."""
    key: Path | None = None
    """The private key that logs in; None = Vagrant's published insecure one."""
    mac: str | None = None
    """What NIC 1 must be, for guests that tie their network settings to it."""
    cpus: int | None = None
    memory: int | None = None
    firmware: str = "bios"
    controller: str = ""
    """What its disk hangs on in VirtualBox (``Ovf.controller``); "" = it is for another provider."""
    share_project: bool = True
    """False: the box does not want the project's directory shared by default."""
    seeding: str = ""
    """What in it reads a seed, where vmctl packaged it (``BoxInfo.seeding``); "" = it does not say."""
    base: str = ""
    """The digest of the image of which the packaged machine was made; "" = it does not say."""
    info: Mapping[str, Any] = field(default_factory=dict)
    unread: tuple[str, ...] = ()
    """Lines of its Vagrantfile that vmctl does not understand."""


def read(root: Path, *, name: str) -> VagrantBox:
    """Read the box that was unpacked to ``root``.

    Args:
        root: a directory that ``vmctl.boxes.archive`` filled: only files and directories, no links.
        name: what the user calls the box, for errors.

    Raises:
        BadBox: what it says is missing, broken, or of no use to vmctl.
    """
    metadata = _metadata(root, name)
    provider = metadata.get("provider")
    if provider not in PROVIDERS:
        raise BadBox(name, f"it is for the provider {provider!r}; vmctl runs boxes for {' and '.join(PROVIDERS)}")
    settings = vagrantfile.read([_text(root / file, name) for file in VAGRANTFILES if (root / file).is_file()])
    described = _ovf(root, name) if provider == "virtualbox" else None
    disks = described.disks if described else _disks(metadata, provider, name)
    key = root / KEY
    return VagrantBox(
        provider=provider,
        disks=tuple(_file(root, disk, name) for disk in disks),
        size=_size(metadata) if provider == INCUS else 0,
        config_drives=described.config_drives if described else (),
        arch=_arch(metadata, name),
        user=_user(settings, name),
        password=settings.text("ssh.password"),
        insert_key=settings.values.get("ssh.insert_key") is not False,
        ssh_port=_ssh_port(settings, name),
        key=key if key.is_file() else None,
        mac=_mac(settings),
        cpus=settings.number(f"{provider}.cpus") or (described.cpus if described else None),
        memory=_memory(settings, provider) or (described.memory if described else None),
        firmware=_firmware(settings, provider, described),
        controller=described.controller if described else "",
        share_project="/vagrant" not in settings.disabled_folders,
        seeding=_seeding(metadata),
        base=_base(metadata),
        info=_object(root / "info.json", name) if (root / "info.json").is_file() else {},
        unread=settings.unread,
    )


def is_vagrant_box(root: Path) -> bool:
    """Whether an unpacked archive is a Vagrant box (and not, say, an OVA)."""
    return (root / METADATA).is_file() or (root / OVF_NAME).is_file()


def _metadata(root: Path, name: str) -> Mapping[str, Any]:
    path = root / METADATA
    if not path.is_file():
        if (root / OVF_NAME).is_file():
            return {"provider": "virtualbox"}  # Vagrant 1.0 knew no other
        raise BadBox(name, f"it has no {METADATA}")
    return _object(path, name)


def _object(path: Path, name: str) -> Mapping[str, Any]:
    try:
        value = json_text.loads(_text(path, name))
    except ValueError as error:
        raise BadBox(name, f"{path.name} in it is not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise BadBox(name, f"{path.name} in it is not a JSON object")
    return value


def _seeding(metadata: Mapping[str, Any]) -> str:
    ours = metadata.get(OURS)
    return SEEDED_BY_VMCTL if isinstance(ours, dict) and ours.get("seeding") == SEEDED_BY_VMCTL else ""


def _base(metadata: Mapping[str, Any]) -> str:
    ours = metadata.get(OURS)
    base = ours.get("base") if isinstance(ours, dict) else None
    return base if isinstance(base, str) and re.fullmatch(r"[0-9a-f]{64}", base) else ""


def _text(path: Path, name: str) -> str:
    if path.stat().st_size > LONGEST:
        raise BadBox(name, f"{path.name} in it is longer than {LONGEST} bytes")
    return path.read_text(encoding="utf-8-sig", errors="replace")


def _size(metadata: Mapping[str, Any]) -> int:
    size = metadata.get("virtual_size")
    return size * GIB if isinstance(size, int) and 0 < size <= MOST else DEFAULT_SIZE


def _disks(metadata: Mapping[str, Any], provider: str, name: str) -> tuple[str, ...]:
    if provider == INCUS:
        if metadata.get("format") != CONTAINER:
            raise BadBox(name, f"{METADATA}: format must be {CONTAINER!r}, not {metadata.get('format')!r}")
        return (ROOT_FILE_SYSTEM,)
    if "disks" in metadata:
        return _several(metadata["disks"], name)
    # virtual_size is not read: makers round it up or down, in units of 2^30 or 10^9; the image's own size counts
    if metadata.get("format") != "qcow2":
        raise BadBox(name, f"{METADATA}: format must be 'qcow2', not {metadata.get('format')!r}")
    return (LIBVIRT_DISK,)


def _several(disks: Any, name: str) -> tuple[str, ...]:
    if not isinstance(disks, list) or not disks or not all(isinstance(disk, dict) for disk in disks):
        raise BadBox(name, f"{METADATA}: disks must be a list of objects, each with a path")
    paths = [disk.get("path") for disk in disks]
    labels = [disk["name"] for disk in disks if "name" in disk]
    if not all(isinstance(path, str) and path for path in paths):
        raise BadBox(name, f"{METADATA}: every disk needs a path")
    if len(set(paths)) < len(paths) or len({str(label) for label in labels}) < len(labels):
        raise BadBox(name, f"{METADATA}: two disks have the same path or name")
    return tuple(paths)


def _ovf(root: Path, name: str) -> ovf.Ovf:
    path = root / OVF_NAME
    if not path.is_file():
        raise BadBox(name, f"it is for VirtualBox, but holds no {OVF_NAME}")
    try:
        return ovf.read(path)
    except ovf.BadOvf as error:
        raise BadBox(name, str(error)) from error


def _file(root: Path, relative: str, name: str) -> Path:
    """A file that the metadata names; it must be one that came out of the archive."""
    parts = PurePosixPath(relative).parts
    path = root.joinpath(*parts)
    if relative.startswith("/") or ".." in parts or "\0" in relative or not path.is_file():
        raise BadBox(name, f"its metadata names the disk {relative!r}, which is not in it")
    return path


def _arch(metadata: Mapping[str, Any], name: str) -> str | None:
    value = metadata.get("architecture")
    if value in (None, "", "unknown"):
        return None
    if not isinstance(value, str):
        raise BadBox(name, f"{METADATA}: architecture must be text, not {value!r}")
    if not box_names.ARCH.fullmatch(value):
        raise BadBox(name, f"{METADATA}: invalid architecture {value!r}")
    return box_names.architecture(value.lower())


def _user(settings: Settings, name: str) -> str:
    user = settings.text("ssh.username") or DEFAULT_USER
    if not box_names.USER.fullmatch(user):
        raise BadBox(name, f"its Vagrantfile says config.ssh.username = {user!r}, which is not a valid user name")
    return user


def _mac(settings: Settings) -> str | None:
    digits = (settings.text("vm.base_mac") or "").replace(":", "").replace("-", "").lower()
    return ":".join(re.findall("..", digits)) if re.fullmatch(r"[0-9a-f]{12}", digits) else None


def _ssh_port(settings: Settings, name: str) -> int | None:
    port = settings.number("ssh.guest_port")
    if port is not None and port > HIGHEST_PORT:
        raise BadBox(name, f"its Vagrantfile says config.ssh.guest_port = {port}, which is not a valid port")
    return port


def _memory(settings: Settings, provider: str) -> int | None:
    mebibytes = settings.number(f"{provider}.memory")
    return mebibytes * MIB if mebibytes else None


def _firmware(settings: Settings, provider: str, described: ovf.Ovf | None) -> str:
    if described:
        return described.firmware
    return "uefi" if settings.text(f"{provider}.loader") else "bios"
