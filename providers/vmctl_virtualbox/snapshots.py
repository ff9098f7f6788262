"""A machine's snapshots: VBoxManage makes them, the machine's settings file tells of them.

VBoxManage itself lists names only. When a snapshot was taken, whether it holds memory, and which files it keeps
stands in the machine's settings file, which VirtualBox replaces atomically after each change.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree as ET

from msgspec import structs

from vmctl import interrupt
from vmctl.driver import State
from vmctl.errors import UsageError, VmctlError, WrongState, in_words
from vmctl.powers import Snapshot
from vmctl_virtualbox import answers
from vmctl_virtualbox.machine import VirtualBoxMachine
from vmctl_virtualbox.vboxmanage import COPY_DEADLINE, VBoxManage

HIDDEN = "vmctl-deleted-"
"""Begins the name of a snapshot that is forgotten, but that VirtualBox cannot delete yet: several others, or one
other and the machine itself, build on it."""
POSSIBLE = (State.RUNNING, State.PAUSED, State.STOPPED, State.CRASHED)
NAMESPACE = "{http://www.virtualbox.org/}"


@dataclass(frozen=True)
class KeptSnapshot:
    """A snapshot with the identity that VirtualBox gave it; names need not be unique there."""

    uuid: str
    snapshot: Snapshot

    @property
    def is_hidden(self) -> bool:
        """Whether vmctl has forgotten it."""
        return self.snapshot.name.startswith(HIDDEN)


@dataclass(frozen=True)
class VirtualBoxSnapshotter:
    """Acts on one machine's snapshots."""

    door: VBoxManage
    machine: VirtualBoxMachine

    def all(self) -> tuple[KeptSnapshot, ...]:
        """The snapshots, parents first; of several with one name (a `save --force` was killed) the newest."""
        kept = shown(self._kept())
        newest = {each.snapshot.name: each for each in sorted(kept, key=lambda each: each.snapshot.date)}
        return tuple(each for each in kept if newest[each.snapshot.name] is each)

    def save(self, snapshot: str, *, replacing: bool, note: str) -> Snapshot:
        """Keep the present state under a name."""
        name = self.machine.name
        if snapshot.startswith(HIDDEN):
            raise UsageError(
                f"a VirtualBox snapshot cannot be called {HIDDEN}…: that is what forgotten ones are called"
            )
        older = self._named(snapshot)
        if older and not replacing:
            raise WrongState(f"{name} has a snapshot {snapshot!r} already", hint="vmctl snapshot list")
        word = self.machine.existing()["VMState"]
        if answers.state(word) not in POSSIBLE:
            raise WrongState(f"{name} is {word}: no snapshot can be taken of it now", hint="vmctl resume")
        description = ("--description", note) if note else ()
        with interrupt.shielded():
            # First the new one: whatever ends vmctl in between, there is one of that name.
            self.door("snapshot", self.machine.uuid, "take", snapshot, *description, deadline=COPY_DEADLINE)
            for each in older:
                self._forget(each)
            self._try_to_tidy()
        return next(kept.snapshot for kept in self.all() if kept.snapshot.name == snapshot)

    def restore(self, snapshot: str) -> None:
        """Go back to the newest snapshot of a name."""
        kept = self._named(snapshot)
        if not kept:
            raise WrongState(f"{self.machine.name} has no snapshot {snapshot!r}", hint="vmctl snapshot list")
        with interrupt.shielded():
            self.machine.stop_now()
            self.door("snapshot", self.machine.uuid, "restore", kept[-1].uuid)
            self._try_to_tidy()

    def remove(self, snapshot: str) -> None:
        """Forget all snapshots of a name."""
        with interrupt.shielded():
            for each in self._named(snapshot):
                self._forget(each)
            self._tidy()

    def _forget(self, kept: KeptSnapshot) -> None:
        """Give it a name that counts as none; deleting it is for ``_tidy``."""
        self.door("snapshot", self.machine.uuid, "edit", kept.uuid, "--name", f"{HIDDEN}{kept.uuid}")

    def _try_to_tidy(self) -> None:
        """What cannot be put away now will be by the next command; it is no reason to fail."""
        with suppress(VmctlError):
            self._tidy()

    def _tidy(self) -> None:
        """Delete what is forgotten and can be deleted; joining two disks may take its time."""
        while kept := deletable(self._kept()):
            self.door("snapshot", self.machine.uuid, "delete", kept.uuid, deadline=COPY_DEADLINE)

    def _kept(self) -> tuple[KeptSnapshot, ...]:
        return read_kept(Path(self.machine.existing()["CfgFile"]))

    def _named(self, snapshot: str) -> list[KeptSnapshot]:
        found = (each for each in self._kept() if each.snapshot.name == snapshot)
        return sorted(found, key=lambda each: each.snapshot.date)


