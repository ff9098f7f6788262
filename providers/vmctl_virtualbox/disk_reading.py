"""Reading a machine's disks: as they are at one moment, or with an OVF, which is what a Vagrant box holds."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from vmctl import interrupt
from vmctl.driver import Disk, State
from vmctl.errors import WrongState
from vmctl.powers import Exported
from vmctl_virtualbox import answers, hardware, machine_mark
from vmctl_virtualbox.machine import VirtualBoxMachine
from vmctl_virtualbox.machine_mark import MachineMark
from vmctl_virtualbox.media import Media
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


RUNNING = "running"
QUIET = frozenset({"poweroff", "poweredoff", "aborted", "teleported", "paused"})
"""What a machine's state may be for its disks to stay as they are: nothing runs in it, and none of them is being joined
with another. (The memory of a saved one belongs to its disks.)"""
IMAGE = re.compile(r".*-ImageUUID-\d+-\d+")


def own_disks(media: Media, machine: VirtualBoxMachine) -> tuple[Path, ...]:
    """The disks that the machine stands on, down to a layer or the base of its box, the lowest first.

    Raises:
        WrongState: it has a disk that vmctl did not make.
    """
    shown, known = machine.existing(), {record["UUID"]: record for record in media.known()}
    root = hardware.root_disk(shown)
    others = {value for key, value in shown.items() if IMAGE.fullmatch(key) and value in known} - {root}
    disks: list[Path] = []
    uuid = root
    while uuid in known and not media.is_ground(known[uuid]):
        if known[uuid].get("Storage format") != "VDI":
            others.add(uuid)
        disks.insert(0, Path(known[uuid]["Location"]))
        uuid = known[uuid].get("Parent UUID", "")
    if others or not disks:
        raise WrongState(
            f"{machine.name} has a disk that vmctl did not make, and a layer cannot keep it",
            details="\n".join(known[uuid]["Location"] for uuid in sorted(others)),
            hint=f"VBoxManage showvminfo {machine.uuid}",
        )
    return tuple(disks)


@contextmanager
def standing_still(machine: VirtualBoxMachine, mark: MachineMark) -> Iterator[None]:
    """Have a machine not write to its disks for the length of the block; a running one pauses, and is the same run.

    VirtualBox writes everything out when a machine pauses, and opens its disks anew to read only.

    Raises:
        WrongState: it is in a state in which that cannot be, or somebody else started it meanwhile.
    """
    before = machine.existing()
    word = answers.letters(before["VMState"])
    if word == RUNNING:
        with interrupt.shielded():
            machine.door("controlvm", machine.uuid, "pause")
            try:
                yield
            finally:
                machine.door("controlvm", machine.uuid, "resume")
                _remember_run(machine, mark, before)
        return
    if word not in QUIET:
        raise WrongState(
            f"{machine.name} is {before['VMState']}: no layer can be made of it now",
            hint="vmctl resume",
        )
    yield
    if (now := machine.existing())["VMState"] != before["VMState"]:
        raise WrongState(f"{machine.name} became {now['VMState']} while its disks were read")


def _remember_run(machine: VirtualBoxMachine, mark: MachineMark, before: Mapping[str, str]) -> None:
    since = machine.existing().get("VMStateChangeTime", "")
    run = mark.run_since(before.get("VMStateChangeTime", ""))
    machine_mark.write(machine.door, replace(mark, since=since, run=run))
