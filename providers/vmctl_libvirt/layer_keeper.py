"""Layers: a machine's frozen overlays, kept under a key for other machines to stand on.

Volumes cannot be renamed, and a machine's overlays bear its name, as its memory does. So a layer is an empty overlay of
its own name for each of them, on what was frozen; what stands below it, `destroy` leaves alone. The root disk's comes
last: a layer without that one was never finished, and is none, and `destroy` takes it along.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from vmctl import interrupt
from vmctl.driver import State, Tag
from vmctl.errors import VmctlError, WrongState
from vmctl.powers import Layer
from vmctl_libvirt import domain_edit, freezing, machines
from vmctl_libvirt.domain_edit import Edit
from vmctl_libvirt.layer_storage import LayerStorage
from vmctl_libvirt.libvirt_errors import library
from vmctl_libvirt.pool import BASE, LAYER_NAME, OVERLAY, TOMBSTONE, PoolVolume
from vmctl_libvirt.pool import MEMORY as MEMORY_FILE

RUNNING = (State.RUNNING, State.PAUSED)
POSSIBLE = (*RUNNING, State.STOPPED, State.CRASHED)
MEMORY, ROOT = 0, 1
"""Numbers of the machine's memory, where that is kept as well, and of its root disk."""
HALF_MADE = 3600
"""Seconds after which what lacks its last volume counts as left behind, not as being made."""


