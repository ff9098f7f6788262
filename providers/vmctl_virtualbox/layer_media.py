"""Layers: copies of machines' disks, kept under a key for other machines to stand on.

    HOME/virtualbox/layers/KEY/1.vdi    on the base of the box, on another layer, or on nothing (`linked_clone: false`)
    HOME/virtualbox/layers/KEY/2.vdi…   on that; one more for each snapshot that the machine had

Copies, because VirtualBox gives no disk away: what a machine wrote bears the UUID that its settings and snapshots
name. (Where the file system can, a copy shares its blocks with the original.) A layer is made under another name,
and has its own once it is whole and on the disk.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from msgspec import Struct

from vmctl import flock, process
from vmctl.errors import WrongState
from vmctl.powers import Layer
from vmctl_virtualbox import media, vdi
from vmctl_virtualbox.media import Media
from vmctl_virtualbox.vboxmanage import COPY_DEADLINE, VBoxManage
from vmctl_virtualbox.vdi import Head

KEY = re.compile(r"[0-9a-f]{64}")
NUMBER = re.compile(r"[1-9][0-9]{0,3}")
BLOCK = 512
"""Bytes in which file systems count."""
REFLINK = ("--reflink=auto",) if sys.platform == "linux" else ()


class KeptLayer(Struct, frozen=True):
    """The disks of one layer, each on the one before it."""

    key: str
    disks: tuple[Path, ...]
    heads: tuple[Head | None, ...]

    @property
    def uuids(self) -> set[str]:
        """Of all its disks."""
        return {head.uuid for head in self.heads if head}

    @property
    def ground(self) -> str:
        """UUID of what its first disk stands on; "" = nothing."""
        return self.heads[0].parent if self.heads and self.heads[0] else ""

    @property
    def is_whole(self) -> bool:
        """Whether its disks are there to their ends, and are each other's."""
        heads = [head for head in self.heads if head and head.is_whole]
        return 0 < len(heads) == len(self.heads) and all(upper.parent == lower.uuid for lower, upper in pairwise(heads))


@dataclass(frozen=True)
class LayerMedia:
    """The layers of one vmctl data directory."""

    media: Media

    @property
    def door(self) -> VBoxManage:
        """To VBoxManage."""
        return self.media.door

    def all(self) -> tuple[Layer, ...]:
        """Every layer, and whether something stands on it."""
        found = self._kept()
        parents = self.media.parents() if found else {}
        return tuple(
            Layer(
                key=kept.key,
                size=sum(head.allocated for head in kept.heads if head),
                made=max((head.changed for head in kept.heads if head), default=0.0),
                needed=_is_needed(kept, parents),
            )
            for kept in found.values()
        )

    def add_root_disk(self, key: str, path: Path, *, linked: bool, size: int | None) -> None:
        """Make a machine's disk at ``path`` from a layer, at least ``size`` bytes large.

        Raises:
            WrongState: there is no such layer, or something that it stands on is gone.
        """
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._held():
            chain = self._chain(key)
            if (top := vdi.read(chain[-1])) is None:
                raise WrongState(f"the layer {key[:12]} is damaged")
            media.check_size(size, top.capacity)
            with ExitStack() as held:
                if chain[0].parent == self.media.bases:
                    held.enter_context(flock.held(self.media.lock_path(chain[0].stem)))
                for below in chain[:-1]:
                    self.door("showmediuminfo", "disk", below)  # VirtualBox opens only what stands on what it knows
                self._make(path, chain[-1], linked=linked)
        if size is not None and size > top.capacity:
            self.media.resize(path, size)
        if not linked:
            self.media.close_grounds()

    def has(self, key: str) -> bool:
        """Whether there is a whole layer of that key, with all that it stands on."""
        try:
            return bool(self._chain(key))
        except WrongState:
            return False

    @contextmanager
    def making(self, key: str) -> Iterator[LayerPart | None]:
        """Have a layer made: its part is to be filled in the block, and counts after it; None = there is one.

        Raises:
            WrongState: there is one that is damaged, and machines stand on it.
        """
        with self._held():
            self._sweep()
            if self.has(key):
                yield None
                return
            if not self._remove(key):
                raise WrongState(
                    f"the layer {key[:12]} is damaged, and machines stand on it",
                    hint="vmctl cache list    # which machines",
                )
            part = LayerPart(self.door, self.media.layers / f".{key}")
            part.path.mkdir(mode=0o700, parents=True)
            try:
                yield part
                part.finish()
                part.path.rename(self.media.layers / key)
                media.sync(self.media.layers)
            except BaseException:
                shutil.rmtree(part.path, ignore_errors=True)
                raise

    def remove(self, key: str) -> bool:
        """Remove a layer, unless something stands on it; whether it is gone."""
        with self._held():
            self._sweep()
            gone = self._remove(key)
        if gone:
            self.media.close_grounds()
        return gone

    def sweep(self) -> tuple[Layer, ...]:
        """Remove what killed commands left, if anything; what that was."""
        if not any(self.media.layers.glob(".*")):
            return ()
        with self._held():
            return self._sweep()

    def _held(self) -> AbstractContextManager[None]:
        return flock.held(self.media.lock_path(media.LAYERS))

    def _sweep(self) -> tuple[Layer, ...]:
        """As ``sweep``; the lock is ours, so nobody is making one."""
        found = []
        for stale in self.media.layers.glob(".*"):
            size = sum(file.stat().st_blocks * BLOCK for file in stale.iterdir())
            found.append(Layer(key=stale.name.strip(".").partition(".")[0], size=size, made=stale.stat().st_mtime))
            shutil.rmtree(stale)
        return tuple(found)

    def _remove(self, key: str) -> bool:
        directory = self.media.layers / key
        kept = self._kept().get(key)
        if kept is None:
            return True
        if _is_needed(kept, self.media.parents()):
            return False
        if not self.media.let_go(directory):
            return False
        gone = directory.with_name(f".{key}.gone")
        directory.rename(gone)
        shutil.rmtree(gone)
        return True

    def _make(self, path: Path, layer: Path, *, linked: bool) -> None:
        if linked:
            self.door("createmedium", "disk", "--filename", path, "--diffparent", layer, "--format", "VDI")
        else:
            self.door("clonemedium", "disk", layer, path, "--format", "VDI", deadline=COPY_DEADLINE)

    def _kept(self) -> dict[str, KeptLayer]:
        return {
            directory.name: _read(directory)
            for directory in self.media.layers.glob("*")
            if KEY.fullmatch(directory.name)
        }

    def _chain(self, key: str) -> list[Path]:
        """The disks that a new machine stands on, the lowest first."""
        found = self._kept()
        by_uuid = {uuid: kept for kept in found.values() for uuid in kept.uuids}
        bases = {head.uuid: path for path in self.media.bases.glob("*.vdi") if (head := vdi.read(path))}
        chain: list[Path] = []
        kept = found.get(key)
        while kept is not None and kept.is_whole:
            chain[:0] = kept.disks
            if not kept.ground:
                return chain
            if kept.ground in bases:
                return [bases[kept.ground], *chain]
            kept = by_uuid.pop(kept.ground, None)
        raise WrongState(
            f"the layer {key[:12]} is damaged, or what it stands on is gone" if chain or key in found
            else f"there is no layer {key[:12]} any more"
        )  # fmt: skip


