"""A machine's definition as VBoxManage's options. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from vmctl.driver import Definition, Forward
from vmctl.spec import MIB
from vmctl_virtualbox.answers import Rule
from vmctl_virtualbox.knobs import VirtualBoxKnobs

CONTROLLER = "disks"
DISK_PORT, SEED_PORT = 0, 1
PORTS = 4
NICS = 8
COM1 = ("0x3f8", "4")
OS_TYPE = "Linux26_64"
STEP = 4 * MIB

OLDER_NAMES = {
    "nic-type": "nictype",
    "mac-address": "macaddress",
    "cable-connected": "cableconnected",
    "nat-pf": "natpf",
    "host-only-adapter": "hostonlyadapter",
    "host-only-net": "hostonlynet",
    "bridge-adapter": "bridgeadapter",
    "uart-mode": "uartmode",
    "rtc-use-utc": "rtcuseutc",
    "audio-driver": "audio",
    "paravirt-provider": "paravirtprovider",
    "default-frontend": "defaultfrontend",
    "usb-ohci": "usb",
    "usb-ehci": "usbehci",
}
"""How VirtualBox 6.1 spells options that later versions renamed; numbers at the end stay."""
NEW_SPELLING = "--nic-type"
OPTION = re.compile(r"^--([a-z-]+?)(\d*)$")


def root_disk(shown: Mapping[str, str]) -> str:
    """UUID of the disk that a machine boots from; "" = it has none."""
    return shown.get(f"{CONTROLLER}-ImageUUID-{DISK_PORT}-0", "")


def settings(definition: Definition, knobs: VirtualBoxKnobs, present: Iterable[Rule]) -> list[str]:
    """Options for ``modifyvm`` that make an existing, stopped machine match, in the newest spelling."""
    spec = definition.spec
    memory = -(-spec.memory // STEP) * (STEP // MIB)
    return [
        *("--memory", str(memory), "--cpus", str(spec.cpus), "--vram", str(knobs.vram)),
        *("--ioapic", "on", "--rtc-use-utc", "on", "--audio-driver", "none", "--usb-ohci", "off", "--usb-ehci", "off"),
        *("--graphicscontroller", "vmsvga", "--default-frontend", "gui" if knobs.gui else "headless"),
        *("--paravirt-provider", knobs.paravirt, "--nested-hw-virt", "on" if knobs.nested else "off"),
        *("--boot1", "disk", "--boot2", "none", "--boot3", "none", "--boot4", "none"),
        *("--uart1", *COM1, "--uart-mode1", "file", str(definition.console)),
        *_first_nic(definition, knobs, present),
    ]


def firmware(kind: str) -> list[str]:
    """Options for ``modifyvm``; set once, the disk cannot boot with another one."""
    return ["--firmware", "efi" if kind == "uefi" else "bios"]


def _first_nic(definition: Definition, knobs: VirtualBoxKnobs, present: Iterable[Rule]) -> Iterator[str]:
    yield from ("--nic1", "nat", "--nic-type1", knobs.nic_type, "--cable-connected1", "on")
    yield from ("--mac-address1", plain_mac(definition.mac))
    wanted = [as_rule(forward) for forward in definition.forwards]
    known = list(present)
    for rule in known:
        if rule not in wanted:
            yield from ("--nat-pf1", "delete", rule.name)
    for rule in wanted:
        if rule not in known:
            yield from ("--nat-pf1", f"{rule.name},{rule.protocol},{rule.host_ip},{rule.host},,{rule.guest}")


def further_nic(number: int, attachment: Sequence[str], mac: str, knobs: VirtualBoxKnobs) -> list[str]:
    """Options for NIC ``number``; ``attachment`` is the network's part of them, without numbers."""
    numbered = [f"{word}{number}" if word.startswith("--") else word for word in attachment]
    kind = ["--nic-type", knobs.nic_type, "--cable-connected", "on", "--mac-address", plain_mac(mac)]
    return [*numbered, *(f"{word}{number}" if word.startswith("--") else word for word in kind)]


def no_nics(first: int) -> list[str]:
    """Options that take away the NICs from number ``first`` on."""
    return [word for number in range(first, NICS + 1) for word in (f"--nic{number}", "none")]


def as_rule(forward: Forward) -> Rule:
    """A forward as VirtualBox keeps it. Commas separate the fields of a rule, so its name has none."""
    return Rule(forward.name.replace(",", "_"), forward.protocol, forward.host_ip, forward.host, forward.guest)


def plain_mac(mac: str) -> str:
    """``52:54:00:aa:bb:cc`` as VirtualBox writes it."""
    return mac.replace(":", "").replace("-", "").upper()


def spelled(options: Iterable[str], usage: str) -> list[str]:
    """The options as the installed version spells them, seen from ``modifyvm``'s usage text."""
    words = list(options)
    return words if NEW_SPELLING in usage else [_older(word) for word in words]


def _older(word: str) -> str:
    match = OPTION.match(word)
    return f"--{OLDER_NAMES.get(match[1], match[1])}{match[2]}" if match else word


def controller(kind: str, disk_format: str) -> list[str]:
    """Options for ``storagectl``: the controller that the box's guest has a driver for."""
    is_virtio = kind == "virtio" or (kind == "auto" and disk_format in ("qcow2", "raw"))
    bus = ["--add", "virtio", "--controller", "VirtIO"] if is_virtio else ["--add", "sata", "--controller", "IntelAhci"]
    return ["--name", CONTROLLER, *bus, "--portcount", str(PORTS), "--bootable", "on"]