@dataclass(frozen=True)
class DomainLayerKeeper:
    """Acts on an open connection. Methods raise ``libvirt.libvirtError``."""

    connection: Any
    storage: LayerStorage
    runs_guests: bool

    def all(self) -> tuple[Layer, ...]:
        """Every finished layer in the pool."""
        places = {place.path: place for place in self.storage.places()}
        in_domains = domain_edit.all_volumes(self.connection)
        return tuple(
            Layer(
                key=key,
                memory=MEMORY in disks,
                size=sum(own.allocation + _below(own, places) for own in disks.values()),
                made=disks[ROOT].changed,
                needed=_is_needed(disks.values(), places.values(), in_domains),
                seal=self._seal(disks, places) if MEMORY in disks else "",
            )
            for key, disks in _by_key(places.values()).items()
            if ROOT in disks
        )

    def _seal(self, disks: Mapping[int, PoolVolume], places: Mapping[str, PoolVolume]) -> str:
        """Digest of names, sizes and times of change; to read all of a memory takes longer than to go on from it."""
        facts = []
        for volume in disks.values():
            path = volume.path
            while path in places:
                facts.append((path, places[path].capacity, places[path].changed))
                path = places[path].backing
        return hashlib.sha256(json.dumps(sorted(facts)).encode()).hexdigest()

    def disks(self, key: str) -> tuple[str, ...]:
        """Paths of the volumes that a new machine stands on, the root disk's first; empty = there is no such layer."""
        disks = self._finished(key)
        return tuple(disks[number].path for number in sorted(disks) if number != MEMORY)

    def memory(self, key: str) -> tuple[str, tuple[str, ...]]:
        """Path of the memory that goes with the layer ("" = none), and of what was frozen with it, the root first."""
        disks = self._finished(key)
        ground = tuple(disks[number].backing for number in sorted(disks) if number != MEMORY)
        return disks[MEMORY].backing if MEMORY in disks else "", ground

    def _finished(self, key: str) -> Mapping[int, PoolVolume]:
        disks = _by_key(self.storage.places()).get(key, {})
        return disks if ROOT in disks else {}

    def freeze(self, name: str, tag: Tag, key: str, *, memory: bool = False) -> bool:
        """As ``LibvirtDriver.freeze``, and ``keep_memory`` where ``memory`` is to go with the disks."""
        domain, _ = machines.must_find(self.connection, name, tag)
        state = machines.state_of(domain)
        if state not in (RUNNING if memory else POSSIBLE) or (memory and not self.runs_guests):
            raise WrongState(f"{name} is {state.value}: no layer can be made of it now", hint="vmctl resume")
        if self.disks(key):
            return False
        frozen = freezing.own_disks(self.storage, domain, name)
        self._sweep_half_made(key)
        if memory:
            self._require_room(domain, name)
        with interrupt.shielded():
            path = self.storage.memory(name, secrets.token_hex(4)) if memory else ""
            try:
                self._put_on_top(domain, name, frozen, live=state in RUNNING and self.runs_guests, memory=path)
                self._keep(key, frozen, path)
            except BaseException:
                self._discard([path] if path else [])
                raise
        return True

    def _require_room(self, domain: Any, name: str) -> None:
        """See that the pool can take the memory: a full one stops this guest and all others that write to it.

        Raises:
            WrongState: it may not.
        """
        most, room = domain.maxMemory() // 1024, self.storage.room() // 1024**2
        if room < most:
            raise WrongState(
                f"the memory of {name} may take {most} MiB, and libvirt's pool has {room} MiB left",
                hint="vmctl cache prune",
            )

    def _put_on_top(self, domain: Any, name: str, frozen: Sequence[str], *, live: bool, memory: str) -> None:
        tops: list[str] = []
        try:
            for disk in frozen:
                tops.append(self.storage.stack(name, secrets.token_hex(4), disk))  # noqa: PERF401  what fails is undone
            if live:
                freezing.freeze_live(domain, tops, memory, or_disks=not memory)
            domain_edit.redefine(self.connection, domain, Edit(disks=tuple(tops)))
        except BaseException:
            with suppress(library().libvirtError):  # where libvirt cannot tell what is in use, all stays
                in_use = domain_edit.all_volumes(self.connection)
                self._discard(path for path in tops if path not in in_use)
            raise

    def _keep(self, key: str, frozen: Sequence[str], memory: str) -> None:
        made: list[str] = []
        try:
            if memory:
                made.append(self.storage.layer_memory(key, memory))
            for number, disk in reversed(list(enumerate(frozen, ROOT))):
                made.append(self.storage.layer(key, number, disk))
        except BaseException:
            self._discard(reversed(made))
            raise

    def _discard(self, paths: Iterable[str]) -> None:
        """Delete what was made for nothing, as far as that goes: what failed first is what matters."""
        for path in paths:
            with suppress(library().libvirtError, VmctlError):
                self.storage.delete(path)

    def _sweep_half_made(self, key: str) -> None:
        """Delete what is left of layers that were never finished: of this one, and of old tries of others."""
        for other in list(self._half_made()):
            if other.key == key or not other.needed:
                self._delete(other.key)

    def _half_made(self) -> Iterator[Layer]:
        """What there is of layers without a root disk; those that may be made just now are needed."""
        places = self.storage.places()
        layers, stones = _by_key(places), {_condemned(place): place for place in places if place.is_tombstone}
        for key in (layers.keys() | stones.keys()) - {""}:
            volumes = [*layers[key].values(), *(stone for stone in (stones.get(key),) if stone)]
            if ROOT not in layers[key]:
                made = max(each.changed for each in volumes)
                is_recent = key not in stones and time.time() - made <= HALF_MADE
                below = (volume for own in volumes for volume in (own, *self._only_below(own)))
                yield Layer(key=key, size=sum(each.allocation for each in below), made=made, needed=is_recent)

    def drop_half_made(self, name: str) -> None:
        """Delete what is left of layers of a machine that were never finished, and hold on to what it wrote.

        Nobody is making one: the machine is locked.
        """
        for volumes in _by_key(self.storage.places()).values():
            if ROOT not in volumes and any(self.storage.is_of(name, each.backing) for each in volumes.values()):
                for volume in volumes.values():
                    self.storage.delete(volume.path)

    def remove(self, key: str) -> bool:
        """As ``LibvirtDriver.remove_layer``."""
        if self._is_needed(key):
            return False
        with interrupt.shielded():
            if root := _by_key(self.storage.places())[key].get(ROOT):
                self.storage.condemn(key, root.backing, OVERLAY)
                if self._is_needed(key):  # that took a moment, and another user may have put a machine on it
                    self.storage.pardon(key)
                    return False
            self._delete(key)
        return True

    def _is_needed(self, key: str) -> bool:
        places = self.storage.places()
        return _is_needed(_by_key(places)[key].values(), places, domain_edit.all_volumes(self.connection))

    def remove_leftovers(self) -> tuple[Layer, ...]:
        """Go on with removals that were killed, and delete what was never finished and nobody makes; what went."""
        gone = tuple(layer for layer in self._half_made() if not layer.needed)
        with interrupt.shielded():
            for layer in gone:
                self._delete(layer.key)
        return gone

    def _delete(self, key: str) -> None:
        """Delete a layer's volumes, and what stands below them and is of no use to anybody else.

        The root disk's goes first: there is no layer then. Whatever the moment, what is still there is below a volume
        that bears the key, so that somebody else can go on.
        """
        if root := _by_key(self.storage.places())[key].get(ROOT):
            self.storage.delete(root.path)
            self._delete_below(root)
        places = self.storage.places()
        for volume in _by_key(places)[key].values():
            self._delete_below(volume)
            self.storage.delete(volume.path)
        for stone in (place for place in places if place.is_tombstone and _condemned(place) == key):
            self._delete_below(stone)
            self.storage.drop(stone)

    def _delete_below(self, own: PoolVolume) -> None:
        for volume in reversed(self._only_below(own)):  # the lowest first: ``own`` still leads to the others then
            self.storage.delete(volume.path)

    def _only_below(self, own: PoolVolume) -> list[PoolVolume]:
        """What a machine wrote that is gone, below a volume, as far as nobody else needs it; the highest first."""
        places = {place.path: place for place in self.storage.places()}
        found, above, path = [], own.path, own.backing
        while (place := places.get(path)) and _is_written_by_a_machine(place.name):
            others = (each.backing for each in places.values() if each.path != above and not each.is_tombstone)
            if path in others or domain_edit.is_mentioned(self.connection, path):
                break
            found.append(place)
            above, path = path, place.backing
        return found


