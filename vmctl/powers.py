"""What a driver may be able to do besides the protocol: further protocols, each of them optional.

``isinstance(driver, Snapshots)`` asks for one.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol, runtime_checkable

from msgspec import Struct

from vmctl.driver import Definition, Disk, Driver, Features, Forward, Tag
from vmctl.spec import MachineSpec


@runtime_checkable
class Suspends(Protocol):
    """A driver that can keep a machine's memory on disk."""

    def suspend(self, name: str, tag: Tag) -> None:
        """Save the memory and stop. ``Driver.start`` goes on from there. Saved already: nothing to do."""


class Snapshot(Struct, frozen=True, kw_only=True):
    """A machine's state that was kept under a name."""

    name: str
    parent: str = ""
    """Name of the snapshot that it builds on; "" = none."""
    date: float
    """When it was taken, in seconds since the epoch."""
    size: int | None = None
    """Bytes on disk that it keeps; None = not known."""
    memory: bool = False
    """Whether it holds the memory of a running machine, or only its disks."""
    current: bool = False
    """Whether the machine's present state builds on it."""
    note: str = ""
    """What the core wanted to be kept with it; the driver does not look inside."""


@runtime_checkable
class Snapshots(Protocol):
    """A driver that can keep states of a machine by name, and go back to them."""

    def snapshots(self, name: str, tag: Tag) -> tuple[Snapshot, ...]:
        """The machine's snapshots, parents before their children."""

    def save_snapshot(self, name: str, tag: Tag, snapshot: str, *, replace: bool = False, note: str = "") -> Snapshot:
        """Keep the present state of a running or stopped machine; a running one goes on running.

        A running machine's memory is kept where the hypervisor can; ``Snapshot.memory`` of what is returned says
        whether it was. A name in use is refused (``WrongState``); with ``replace`` the older one goes once the new one
        is complete. It fails: what was there before is there still.
        """

    def restore_snapshot(self, name: str, tag: Tag, snapshot: str) -> None:
        """Restore a snapshot; the current state is lost. Afterwards ``start`` goes on from it.

        The machine is SAVED then where the snapshot holds memory, else STOPPED. Its disk is as it was, and no larger.
        Raises ``WrongState`` when there is none of that name.
        """

    def remove_snapshot(self, name: str, tag: Tag, snapshot: str) -> None:
        """Forget a snapshot, keep its children and the present state. Absent: nothing to do."""


class Layer(Struct, frozen=True, kw_only=True):
    """Disks of a machine that were frozen, for other machines to begin with."""

    key: str
    """Names what went into it: lower-case hex SHA-256."""
    size: int
    """Bytes on disk that it keeps, without those of the layers (and the box) below it."""
    made: float = 0.0
    """When it was frozen, in seconds since the epoch; 0 = not known."""
    needed: bool = False
    """Whether a machine or another layer stands on it."""
    memory: bool = False
    """Whether the machine's memory was kept with it (``Memories``): then only that machine can go on from it."""
    seal: str = ""
    """Of one with memory: another one as soon as the memory, or a disk below it, is exchanged or written to."""


@runtime_checkable
class Layers(Protocol):
    """A driver that can freeze machines' disks as layers, which outlive the machine and are never written to.

    ``Driver.create`` begins with one where ``Disk.layer`` says so.
    """

    def layers(self) -> tuple[Layer, ...]:
        """All of this hypervisor's, whoever made them."""

    def freeze(self, name: str, tag: Tag, key: str) -> bool:
        """Keep the disks of a running or stopped machine as they are now; the machine goes on, with its memory.

        The core has had the guest write out what it holds; ``Features.copies_layers`` says whether this takes long.
        There is one of that key: nothing is done, and the answer is False. It fails: there is no such layer, and the
        machine goes on.
        """

    def remove_layer(self, key: str) -> bool:
        """Remove a layer, unless a machine or another layer stands on it; whether it is gone. Absent: nothing."""


class LayerDriver(Driver, Layers, Protocol):
    """A driver that keeps layers."""


@runtime_checkable
class BoxCopies(Protocol):
    """A driver that copies boxes' images to where its hypervisor needs them, and leaves them there for others."""

    def box_copies(self) -> tuple[Layer, ...]:
        """One for each image, under the image's digest, whoever had it copied."""

    def remove_box_copy(self, key: str) -> bool:
        """Remove one, unless something stands on it; whether it is gone. Absent: nothing to do."""


