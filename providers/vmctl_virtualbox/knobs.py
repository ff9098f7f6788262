"""The ``virtualbox:`` section of a machine: every knob with its kind, its meaning and its default."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from msgspec import Struct, field

from vmctl import knobs
from vmctl.errors import suggest
from vmctl.knobs import Checked, Fault, Field, choice, flag, whole
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


def _near(word: str, known: Any) -> str:
    return suggest(word, known) or f"; known: {', '.join(known) or 'none'}"


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
    if not isinstance(entry, list) or not entry or any(isinstance(word, list | dict | None) for word in entry):
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


ATTACHED = Checked(
    _networks,
    {
        "type": "object",
        "additionalProperties": {"type": "string", "pattern": f"^({HOSTONLY}|{INTERNAL}|{BRIDGED}.+)$"},
    },
)
CUSTOMIZE = Checked(
    _customize,
    {"type": "array", "items": {"type": "array", "minItems": 1, "items": {"type": ["string", "number", "boolean"]}}},
    lambda value: tuple(_command(entry) for entry in value),
)


class VirtualBoxKnobs(Struct, frozen=True, kw_only=True):
    """What the user asked of VirtualBox beyond the common keys."""

    gui: Annotated[bool, Field(flag(), "Show the machine in a window.")] = False
    linked_clone: Annotated[bool, Field(flag(), "Keep only the differences to the box, rather than a full copy.")] = (
        True
    )
    vram: Annotated[int, Field(whole(1, VRAM_LIMIT, "a whole number of MiB"), "Video memory in MiB.")] = 16
    nic_type: Annotated[str, Field(choice(*NIC_TYPES), "Which network cards the guest sees.")] = "virtio"
    paravirt: Annotated[str, Field(choice(*PARAVIRT), "Which hypervisor's help the guest is offered.")] = "default"
    nested: Annotated[bool, Field(flag(), "Whether the guest may run virtual machines itself.")] = False
    controller: Annotated[
        str,
        Field(
            choice(*CONTROLLERS),
            "auto = virtio for boxes made for KVM (qcow2, raw), sata for VirtualBox's and VMware's own formats.",
        ),
    ] = "auto"
    networks: Annotated[
        Mapping[str, str],
        Field(
            ATTACHED, f"How a network of the Vmfile is attached: {HOSTONLY}, {INTERNAL}, or {BRIDGED}HOST-INTERFACE."
        ),
    ] = field(default_factory=dict)
    customize: Annotated[
        tuple[tuple[str, tuple[str, ...]], ...],
        Field(CUSTOMIZE, f"VBoxManage commands, such as [modifyvm, {ID}, --vram, 32]; {ID} stands for the machine."),
    ] = ()
    """(event, VBoxManage arguments)"""
    force: Annotated[bool, Field(flag(), "Try even where KVM holds the processor's virtualization.")] = False

    def commands(self, event: str) -> tuple[tuple[str, ...], ...]:
        """The commands of an event, in order."""
        return tuple(words for when, words in self.customize if when == event)


def options(spec: MachineSpec) -> Mapping[str, Any]:
    """The section as written."""
    return spec.options.get(PROVIDER) or {}


def read(spec: MachineSpec) -> VirtualBoxKnobs:
    """The knobs of a machine that ``faults`` found nothing wrong with."""
    return knobs.read(VirtualBoxKnobs, options(spec))


def faults(spec: MachineSpec) -> Iterator[Fault]:
    """All that is wrong with the section."""
    found = [*knobs.faults(VirtualBoxKnobs, PROVIDER, options(spec))]
    yield from found
    known = [network.name for network in spec.networks]
    for each in read(spec).networks if not found else ():
        if each not in known:
            yield Fault(f"{PROVIDER}.networks", f"no network {each!r}{_near(each, known)}")