def _is_needed(own: Collection[PoolVolume], places: Iterable[PoolVolume], in_domains: Collection[str]) -> bool:
    """Whether others than the layer itself stand on its disks, or on what was frozen for it."""
    ours = {place.path for place in own}
    ground = ours | {place.backing for place in own}
    return any(path in ground for path in in_domains) or any(
        place.backing in ground for place in places if place.path not in ours and not place.is_tombstone
    )


def _is_written_by_a_machine(volume: str) -> bool:
    kinds = (f".{OVERLAY}", f".{MEMORY_FILE}")
    return volume.endswith(kinds) and not volume.startswith(BASE) and not LAYER_NAME.fullmatch(volume)


def _condemned(stone: PoolVolume) -> str:
    """Key of the layer that a tombstone is of; "" = it is of a copy of a box."""
    named = TOMBSTONE.fullmatch(stone.name)
    return "" if named is None or named[2] else named[1]


def _by_key(places: Iterable[PoolVolume]) -> dict[str, dict[int, PoolVolume]]:
    """The disks of each layer by number, finished or not."""
    found: dict[str, dict[int, PoolVolume]] = defaultdict(dict)
    for place in places:
        if named := LAYER_NAME.fullmatch(place.name):
            found[named[1]][int(named[3] or MEMORY)] = place
    return found


def _below(own: PoolVolume, places: Mapping[str, PoolVolume]) -> int:
    """Bytes of all that a layer's disk stands on, down to the next layer or the box."""
    others = {place.backing for place in places.values() if LAYER_NAME.fullmatch(place.name)} - {own.backing}
    total, path = 0, own.backing
    while path in places and path not in others and _is_written_by_a_machine(places[path].name):
        total += places[path].allocation
        path = places[path].backing
    return total