@dataclass(frozen=True)
class LayerPart:
    """A layer in the making."""

    door: VBoxManage
    path: Path

    def fill(self, disks: Sequence[Path]) -> None:
        """Copy a machine's disks, the lowest first, while nobody writes to them."""
        for number, disk in enumerate(disks, 1):
            copy = (*REFLINK, "--", disk, self.path / f"{number}.vdi")
            process.run([process.find("cp"), *copy], deadline=COPY_DEADLINE)

    def finish(self) -> None:
        """Give the copies UUIDs of their own, and have everything on the disk."""
        below = ""
        for path in _disks(self.path):
            self.door("internalcommands", "sethduuid", path)
            if below:
                self.door("internalcommands", "sethdparentuuid", path, below)
            head = vdi.read(path)
            below = head.uuid if head else ""
            media.sync(path)
        media.sync(self.path)


def _disks(directory: Path) -> tuple[Path, ...]:
    disks = [path for path in directory.glob("*.vdi") if NUMBER.fullmatch(path.stem)]
    return tuple(sorted(disks, key=lambda path: int(path.stem)))


def _read(directory: Path) -> KeptLayer:
    disks = _disks(directory)
    return KeptLayer(directory.name, disks, tuple(vdi.read(path) for path in disks))


def _is_needed(kept: KeptLayer, parents: Mapping[str, str]) -> bool:
    uuids = kept.uuids
    return any(parent in uuids and child not in uuids for child, parent in parents.items())


@dataclass(frozen=True)
class BoxMedia:
    """The bases of one vmctl data directory."""

    media: Media

    def all(self) -> Iterator[Layer]:
        """Every base, by its box's digest; needed are those that a layer or a disk of a machine stands on."""
        paths = [path for path in self.media.bases.glob("*.vdi") if KEY.fullmatch(path.stem)]
        parents = {*self.media.parents().values()} if paths else set()
        for path in paths:
            if head := vdi.read(path):
                needed = head.uuid in parents
                yield Layer(key=path.stem, size=head.allocated, made=head.changed, needed=needed)

    def sweep(self) -> Iterator[Layer]:
        """Remove what killed conversions left; what that was."""
        for part in self.media.bases.glob(".*.vdi"):
            digest = part.name.strip(".").partition(".")[0]
            if flock.is_held(self.media.lock_path(digest)):
                continue  # somebody converts it just now
            with flock.held(self.media.lock_path(digest)):
                size = part.stat().st_blocks * BLOCK if part.exists() else 0
                part.unlink(missing_ok=True)
            yield Layer(key=digest, size=size)

    def remove(self, digest: str) -> bool:
        """Remove a base that nothing stands on; whether it is gone."""
        path = self.media.base_path(digest)
        with flock.held(self.media.lock_path(media.LAYERS)), flock.held(self.media.lock_path(digest)):
            head = vdi.read(path)
            if head is not None and head.uuid in self.media.parents().values():
                return False
            if not self.media.let_go(path):
                return False
            path.unlink(missing_ok=True)
        return True
