"""A VirtualBox machine, as ``showvminfo --machinereadable`` describes it, as a QEMU command line."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

CONTROLLERS = {"VirtioSCSI": ("virtio-scsi-pci", "scsi"), "IntelAhci": ("ich9-ahci", "ide")}
EFI = "/usr/share/ovmf/OVMF.fd"
MULTICAST_PORT = 20000


@dataclass(frozen=True)
class Drive:
    """Something attached to a controller; ``uuid`` names the medium, a DVD's ``path`` is the file itself."""

    controller: str
    port: int
    path: str
    uuid: str

    @property
    def is_dvd(self) -> bool:
        """Whether it is read-only."""
        return self.path.lower().endswith(".iso")


def properties(text: str) -> dict[str, str]:
    """Keys and values of the machine-readable output, one line each."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        match = re.match(r'^"?((?:[^"=\\]|\\.)+)"?=(.*)$', line)
        if match:
            found.setdefault(match[1], re.sub(r'\\(["\\])', r"\1", match[2].removeprefix('"').removesuffix('"')))
    return found


def drives(shown: Mapping[str, str]) -> list[Drive]:
    """What is attached, in the order of ports."""
    found = []
    for key, kind in shown.items():
        index = key.removeprefix("storagecontrollername")
        if index == key:
            continue
        for port in range(int(shown[f"storagecontrollerportcount{index}"])):
            path = shown.get(f"{kind}-{port}-0", "none")
            if path not in ("none", "emptydrive"):
                bus = shown[f"storagecontrollertype{index}"]
                found.append(Drive(bus, port, path, shown[f"{kind}-ImageUUID-{port}-0"]))
    return found


def argv(shown: Mapping[str, str], disks: Mapping[str, Path], monitor: Path) -> list[str]:
    """The command line, but for a saved state.

    Args:
        shown: the machine.
        disks: where the hard disks can be read and written as raw images, by UUID.
        monitor: the QMP socket to listen at.
    """
    return [
        *("qemu-system-x86_64", "-machine", "pc", "-accel", "tcg,thread=multi", "-cpu", "max", "-nodefaults"),
        *("-m", shown["memory"], "-smp", shown["cpus"], "-rtc", "base=utc", "-display", "none", "-device", "VGA"),
        *("-qmp", f"unix:{monitor},server=on,wait=off", "-device", "virtio-rng-pci"),
        *(("-bios", EFI) if shown["firmware"] == "EFI" else ()),
        *_serial(shown),
        *_storage(shown, disks),
        *_nics(shown),
    ]


def _serial(shown: Mapping[str, str]) -> Iterator[str]:
    mode, _, path = shown.get("uartmode1", "").partition(",")
    if mode == "file":
        yield from ("-chardev", f"file,id=uart1,path={_escaped(path)}", "-serial", "chardev:uart1")


def _storage(shown: Mapping[str, str], disks: Mapping[str, Path]) -> Iterator[str]:
    attached = drives(shown)
    for bus in dict.fromkeys(drive.controller for drive in attached):
        yield from ("-device", f"{CONTROLLERS[bus][0]},id={bus}")
    for number, drive in enumerate(attached):
        prefix = CONTROLLERS[drive.controller][1]
        place = f"bus={drive.controller}.{drive.port if prefix == 'ide' else 0}"
        place += f",scsi-id={drive.port}" if prefix == "scsi" else ""
        if drive.is_dvd:
            yield from ("-drive", f"if=none,id=d{number},format=raw,readonly=on,file={_escaped(drive.path)}")
            yield from ("-device", f"{prefix}-cd,drive=d{number},{place}")
        else:
            yield from ("-drive", f"if=none,id=d{number},format=raw,file={_escaped(str(disks[drive.uuid]))}")
            yield from ("-device", f"{prefix}-hd,drive=d{number},bootindex=0,{place}")


def _nics(shown: Mapping[str, str]) -> Iterator[str]:
    for number in range(1, 9):
        kind = shown.get(f"nic{number}", "none")
        if kind == "none":
            continue
        model = "virtio-net-pci" if shown[f"nictype{number}"] == "virtio" else "e1000"
        mac = ":".join(re.findall("..", shown[f"macaddress{number}"]))
        yield from ("-netdev", _netdev(shown, number, kind), "-device", f"{model},netdev=n{number},mac={mac}")


def _netdev(shown: Mapping[str, str], number: int, kind: str) -> str:
    if kind == "nat":
        return f"user,id=n{number}{_forwards(shown)}"
    name = shown.get(f"intnet{number}") or shown.get(f"hostonlyadapter{number}", "")
    digest = hashlib.sha256(name.encode()).digest()
    group = f"239.{digest[0]}.{digest[1]}.{digest[2]}"
    return f"socket,id=n{number},mcast={group}:{MULTICAST_PORT},localaddr=127.0.0.1"


def _forwards(shown: Mapping[str, str]) -> str:
    rules = ""
    for key, value in shown.items():
        if re.fullmatch(r"Forwarding\(\d+\)", key):
            _name, protocol, host_ip, host, guest_ip, guest = value.rsplit(",", 5)
            rules += f",hostfwd={protocol}:{host_ip}:{host}-{guest_ip}:{guest}"
    return rules


def _escaped(value: str) -> str:
    """A value inside a comma-separated QEMU option."""
    return value.replace(",", ",,")
