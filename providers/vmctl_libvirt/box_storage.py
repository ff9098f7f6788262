"""Copies of boxes' images in vmctl's pool: read-only volumes named by digest, which machines stand on.

Volumes cannot be renamed, so a copy gets a name of its own each time (digest and a random part), and counts only once
a second, empty volume ``….complete`` stands beside it. An upload that was killed is never used, and two vmctl, even of
different users on different hosts, need no lock against each other. A copy that is being removed has lost that volume
as well, and has a tombstone.
"""

from __future__ import annotations

import secrets
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from typing import Any

from vmctl.driver import Disk
from vmctl.powers import Layer
from vmctl_libvirt.libvirt_errors import NO_VOLUME, library, still_there
from vmctl_libvirt.pool import BASE, BASE_NAME, COMPLETE, TOMBSTONE, PoolVolume, Volume
from vmctl_libvirt.storage import Storage, file_size

READ_ONLY = 0o444
DIGEST = 64
"""Hex digits of an image's."""
UPLOADED = 3600
"""Seconds without a change after which a copy that is not complete counts as left behind, not as being uploaded."""


def base_stem(digest: str) -> str:
    """What the names of all copies of a box begin with."""
    return f"{BASE}{digest}-"


class BoxStorage(Storage):
    """The pool, with the copies of boxes in it."""

    def base(self, disk: Disk) -> str:
        """Path (on the hypervisor) of a complete, read-only copy of ``disk``; makes one where there is none."""
        pool = self._pool()
        for path in self._complete(pool, disk.digest):
            return path
        stem = base_stem(disk.digest) + secrets.token_hex(4)
        mode = "0644" if self._abilities.writes_pool else "0444"  # the copy itself makes it read-only then
        wanted = Volume(f"{stem}.{disk.format}", "raw", file_size(disk.path), mode=mode)
        volume = self._create(pool, wanted)
        try:
            self._fill(volume, disk.path, READ_ONLY)
            self._create(pool, Volume(stem + COMPLETE, "raw", 1, mode="0444"))
        except BaseException:
            with suppress(library().libvirtError):  # what failed first is what matters
                volume.delete(0)
            raise
        return str(volume.path())

    def copies(self, *, in_domains: Collection[str]) -> Iterator[Layer]:
        """The complete copies of boxes' images, by digest; needed are those that an overlay or a domain stands on."""
        places, made = self.places(), defaultdict(list)
        used = _used(places, in_domains)
        markers = {place.name for place in places if place.name.endswith(COMPLETE)}
        for place in places:
            if place.name.startswith(BASE) and place.name not in markers and _marker(place.name) in markers:
                made[place.name.removeprefix(BASE)[:DIGEST]].append(place)
        for digest, several in made.items():
            yield Layer(
                key=digest,
                size=sum(place.allocation for place in several),
                made=max(place.changed for place in several),
                needed=any(place.path in used for place in several),
            )

    def remove_copies(self, digest: str, *, in_domains: Collection[str]) -> bool:
        """Delete the complete copies of an image that nothing stands on; whether there is none left."""
        places = self.places()
        used, own = _used(places, in_domains), base_stem(digest)
        copies = [place for place in places if place.name.startswith(own) and not place.name.endswith(COMPLETE)]
        by_name = {place.name: place for place in places}
        for place in copies:
            marker = by_name.get(_marker(place.name))
            if marker and place.path not in used:
                self.condemn(_own_name(place), place.path, place.name.rpartition(".")[2])
                if place.path in (used := _used(self.places(), in_domains)):  # a machine was put on it meanwhile
                    self.pardon(_own_name(place))
                    continue
                self.delete(marker.path)  # first, so that nobody takes it up any more
                self.delete(place.path)
        self._drop_tombstones()
        return not any(place.path in used for place in copies)

    def remove_incomplete(self, *, in_domains: Collection[str], busy: Callable[[str], bool]) -> Iterator[Layer]:
        """Delete what killed removals and uploads left; what went.

        Args:
            in_domains: paths that domains have as disks.
            busy: whether a copy of the image with this digest may be uploaded just now; of those by others, it is not
                known.
        """
        places = self.places()
        used, names = _used(places, in_domains), {place.name for place in places}
        condemned = {place.backing for place in places if place.is_tombstone}
        for place in places:
            if not BASE_NAME.match(place.name) or place.path in used or _marker(place.name) in names:
                continue
            digest = place.name.removeprefix(BASE)[:DIGEST]
            is_old = time.time() - place.changed > UPLOADED and not busy(digest)
            if place.path in condemned or is_old:
                self.delete(place.path)
                yield Layer(key=digest, size=place.allocation, made=place.changed)
        self._drop_tombstones()

    def _drop_tombstones(self) -> None:
        """Delete those of copies that are gone."""
        places = self.places()
        present = {place.path for place in places}
        for stone in places:
            named = TOMBSTONE.fullmatch(stone.name)
            if named and named[2] and stone.backing not in present:
                self.drop(stone)

    def _complete(self, pool: Any, digest: str) -> Iterator[str]:
        stem = base_stem(digest)
        copies = [volume for volume in pool.listAllVolumes(0) if volume.name().startswith(stem)]
        for volume, path in still_there(copies, lambda volume: str(volume.path()), NO_VOLUME):
            if self._is_complete(pool, volume.name()):
                yield path

    def _is_complete(self, pool: Any, name: str) -> bool:
        if not name.startswith(BASE) or name.endswith(COMPLETE):
            return False
        return self._find(pool, _marker(name)) is not None


def _marker(name: str) -> str:
    return name.rpartition(".")[0] + COMPLETE


def _own_name(copy: PoolVolume) -> str:
    """The digest and the random part of a copy's name."""
    return copy.name.removeprefix(BASE).rpartition(".")[0]


def _used(places: Collection[PoolVolume], in_domains: Collection[str]) -> set[str]:
    """Paths of all volumes that something stands on."""
    return {*in_domains, *(place.backing for place in places if not place.is_tombstone)}
