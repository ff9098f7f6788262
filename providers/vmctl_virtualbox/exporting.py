"""A machine as an OVF and its disks, which is what a Vagrant box for VirtualBox holds."""

from __future__ import annotations

from pathlib import Path

from vmctl.driver import Disk, State
from vmctl.errors import WrongState
from vmctl.powers import Exported
from vmctl_virtualbox import answers, hardware
from vmctl_virtualbox.machine import VirtualBoxMachine
from vmctl_virtualbox.vboxmanage import COPY_DEADLINE

DESCRIPTOR = "box.ovf"
"""Vagrant knows no other name."""
VIRTIO = "VirtioSCSI"


def source_disk(machine: VirtualBoxMachine) -> Disk:
    """A stopped machine's disk, as one to make a machine from; its path is the medium's UUID.

    Raises:
        WrongState: the machine is not off, or there is none.
    """
    shown = off(machine)
    is_virtio = shown.get("storagecontrollertype0") == VIRTIO
    return Disk(
        path=Path(shown[f"{hardware.CONTROLLER}-ImageUUID-{hardware.DISK_PORT}-0"]),
        format="qcow2" if is_virtio else "vdi",
        digest="",
        virtual_size=0,
        firmware="bios" if shown.get("firmware", "BIOS") == "BIOS" else "uefi",
    )


def off(machine: VirtualBoxMachine) -> dict[str, str]:
    """What VirtualBox shows of a machine that must be off.

    Raises:
        WrongState: it is not off, or there is none.
    """
    shown = machine.existing()
    if answers.state(shown["VMState"]) not in (State.STOPPED, State.CRASHED):
        raise WrongState(f"{machine.name} is {shown['VMState']}; it must be off", hint="vmctl halt")
    return shown


def export(machine: VirtualBoxMachine, directory: Path) -> Exported:
    """Write a stopped machine's descriptor and disks, without what only this host has: forwards, console, seed.

    Raises:
        WrongState: the machine is not off, or there is none.
        VmctlError: VirtualBox could not export it.
    """
    shown, door = off(machine), machine.door
    port = ("--storagectl", hardware.CONTROLLER, "--port", str(hardware.SEED_PORT), "--device", "0")
    door("storageattach", machine.uuid, *port, "--type", "dvddrive", "--medium", "emptydrive")
    options = ["--uart-mode1", "disconnected", "--uart1", "off"]
    for rule in answers.rules(shown):
        options += ["--nat-pf1", "delete", rule.name]
    door("modifyvm", machine.uuid, *hardware.spelled(options, door.usage("modifyvm")))
    for tag in answers.shares(shown):
        door("sharedfolder", "remove", machine.uuid, "--name", tag)
    door("export", machine.uuid, "--output", directory / DESCRIPTOR, deadline=COPY_DEADLINE)
    return Exported(disks=tuple(sorted(directory.glob("*.vmdk"))), descriptor=directory / DESCRIPTOR)
