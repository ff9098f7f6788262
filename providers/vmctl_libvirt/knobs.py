"""The ``libvirt:`` section of a machine: names, values, defaults, and the faults in it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

from vmctl.errors import suggest
from vmctl.spec import MachineSpec
from vmctl_libvirt import uris
from vmctl_libvirt.patch import BadPatch, parse_patch

PROVIDER = "libvirt"
WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:+-]*")
CHOICES = {
    "disk_bus": ("virtio", "scsi", "sata"),
    "disk_cache": ("default", "none", "writeback", "writethrough", "directsync", "unsafe"),
    "video": ("none", "vga", "virtio", "qxl", "bochs"),
    "firmware": ("bios", "uefi"),
    "user_network": ("slirp", "passt"),
}


@dataclass(frozen=True, kw_only=True)
class LibvirtKnobs:
    """What the user asked of libvirt beyond the common keys; "" and None leave the choice to vmctl."""

    uri: str = ""
    """Connection; the same for all machines of a project."""
    machine: str = ""
    """Machine type: q35, pc, or a versioned name."""
    cpu: str = ""
    """host-passthrough, host-model, maximum, or a CPU model's name."""
    nested: bool | None = None
    """Whether the guest may run virtual machines itself."""
    disk_bus: str = "virtio"
    disk_cache: str = "default"
    video: str = "none"
    """A display adapter, shown by VNC on the loopback."""
    firmware: str = ""
    """bios or uefi; "" = what the box needs."""
    user_network: str = "slirp"
    management_network: str = ""
    """A libvirt network for NIC 1, in place of user-mode NAT."""
    xml: str = ""
    """A fragment of domain XML that is merged in last."""


@dataclass(frozen=True)
class Fault:
    """Something wrong with a machine, by its path below the machine ("libvirt.cpu")."""

    path: str
    message: str


NAMES = tuple(field.name for field in fields(LibvirtKnobs))


def read(spec: MachineSpec) -> LibvirtKnobs:
    """The knobs of a machine that ``faults`` found nothing wrong with."""
    return LibvirtKnobs(**{name: value for name, value in options(spec).items() if value is not None})


def options(spec: MachineSpec) -> Mapping[str, Any]:
    """The section as written."""
    return spec.options.get(PROVIDER) or {}


def faults(spec: MachineSpec) -> Iterator[Fault]:
    """All that is wrong with the section."""
    for name, value in options(spec).items():
        if message := _fault(name, value):
            yield Fault(f"{PROVIDER}.{name}", message)


def _fault(name: str, value: Any) -> str:
    if name not in NAMES:
        return "unknown key" + (suggest(str(name), NAMES) or f"; known: {', '.join(NAMES)}")
    if value is None:
        return ""
    if name == "nested":
        return "" if isinstance(value, bool) else "must be true or false"
    if not isinstance(value, str):
        return "must be a string"
    return _string_fault(name, value)


def _string_fault(name: str, value: str) -> str:
    if name in CHOICES:
        return "" if value in CHOICES[name] else f"must be one of {', '.join(CHOICES[name])}"
    if name == "xml":
        try:
            parse_patch(value)
        except BadPatch as error:
            return str(error)
        return ""
    if name == "uri":
        return uris.problem(value)
    return "" if WORD.fullmatch(value) else "must be a plain name"
