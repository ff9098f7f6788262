"""Whether libvirt has the UEFI that a machine needs; it looks for that only when the machine is made or started."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree as ET

from vmctl.errors import UsageError
from vmctl_libvirt.domain import DEFAULT_MACHINES

UEFI = "uefi"
MISSING = "libvirt finds no UEFI firmware on its host"
INSTALL = "sudo apt-get install ovmf"


def is_offered(connection: Any, arch: str, machine: str) -> bool:
    """Whether libvirt can choose a UEFI for machines of a type ("" = vmctl's choice)."""
    machine = machine or DEFAULT_MACHINES.get(arch, "virt")
    return offers(connection.getDomainCapabilities(None, arch, machine, None, 0))


def offers(capabilities: str) -> bool:
    """Whether a domain's capabilities (XML) list it among the kinds of firmware to choose from."""
    root = ET.fromstring(capabilities)  # noqa: S314  libvirt made this text
    return any(value.text == "efi" for value in root.iterfind("os/enum[@name='firmware']/value"))


def refusal(box: str) -> UsageError:
    """The error for a box that needs it."""
    return UsageError(f"the box {box} boots by UEFI, and {MISSING}", hint=INSTALL)
