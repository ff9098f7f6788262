"""Disks: one converted base per box, a differencing child per machine.

    HOME/virtualbox/bases/DIGEST.vdi          the box, in VirtualBox's format; never attached itself
    HOME/virtualbox/layers/KEY/               disks of a machine that others stand on (``layer_media``)
    HOME/virtualbox/machines/UUID/NAME/       the machine's folder: settings, logs, snapshots, ``root.vdi``

VirtualBox's own ``unregistervm --delete`` also deletes a base whose last child goes, and disks that the user has
attached from elsewhere; so vmctl unregisters without it and removes the machine's folder itself.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vmctl import flock, process
from vmctl.driver import Disk
from vmctl.errors import UsageError
from vmctl.process import ProgramMissing
from vmctl_virtualbox import answers, vdi
from vmctl_virtualbox.vboxmanage import COPY_DEADLINE, NOT_FOUND, NotFound, VBoxManage, VBoxManageFailed

ROOT_DISK = "root.vdi"
LAYERS = "layers"
IN_USE = frozenset({"VBOX_E_OBJECT_IN_USE", "VBOX_E_INVALID_OBJECT_STATE", NOT_FOUND})
"""Why a medium can stay open: it has children, one of them runs just now, or it was closed by somebody else."""
FORMATS = ("vdi", "vmdk", "qcow2", "raw")


@dataclass(frozen=True)
class Media:
    """The disks of one vmctl data directory."""

    home: Path
    door: VBoxManage

    @property
    def root(self) -> Path:
        """Where everything of this provider lies."""
        return self.home / "virtualbox"

    @property
    def machines(self) -> Path:
        """Where each machine has a directory."""
        return self.root / "machines"

    @property
    def bases(self) -> Path:
        """Where the converted boxes are."""
        return self.root / "bases"

    @property
    def layers(self) -> Path:
        """Where each layer has a directory."""
        return self.root / LAYERS

    def machine(self, uuid: str) -> Path:
        """The directory that holds nothing but one machine."""
        return self.machines / uuid

    def base_path(self, digest: str) -> Path:
        """Where the converted box is, or will be."""
        return self.bases / f"{digest}.vdi"

    def lock_path(self, digest: str) -> Path:
        """Held while the base is made, opened or copied: VirtualBox cannot open one medium twice at a time.

        ``LAYERS`` is that of all layers; whoever holds it may ask for those of bases, not the other way round.
        """
        return self.root / "locks" / digest

    def add_root_disk(self, base: Disk, path: Path, *, linked: bool, size: int | None) -> None:
        """Make the machine's disk at ``path`` from a box, at least ``size`` bytes large."""
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with flock.held(self.lock_path(base.digest)):
            parent = self._ensure_base(base)
            if linked:
                self.door("createmedium", "disk", "--filename", path, "--diffparent", parent, "--format", "VDI")
            else:
                self.door("clonemedium", "disk", parent, path, "--format", "VDI", deadline=COPY_DEADLINE)
                self._close_idle("disk", parent)
        if size is not None and size > base.virtual_size:
            self.resize(path, size)

    def copy(self, medium: str, path: Path) -> None:
        """Copy a disk, with all that it stands on, to ``path``.

        Raises:
            UsageError: it is larger than what it stands on, which VirtualBox cannot copy (nor export).
        """
        info, size = {"Parent UUID": medium}, self.capacity(medium)
        while info.get("Parent UUID", "base") != "base":
            info = next(answers.records(self.door("showmediuminfo", "disk", info["Parent UUID"])), {})
        if self.capacity(info.get("UUID", medium)) < size:
            raise UsageError(
                "VirtualBox cannot copy a disk that was made larger than the box it stands on",
                hint="make the machine with `virtualbox: {linked_clone: false}`, or without `disk:`",
            )
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.door("clonemedium", "disk", medium, path, "--format", "VDI", deadline=COPY_DEADLINE)

    def resize(self, medium: str | Path, size: int) -> None:
        """Make a disk larger. A differencing child may be larger than its parents."""
        self.door("modifymedium", "disk", medium, "--resizebyte", str(size))

    def capacity(self, medium: str) -> int:
        """The size of a disk as the guest sees it, in whole MiB, in bytes."""
        info = next(answers.records(self.door("showmediuminfo", "disk", medium)), {})
        return int(info.get("Capacity", "0").split()[0]) * 1024**2

    def known(self) -> list[dict[str, str]]:
        """All hard disks that VirtualBox knows, each with its UUID."""
        return [record for record in answers.records(self.door("list", "hdds")) if "UUID" in record]

    def parents(self) -> Mapping[str, str]:
        """What stands on what, by UUID: disks that VirtualBox knows, and those of machines that it cannot read now."""
        known = {record["UUID"]: record.get("Parent UUID", "") for record in self.known()}
        return known | {head.uuid: head.parent for head in vdi.below(self.machines, self.layers)}

    def is_ground(self, record: Mapping[str, str]) -> bool:
        """Whether a disk is one that machines stand on, and none of a machine's own."""
        return _lies_in(record, (self.layers, self.bases))

    def forget(self, *folders: Path) -> None:
        """Close all disks that VirtualBox still knows in these folders, and then the idle ones that they stood on."""
        self.close(*folders)
        self.close_grounds()

    def close(self, *folders: Path) -> None:
        """Close all disks that VirtualBox knows in these folders, children first.

        Raises:
            VBoxManageFailed: another disk stands on one of them, or a machine uses it.
        """
        for record in _children_first(self._known(*folders)):
            try:
                self.door("closemedium", "disk", record["UUID"])
            except NotFound:
                continue  # it went with its child

    def let_go(self, place: Path) -> bool:
        """As ``close``, of a file or a directory; False = one of the disks is in use."""
        try:
            self.close(place)
        except VBoxManageFailed as error:
            if error.code not in IN_USE:
                raise
            return False
        return True

    def close_grounds(self) -> None:
        """Close layers and bases that no machine stands on any more: VirtualBox would remember them for ever."""
        known = self._known(self.layers, self.bases)
        if layers := [record for record in known if _lies_in(record, (self.layers,))]:
            with flock.held(self.lock_path(LAYERS)):
                for record in _children_first(layers):
                    self._close_idle("disk", record["UUID"])
        for base in [Path(record["Location"]) for record in known if _lies_in(record, (self.bases,))]:
            with flock.held(self.lock_path(base.stem)):
                self._close_idle("disk", base)

    def eject(self, seed: str) -> None:
        """Have VirtualBox forget a seed, where it knows it; the file is not ours."""
        dvds = answers.records(self.door("list", "dvds"))
        if seed and any(record.get("Location") == seed for record in dvds):
            self._close_idle("dvd", seed)

    def _known(self, *folders: Path) -> list[dict[str, str]]:
        return [record for record in self.known() if _lies_in(record, folders)]

    def _ensure_base(self, disk: Disk) -> Path:
        path = self.base_path(disk.digest)
        if path.exists():
            return path
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        for stale in path.parent.glob(f".{disk.digest}*"):
            stale.unlink()  # left by a vmctl that was killed: the lock is ours
        part = path.with_name(f".{disk.digest}.part.vdi")
        try:
            self._convert(disk, part)
            sync(part)
            part.replace(path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        return path

    def _convert(self, disk: Disk, target: Path) -> None:
        try:
            qemu_img = process.find("qemu-img", package="qemu-utils")
        except ProgramMissing:
            self._convert_without_qemu(disk, target)
            return
        convert = ("convert", "-f", disk.format, "-O", "vdi")
        process.run([qemu_img, *convert, "--", disk.path, target], deadline=COPY_DEADLINE)

    def _convert_without_qemu(self, disk: Disk, target: Path) -> None:
        """With VirtualBox's own means, which do not read every qcow2 file."""
        if disk.format == "raw":
            self.door("convertfromraw", disk.path, target, "--format", "VDI", deadline=COPY_DEADLINE)
        elif disk.format in ("vdi", "vmdk"):
            self.door("clonemedium", "disk", disk.path, target, "--format", "VDI", deadline=COPY_DEADLINE)
            self._close_idle("disk", target)
            self._close_idle("disk", disk.path)
        else:
            raise ProgramMissing(
                f"a {disk.format} image needs the program 'qemu-img' to become a VirtualBox disk",
                hint="sudo apt-get install qemu-utils",
            )

    def _close_idle(self, kind: str, medium: str | Path) -> None:
        """Close a medium, unless it has children or a machine uses it."""
        try:
            self.door("closemedium", kind, medium)
        except NotFound:
            return  # closed by somebody else
        except VBoxManageFailed as error:
            if error.code not in IN_USE:
                raise


def check_size(wanted: int | None, present: int) -> None:
    """Refuse to shrink.

    Raises:
        UsageError: the disk is larger already.
    """
    if wanted is not None and wanted < present:
        raise UsageError(
            f"disk: {wanted} bytes is less than it has now ({present}); a disk cannot shrink",
            hint="give a larger size, or leave `disk` out",
        )


def remove_folder(folder: Path) -> None:
    """Remove a directory and all that is in it. Absent: nothing to do."""
    if folder.exists():
        shutil.rmtree(folder)


def remove_moved(folder: Path, uuid_name: str) -> None:
    """Remove a machine's files from a folder that the user chose (the GUI's "Move"), and nothing else from there."""
    for path in (folder / "Snapshots", folder / "Logs"):
        remove_folder(path)
    names = (ROOT_DISK, f"{uuid_name}.vbox", f"{uuid_name}.vbox-prev", f"{uuid_name}.nvram")
    for name in names:
        (folder / name).unlink(missing_ok=True)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def _lies_in(record: Mapping[str, str], folders: tuple[Path, ...]) -> bool:
    location = Path(record.get("Location", "/"))
    return any(location.is_relative_to(folder) for folder in folders)


def _children_first(records: list[dict[str, str]]) -> list[dict[str, str]]:
    parents = {record["UUID"]: record.get("Parent UUID", "base") for record in records}

    def depth(uuid: str) -> int:
        parent = parents.get(uuid)
        return 0 if parent is None else 1 + depth(parent)

    return sorted(records, key=lambda record: depth(record["UUID"]), reverse=True)


def sync(path: Path) -> None:
    """Have a file, or a directory's entries, on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
