"""The ``virtualbox:`` section of a machine: names, values, defaults, and the faults in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from vmctl.errors import suggest
from vmctl.spec import MachineSpec

PROVIDER = "virtualbox"
PRE_BOOT = "pre-boot"
POST_BOOT = "post-boot"
EVENTS = (PRE_BOOT, POST_BOOT)
ID = ":id"
CONTROLLERS = ("auto", "sata", "virtio")
NIC_TYPES = ("virtio", "82540EM", "82543GC", "82545EM", "Am79C970A", "Am79C973")
PARAVIRT = ("default", "none", "legacy", "minimal", "hyperv", "kvm")
HOSTONLY = "hostonly"
INTERNAL = "internal"
BRIDGED = "bridged:"
VRAM_LIMIT = 256
COMMANDS = [
    "bandwidthctl",
    "controlvm",
    "dhcpserver",
    "guestcontrol",
    "guestproperty",
    "hostonlyif",
    "hostonlynet",
    "modifymedium",
    "modifynvram",
    "modifyvm",
    "natnetwork",
    "setextradata",
    "setproperty",
    "sharedfolder",
    "storageattach",
    "storagectl",
    "usbfilter",
]
"""What ``customize`` may run: commands that change a machine's settings, not its existence or its state on disk."""


@dataclass(frozen=True, kw_only=True)
class VirtualBoxKnobs:
    """What the user asked of VirtualBox beyond the common keys."""

    gui: bool = False
    """Show the machine in a window."""
    linked_clone: bool = True
    """Keep only the differences to the box, rather than a full copy."""
    vram: int = 16
    """Video memory in MiB."""
    nic_type: str = "virtio"
    paravirt: str = "default"
    nested: bool = False
    """Whether the guest may run virtual machines itself."""
    controller: str = "auto"
    """auto = virtio for boxes made for KVM (qcow2, raw), sata for VirtualBox's and VMware's own formats."""
    networks: Mapping[str, str] = field(default_factory=dict)
    """How a network of the Vmfile is attached: hostonly (default), internal, or bridged:HOST-INTERFACE."""
    customize: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """(event, VBoxManage arguments); ``:id`` stands for the machine."""
    force: bool = False
    """Try even where KVM holds the processor's virtualization."""

    def commands(self, event: str) -> tuple[tuple[str, ...], ...]:
        """The commands of an event, in order."""
        return tuple(words for when, words in self.customize if when == event)


@dataclass(frozen=True)
class Fault:
    """Something wrong with a machine, by its path below the machine ("virtualbox.vram")."""

    path: str
    message: str


NAMES = tuple(each.name for each in fields(VirtualBoxKnobs))


def options(spec: MachineSpec) -> Mapping[str, Any]:
    """The section as written."""
    return spec.options.get(PROVIDER) or {}


def read(spec: MachineSpec) -> VirtualBoxKnobs:
    """The knobs of a machine that ``faults`` found nothing wrong with."""
    given = {name: value for name, value in options(spec).items() if value is not None}
    if "customize" in given:
        given["customize"] = tuple(_command(entry) for entry in given["customize"])
    return VirtualBoxKnobs(**given)


def faults(spec: MachineSpec) -> Iterator[Fault]:
    """All that is wrong with the section."""
    known = [network.name for network in spec.networks]
    for name, value in options(spec).items():
        path = f"{PROVIDER}.{name}"
        if name not in NAMES:
            yield Fault(path, f"unknown key{_near(str(name), NAMES)}")
        elif value is not None:
            for message in CHECKS.get(name, _boolean)(value):
                yield Fault(path, message)
            if name == "networks" and isinstance(value, Mapping):
                yield from (
                    Fault(path, f"no network {each!r}{_near(str(each), known)}") for each in value if each not in known
                )


def _near(word: str, known: Any) -> str:
    return suggest(word, known) or f"; known: {', '.join(known) or 'none'}"


def _boolean(value: Any) -> Iterator[str]:
    if not isinstance(value, bool):
        yield "must be true or false"


def _one_of(choices: tuple[str, ...]) -> Callable[[Any], Iterator[str]]:
    def check(value: Any) -> Iterator[str]:
        if value not in choices:
            yield f"must be one of {', '.join(choices)}"

    return check


def _vram(value: Any) -> Iterator[str]:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= VRAM_LIMIT:
        yield f"must be a whole number of MiB from 1 to {VRAM_LIMIT}"


def _networks(value: Any) -> Iterator[str]:
    if not isinstance(value, Mapping):
        yield f"must map names of networks to {HOSTONLY}, {INTERNAL} or {BRIDGED}INTERFACE"
        return
    for name, how in value.items():
        is_bridged = isinstance(how, str) and how.startswith(BRIDGED) and len(how) > len(BRIDGED)
        if not is_bridged and how not in (HOSTONLY, INTERNAL):
            yield f"{name}: must be {HOSTONLY}, {INTERNAL} or {BRIDGED}INTERFACE"


def _customize(value: Any) -> Iterator[str]:
    if not isinstance(value, list):
        yield f"must be a list of commands, such as [modifyvm, {ID}, --vram, 32]"
        return
    for number, entry in enumerate(value, 1):
        yield from (f"command {number}: {message}" for message in _command_faults(entry))


def _command_faults(entry: Any) -> Iterator[str]:
    if not isinstance(entry, list) or not entry or any(isinstance(word, list | dict) for word in entry):
        yield "must be a list of words, first the VBoxManage command (or pre-boot or post-boot before it)"
        return
    _event, words = _command(entry)
    if not words:
        yield "names no VBoxManage command"
    elif words[0] not in COMMANDS:
        yield f"{words[0]!r} cannot be used here{_near(words[0], (*COMMANDS, *EVENTS))}"


def _command(entry: Any) -> tuple[str, tuple[str, ...]]:
    words = tuple(_word(word) for word in entry)
    return (words[0], words[1:]) if words[0] in EVENTS else (PRE_BOOT, words)


def _word(value: Any) -> str:
    """A word as VBoxManage spells it: YAML's booleans are its on and off."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value)


CHECKS: Mapping[str, Callable[[Any], Iterator[str]]] = {
    "vram": _vram,
    "nic_type": _one_of(NIC_TYPES),
    "paravirt": _one_of(PARAVIRT),
    "controller": _one_of(CONTROLLERS),
    "networks": _networks,
    "customize": _customize,
}