@runtime_checkable
class Leftovers(Protocol):
    """A driver that removes layers or copies of boxes in several steps, so that a killed vmctl may have left some."""

    def remove_leftovers(self) -> tuple[Layer, ...]:
        """Remove what killed vmctls left of layers and copies of boxes, and nothing that may be made just now.

        What went, each under the key or digest that it had, with the bytes that were left of it.
        """


@runtime_checkable
class Memories(Layers, Protocol):
    """A driver that can keep the memory of a running machine, for the same machine to go on from after `destroy`."""

    def memory_key(self, definition: Definition, base: Disk) -> str:
        """Digest of what memory depends on besides the disks: hardware, versions, processor; not of host ports."""

    def keep_memory(self, name: str, tag: Tag, key: str) -> bool:
        """As ``Layers.freeze`` of a running machine, with its memory of the same moment, which nobody else can read.

        Raises:
            WrongState: it has shares, or a device that forbids that; ``LiveShares`` takes out shares.
        """

    def thaw(self, definition: Definition, key: str, word: Callable[[], bytes]) -> bool:
        """Make the machine, which does not exist, as it was when its memory was kept: running, with its shares.

        The memory stays, and can be used again. It fails: no guest has run, and nothing is left behind.

        Args:
            definition: the machine.
            key: of its memory.
            word: what its guest may wait for, asked for at the last moment before it goes on; it belongs at the
                beginning of the disk with its seed.

        Returns:
            Whether the guest finds it there; where not, it is woken once it can be logged in to.

        Raises:
            WrongState: there is no such memory, or it is not this machine's.
        """


@runtime_checkable
class LiveShares(Protocol):
    """A driver whose shares stand in the way of saving memory, and can be taken out of a running machine for that."""

    def detach_shares(self, name: str, tag: Tag) -> bool:
        """Take out all shares, which the guest has unmounted; whether there were any. Off: nothing to do.

        Raises:
            WrongState: they could not be put back here, or the guest does not let go of them.
        """

    def attach_shares(self, name: str, tag: Tag) -> None:
        """Give a running machine back those of the shares it was started with that it lacks. Off: nothing to do."""


class Exported(Struct, frozen=True, kw_only=True):
    """A machine's disks in files that stand alone."""

    disks: tuple[Path, ...]
    """The one to boot from first; in ``format``, or what the descriptor says of them."""
    descriptor: Path | None = None
    """An OVF that describes the machine, for hypervisors whose boxes need one."""
    format: str = "qcow2"
    """As ``Disk.format``: qcow2, or ``CONTAINER``."""
    size: int = 0
    """Bytes of the root disk that the guest saw, where ``format`` does not tell."""


@runtime_checkable
class Exports(Protocol):
    """A driver that can write a machine's disks into files, which makes boxes of machines."""

    def clone(self, definition: Definition, source: str, tag: Tag) -> None:
        """As ``Driver.create``; the disks begin as those of the stopped machine ``source`` (with ``tag``) are now.

        ``source`` does not change, and is neither started nor destroyed before the clone is destroyed, so a clone
        may stand on its disks instead of copying them.
        """

    def export(self, name: str, tag: Tag, directory: Path) -> Exported:
        """Write a stopped machine's disks into ``directory``, which is empty: flattened, zeros as holes.

        The machine may lose settings that tie it to this host (forwards, its console's file); its disks stay.
        """


@runtime_checkable
class LiveForwards(Protocol):
    """A driver that can change a machine's forwards while it runs."""

    def set_forwards(self, name: str, tag: Tag, forwards: tuple[Forward, ...]) -> None:
        """Have a running machine's forwards be these; what it has of them goes on, "ssh" always does.

        Where some are removed, connections through others may end; these listen again when it returns.
        It fails: those that it had go on. Raises ``WrongState`` when it does not run.
        """


@runtime_checkable
class Consoles(Protocol):
    """A driver whose hypervisor keeps what guests write to their consoles, and writes no file on this host."""

    def console(self, name: str, tag: Tag) -> bytes:
        """What the machine wrote: all of it, or what came since it was asked last (a buffer that reading empties).

        Raises:
            VmctlError: it never was started, or cannot be asked.
        """


@runtime_checkable
class PerMachine(Protocol):
    """A driver whose features may differ from machine to machine, by their provider-only knobs."""

    def features_of(self, spec: MachineSpec) -> Features:
        """``Driver.features``, as they are for this machine. Knobs that ``check`` would refuse change nothing."""


def features_of(driver: Driver, spec: MachineSpec) -> Features:
    """What ``driver`` can do for one machine."""
    return driver.features_of(spec) if isinstance(driver, PerMachine) else driver.features
