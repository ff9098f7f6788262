"""The ``libvirt:`` section of a machine: every knob with its kind, its meaning and its default."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any

from msgspec import Struct

from vmctl import knobs
from vmctl.knobs import Fault, Field, Mismatch, choice, flag, parsed, text
from vmctl.spec import MachineSpec
from vmctl_libvirt import uris
from vmctl_libvirt.patch import BadPatch, parse_patch

PROVIDER = "libvirt"
WORD = text("a plain name", r"[A-Za-z0-9][A-Za-z0-9_.:+-]*", "must be a plain name")


def _without(problem: Callable[[str], str]) -> Callable[[Any], str]:
    """Text that a function finds nothing wrong with."""

    def parse(value: Any) -> str:
        if not isinstance(value, str):
            raise Mismatch
        if message := problem(value):
            raise Mismatch(message)
        return value

    return parse


def _patch_problem(value: str) -> str:
    try:
        parse_patch(value)
    except BadPatch as error:
        return str(error)
    return ""


URI = parsed("a URI", _without(uris.problem), {"type": "string"})
XML = parsed("text", _without(_patch_problem), {"type": "string"})


class LibvirtKnobs(Struct, frozen=True, kw_only=True):
    """What the user asked of libvirt beyond the common keys; "" and None leave the choice to vmctl."""

    uri: Annotated[str, Field(URI, "Connection; the same for all machines of a project.")] = ""
    machine: Annotated[str, Field(WORD, "Machine type: q35, pc, or a versioned name.")] = ""
    cpu: Annotated[str, Field(WORD, "host-passthrough, host-model, maximum, or a CPU model's name.")] = ""
    nested: Annotated[bool | None, Field(flag(), "Whether the guest may run virtual machines itself.")] = None
    disk_bus: Annotated[str, Field(choice("virtio", "scsi", "sata"), "How the guest sees its disks.")] = "virtio"
    disk_cache: Annotated[
        str,
        Field(
            choice("default", "none", "writeback", "writethrough", "directsync", "unsafe"),
            "How QEMU caches what the guest writes.",
        ),
    ] = "default"
    video: Annotated[
        str,
        Field(choice("none", "vga", "virtio", "qxl", "bochs"), "A display adapter, shown by VNC on the loopback."),
    ] = "none"
    firmware: Annotated[str, Field(choice("bios", "uefi"), "What starts the guest; default: what the box needs.")] = ""
    user_network: Annotated[str, Field(choice("slirp", "passt"), "What NIC 1's user-mode NAT is made by.")] = "slirp"
    management_network: Annotated[str, Field(WORD, "A libvirt network for NIC 1, in place of user-mode NAT.")] = ""
    xml: Annotated[str, Field(XML, "A fragment of domain XML that is merged in last.")] = ""


def read(spec: MachineSpec) -> LibvirtKnobs:
    """The knobs of a machine that ``faults`` found nothing wrong with."""
    return knobs.read(LibvirtKnobs, options(spec))


def options(spec: MachineSpec) -> Mapping[str, Any]:
    """The section as written."""
    return spec.options.get(PROVIDER) or {}


def faults(spec: MachineSpec) -> Iterator[Fault]:
    """All that is wrong with the section."""
    return knobs.faults(LibvirtKnobs, PROVIDER, options(spec))
