"""Snapshots: the overlays that a machine writes to are frozen, and new ones put on top; memory goes to a file.

libvirt's own internal snapshots would need no files, but it refuses them for UEFI machines, for machines with a live
folder, and beside a raw disk such as the seed; and it cannot go back to its own external ones before version 10. So
vmctl lets libvirt make external ones, and keeps account of them itself, in the domain's metadata.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from msgspec import structs

from vmctl import interrupt
from vmctl.driver import State, Tag
from vmctl.errors import VmctlError, WrongState
from vmctl.powers import Snapshot
from vmctl_libvirt import domain_edit, freezing, identity, layers, machines, merging
from vmctl_libvirt.domain_edit import Edit
from vmctl_libvirt.layer_storage import LayerStorage
from vmctl_libvirt.layers import Layer, Tree
from vmctl_libvirt.libvirt_errors import library

logger = logging.getLogger(__name__)

RUNNING = (State.RUNNING, State.PAUSED)
POSSIBLE = (*RUNNING, State.STOPPED, State.CRASHED)


@dataclass(frozen=True)
class DomainSnapshotter:
    """Acts on one machine's snapshots, on an open connection. Methods raise ``libvirt.libvirtError``."""

    connection: Any
    storage: LayerStorage
    name: str
    tag: Tag
    runs_guests: bool
    writes_pool: bool

    def all(self) -> tuple[Snapshot, ...]:
        """The snapshots, parents first."""
        domain, _ = machines.must_find(self.connection, self.name, self.tag)
        return tuple(self._told(layers.read(domain)))

    def save(self, snapshot: str, *, replacing: bool, note: str) -> Snapshot:
        """Keep the present state."""
        domain, _ = machines.must_find(self.connection, self.name, self.tag)
        tree, state = layers.read(domain), machines.state_of(domain)
        if tree.find(snapshot) and not replacing:
            raise WrongState(f"{self.name} has a snapshot {snapshot!r} already", hint="vmctl snapshot list")
        if state not in POSSIBLE:
            raise WrongState(f"{self.name} is {state.value}: nothing can be kept of that", hint="vmctl resume")
        layer = Layer(
            id=secrets.token_hex(4), name=snapshot, parent="", date=time.time(), memory=state in RUNNING,
            disks=self._own_disks(domain), note=note,
        )  # fmt: skip
        with interrupt.shielded():
            self._freeze(domain, tree, layer, state)
            self._try_to_tidy(domain)
        return next(each for each in self.all() if each.name == snapshot)

    def restore(self, snapshot: str) -> None:
        """Go back: new overlays on the frozen ones, and the snapshot's memory for the next start."""
        domain, mark = machines.must_find(self.connection, self.name, self.tag)
        tree = layers.read(domain)
        layer = tree.find(snapshot)
        if layer is None:
            raise WrongState(f"{self.name} has no snapshot {snapshot!r}", hint="vmctl snapshot list")
        if len(layer.disks) != (count := len(self._own_disks(domain))):
            raise WrongState(
                f"{self.name} has {count} disks, and had {len(layer.disks)} when {snapshot!r} was saved",
                hint="vmctl snapshot list",
            )
        memory = self.storage.memory_path(self.name, layer.id) if layer.memory else ""  # or fail, with nothing changed
        with interrupt.shielded():
            machines.stop(self.connection, self.name, self.tag, force=True)
            edit = Edit(
                disks=self._stack(layer),
                mark=structs.replace(mark, resume=memory),
                tree=structs.replace(tree, current=snapshot),
            )
            domain_edit.redefine(self.connection, domain, edit)
            self._try_to_tidy(domain)

    def remove(self, snapshot: str) -> None:
        """Forget one; what nothing builds on is deleted, the rest joined with what builds on it, where that can be."""
        domain, _ = machines.must_find(self.connection, self.name, self.tag)
        tree = layers.read(domain)
        if tree.find(snapshot):
            with interrupt.shielded():
                layers.write(domain, tree.without(snapshot))
                self._tidy(domain)

    def _freeze(self, domain: Any, tree: Tree, layer: Layer, state: State) -> None:
        """Put new overlays on top, and remember those below as a snapshot."""
        try:
            tops = self._stack(layer)
            memory = self.storage.memory(self.name, layer.id) if layer.memory else ""
            if state in RUNNING and self.runs_guests and not freezing.freeze_live(domain, tops, memory):
                layer = structs.replace(layer, memory=False)
            domain_edit.redefine(self.connection, domain, Edit(disks=tops, tree=tree.with_layer(layer)))
        except BaseException:
            self._try_to_tidy(domain)
            raise

    def _own_disks(self, domain: Any) -> tuple[str, ...]:
        return freezing.own_disks(self.storage, domain, self.name)

    def _stack(self, layer: Layer) -> tuple[str, ...]:
        """A new overlay on each of the snapshot's disks."""
        return tuple(self.storage.stack(self.name, secrets.token_hex(4), disk) for disk in layer.disks)

    def _try_to_tidy(self, domain: Any) -> None:
        """What cannot be put away now will be by the next command; it is no reason to fail."""
        try:
            self._tidy(domain)
        except (library().libvirtError, VmctlError) as error:
            logger.debug("snapshots of %s: %s", self.name, error)

    def _tidy(self, domain: Any) -> None:
        """Delete what no snapshot and no machine needs any more, and shorten chains."""
        tree, tops = layers.read(domain), domain_edit.disks(domain)
        parts = (self.connection, self.storage, self.name, domain)
        merging.Chain(*parts, self.runs_guests, self.writes_pool).tidy(tree, tops)
        mark = identity.read(domain)
        wanted = {layer.id for layer in layers.read(domain).layers if layer.memory}
        for path in self.storage.memories(self.name):
            if path.split(".")[-2] not in wanted and not (mark and mark.resume == path):
                self.storage.delete(path)

    def _told(self, tree: Tree) -> Iterator[Snapshot]:
        overlays, memories = self.storage.overlays(self.name), self.storage.memories(self.name)
        by_id = {path.split(".")[-2]: size for path, size in memories.items()}
        for layer in tree.layers:
            disks = (overlays[path].allocation for path in layer.disks if path in overlays)
            yield Snapshot(
                name=layer.name,
                parent=layer.parent,
                date=layer.date,
                size=sum(disks) + by_id.get(layer.id, 0),
                memory=layer.memory,
                current=layer.name == tree.current,
                note=layer.note,
            )
