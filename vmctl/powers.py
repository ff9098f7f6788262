"""What a driver may be able to do besides the protocol: further protocols, each of them optional.

``isinstance(driver, Snapshots)`` asks for one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, runtime_checkable

from msgspec import Struct

from vmctl.driver import Definition, Driver, Features, Tag
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


class Exported(Struct, frozen=True, kw_only=True):
    """A machine's disks in files that stand alone."""

    disks: tuple[Path, ...]
    """The one to boot from first; qcow2, or what the descriptor says of them."""
    descriptor: Path | None = None
    """An OVF that describes the machine, for hypervisors whose boxes need one."""


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