def deletable(kept: Sequence[KeptSnapshot]) -> KeptSnapshot | None:
    """A forgotten snapshot that no more than one thing builds on: another snapshot, or the machine as it is now."""
    for each in kept:
        children = sum(other.snapshot.parent == each.snapshot.name for other in kept)
        if each.is_hidden and children + each.snapshot.current <= 1:
            return each
    return None


def shown(kept: Sequence[KeptSnapshot]) -> tuple[KeptSnapshot, ...]:
    """Without the forgotten ones: what builds on such a one builds on its parent."""
    by_name = {each.snapshot.name: each for each in kept}

    def visible(name: str) -> str:
        while name in by_name and by_name[name].is_hidden:
            name = by_name[name].snapshot.parent
        return name

    current = next((visible(each.snapshot.name) for each in kept if each.snapshot.current), "")
    return tuple(
        replace(
            each,
            snapshot=structs.replace(
                each.snapshot, parent=visible(each.snapshot.parent), current=each.snapshot.name == current
            ),
        )
        for each in kept
        if not each.is_hidden
    )


def read_kept(settings: Path) -> tuple[KeptSnapshot, ...]:
    """The snapshots in a settings file, parents first.

    Raises:
        VmctlError: the file cannot be read.
    """
    try:
        root = ET.fromstring(settings.read_bytes())  # noqa: S314  VirtualBox wrote this file, for the same user
    except (OSError, ET.ParseError) as error:
        raise VmctlError(f"cannot read the machine's settings in {settings}", details=in_words(error)) from error
    machine = root.find(f"{NAMESPACE}Machine")
    if machine is None:
        return ()
    current = _uuid(machine.get("currentSnapshot", ""))
    disks = _disks(machine, settings.parent)
    return tuple(_walk(machine.find(f"{NAMESPACE}Snapshot"), "", current, disks, settings.parent))


def _walk(
    element: ET.Element | None, parent: str, current: str, disks: Mapping[str, Path], folder: Path
) -> Iterator[KeptSnapshot]:
    if element is None:
        return
    name, uuid = element.get("name", ""), _uuid(element.get("uuid", ""))
    state = element.get("stateFile")
    files = [disks[each] for each in _attached(element) if each in disks]
    if state:
        files.append(folder / state)
    yield KeptSnapshot(
        uuid,
        Snapshot(
            name=name,
            parent=parent,
            date=datetime.fromisoformat(element.get("timeStamp", "")).astimezone(UTC).timestamp(),
            size=sum(file.stat().st_blocks * 512 for file in files if file.exists()),
            memory=bool(state),
            current=uuid == current,
            note=element.findtext(f"{NAMESPACE}Description") or "",
        ),
    )
    for child in element.findall(f"{NAMESPACE}Snapshots/{NAMESPACE}Snapshot"):
        yield from _walk(child, name, current, disks, folder)


def _attached(snapshot: ET.Element) -> Iterator[str]:
    """UUIDs of the hard disks that a snapshot froze; controllers stand in different places in different versions."""
    for child in snapshot:
        if child.tag in (f"{NAMESPACE}Hardware", f"{NAMESPACE}StorageControllers"):
            for device in child.iter(f"{NAMESPACE}AttachedDevice"):
                image = device.find(f"{NAMESPACE}Image")
                if device.get("type") == "HardDisk" and image is not None:
                    yield _uuid(image.get("uuid", ""))


def _disks(machine: ET.Element, folder: Path) -> dict[str, Path]:
    registry = machine.find(f"{NAMESPACE}MediaRegistry")
    disks = registry.iter(f"{NAMESPACE}HardDisk") if registry is not None else ()
    return {_uuid(disk.get("uuid", "")): folder / disk.get("location", "") for disk in disks}


def _uuid(text: str) -> str:
    return text.strip("{}").lower()
