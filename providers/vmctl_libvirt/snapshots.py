"""Snapshots: the overlays that a machine writes to are frozen, and new ones put on top; memory goes to a file.

libvirt's own internal snapshots would need no files, but it refuses them for UEFI machines, for machines with a live
folder, and beside a raw disk such as the seed; and it cannot go back to its own external ones before version 10. So
vmctl lets libvirt make external ones, and keeps account of them itself, in the domain's metadata.

An overlay that no snapshot names any more goes, or takes in the one that stands on it, so that chains stay short.
Joining two overlays keeps what both show. It is done by libvirt where the machine runs, else by qemu-img where vmctl
may write to the pool; else the overlay stays until one of the two is the case.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from msgspec import structs

from vmctl import interrupt, process
from vmctl.driver import State, Tag
from vmctl.errors import VmctlError, WrongState
from vmctl.powers import Snapshot
from vmctl.process import ProgramMissing
from vmctl.wait import Deadline, until
from vmctl_libvirt import domain_edit, domain_mark, freezing, machines, snapshot_tree
from vmctl_libvirt.domain_edit import Edit
from vmctl_libvirt.layer_storage import LayerStorage, Overlay
from vmctl_libvirt.libvirt_connection import Abilities
from vmctl_libvirt.libvirt_errors import library, virsh
from vmctl_libvirt.pool import BASE, LAYER
from vmctl_libvirt.snapshot_tree import SnapshotNode, SnapshotTree

logger = logging.getLogger(__name__)

RUNNING = (State.RUNNING, State.PAUSED)
POSSIBLE = (*RUNNING, State.STOPPED, State.CRASHED)
COPYING = 3600.0
"""Seconds for joining two overlays."""


@dataclass(frozen=True)
class DomainSnapshotter:
    """Acts on one machine's snapshots, on an open connection. Methods raise ``libvirt.libvirtError``."""

    connection: Any
    storage: LayerStorage
    name: str
    tag: Tag
    runs_guests: bool
    writes_pool: bool

    @classmethod
    def of(cls, connection: Any, abilities: Abilities, name: str, tag: Tag) -> DomainSnapshotter:
        """The snapshots of the machine with this name."""
        storage = LayerStorage(connection, abilities)
        return cls(connection, storage, name, tag, abilities.runs_guests, abilities.writes_pool)

    def all(self) -> tuple[Snapshot, ...]:
        """The snapshots, parents first."""
        domain, _ = machines.must_find(self.connection, self.name, self.tag)
        return tuple(self._told(snapshot_tree.read(domain)))

    def save(self, snapshot: str, *, replacing: bool, note: str) -> Snapshot:
        """Keep the present state."""
        domain, _ = machines.must_find(self.connection, self.name, self.tag)
        tree, state = snapshot_tree.read(domain), machines.state_of(domain)
        if tree.find(snapshot) and not replacing:
            raise WrongState(f"{self.name} has a snapshot {snapshot!r} already", hint="vmctl snapshot list")
        if state not in POSSIBLE:
            raise WrongState(f"{self.name} is {state.value}: no snapshot can be taken of it now", hint="vmctl resume")
        node = SnapshotNode(
            id=secrets.token_hex(4), name=snapshot, parent="", date=time.time(), memory=state in RUNNING,
            disks=self._own_disks(domain), note=note,
        )  # fmt: skip
        with interrupt.shielded():
            self._freeze(domain, tree, node, state)
            self._try_to_tidy(domain)
        return next(each for each in self.all() if each.name == snapshot)

    def restore(self, snapshot: str) -> None:
        """Go back: new overlays on the frozen ones, and the snapshot's memory for the next start."""
        domain, mark = machines.must_find(self.connection, self.name, self.tag)
        tree = snapshot_tree.read(domain)
        node = tree.find(snapshot)
        if node is None:
            raise WrongState(f"{self.name} has no snapshot {snapshot!r}", hint="vmctl snapshot list")
        if len(node.disks) != (count := len(self._own_disks(domain))):
            raise WrongState(
                f"{self.name} has {count} disks, and had {len(node.disks)} when {snapshot!r} was saved",
                hint="vmctl snapshot list",
            )
        memory = self.storage.memory_path(self.name, node.id) if node.memory else ""  # or fail, with nothing changed
        with interrupt.shielded():
            machines.stop(self.connection, self.name, self.tag, force=True)
            edit = Edit(
                disks=self._stack(node),
                mark=structs.replace(mark, resume=memory),
                tree=structs.replace(tree, current=snapshot),
            )
            domain_edit.redefine(self.connection, domain, edit)
            self._try_to_tidy(domain)

    def remove(self, snapshot: str) -> None:
        """Forget one; what nothing builds on is deleted, the rest joined with what builds on it, where that can be."""
        domain, _ = machines.must_find(self.connection, self.name, self.tag)
        tree = snapshot_tree.read(domain)
        if tree.find(snapshot):
            with interrupt.shielded():
                snapshot_tree.write(domain, tree.without(snapshot))
                self._tidy(domain)

    def _freeze(self, domain: Any, tree: SnapshotTree, node: SnapshotNode, state: State) -> None:
        """Put new overlays on top, and remember those below as a snapshot."""
        try:
            tops = self._stack(node)
            memory = self.storage.memory(self.name, node.id) if node.memory else ""
            if state in RUNNING and self.runs_guests and not freezing.freeze_live(domain, tops, memory):
                node = structs.replace(node, memory=False)
            domain_edit.redefine(self.connection, domain, Edit(disks=tops, tree=tree.with_node(node)))
        except BaseException:
            self._try_to_tidy(domain)
            raise

    def _own_disks(self, domain: Any) -> tuple[str, ...]:
        return freezing.own_disks(self.storage, domain, self.name)

    def _stack(self, node: SnapshotNode) -> tuple[str, ...]:
        """A new overlay on each of the snapshot's disks."""
        return tuple(self.storage.stack(self.name, secrets.token_hex(4), disk) for disk in node.disks)

    def _try_to_tidy(self, domain: Any) -> None:
        """What cannot be put away now will be by the next command; it is no reason to fail."""
        try:
            self._tidy(domain)
        except (library().libvirtError, VmctlError) as error:
            logger.debug("snapshots of %s: %s", self.name, error)

    def _tidy(self, domain: Any) -> None:
        """Delete what no snapshot and no machine needs any more, and shorten chains."""
        tree, tops = snapshot_tree.read(domain), domain_edit.disks(domain)
        parts = (self.connection, self.storage, self.name, domain)
        OverlayChain(*parts, self.runs_guests, self.writes_pool).tidy(tree, tops)
        mark = domain_mark.read(domain)
        wanted = {node.id for node in snapshot_tree.read(domain).nodes if node.memory}
        for path in self.storage.memories(self.name):
            if path.split(".")[-2] not in wanted and not (mark and mark.resume == path):
                self.storage.delete(path)

    def _told(self, tree: SnapshotTree) -> Iterator[Snapshot]:
        overlays, memories = self.storage.overlays(self.name), self.storage.memories(self.name)
        by_id = {path.split(".")[-2]: size for path, size in memories.items()}
        for node in tree.nodes:
            disks = (overlays[path].allocation for path in node.disks if path in overlays)
            yield Snapshot(
                name=node.name,
                parent=node.parent,
                date=node.date,
                size=sum(disks) + by_id.get(node.id, 0),
                memory=node.memory,
                current=node.name == tree.current,
                note=node.note,
            )


@dataclass(frozen=True)
class OverlayChain:
    """The overlays of one machine; each disk has a chain of its own."""

    connection: Any
    storage: LayerStorage
    name: str
    domain: Any
    runs_guests: bool
    writes_pool: bool

    def tidy(self, tree: SnapshotTree, tops: Sequence[str]) -> None:
        """Delete what is not needed; then join what can be joined, one pair after the other.

        ``tops`` are the paths of the overlays that the machine writes to.
        """
        self._drop_unused(tree, tops)
        while pair := joinable(self.storage.overlays(self.name, fresh=True), tree, tops):
            if not self._join(*pair, tree, tops):
                return
            tree, tops = snapshot_tree.read(self.domain), domain_edit.disks(self.domain)
            self._drop_unused(tree, tops)

    def _drop_unused(self, tree: SnapshotTree, tops: Sequence[str]) -> None:
        """Delete what is not needed by anybody's account: ours, that of the files, that of the running machine."""
        present = self.storage.overlays(self.name, fresh=True)
        wanted = needed(present, tree, tops)
        if not is_grounded(present, wanted):
            return
        unused = {path for path in present.keys() - wanted if not present[path].pinned}
        if self.domain.isActive():
            unused -= domain_edit.live_volumes(self.domain)
        for path in unused:
            self.storage.delete(path)

    def _join(self, lower: str, upper: str, tree: SnapshotTree, tops: Sequence[str]) -> bool:
        """Have ``lower`` hold what ``upper`` shows, and all use it in place of ``upper``; whether it was done."""
        state = machines.state_of(self.domain)
        if not self.runs_guests:
            return False
        if state is State.RUNNING and upper in domain_edit.live_volumes(self.domain):
            self._commit_live(lower, upper, is_top=upper in tops)
        elif state in (State.STOPPED, State.CRASHED) and self.writes_pool:
            if not self._commit_file(lower, upper):
                return False
        else:
            return False
        edit = Edit(disks=snapshot_tree.replaced(tops, upper, lower), tree=tree.moved(upper, lower))
        domain_edit.redefine(self.connection, self.domain, edit)
        return True

    def _commit_live(self, lower: str, upper: str, *, is_top: bool) -> None:
        libvirt = library()
        chains = domain_edit.live_chains(self.domain)
        target = next(target for target, chain in chains.items() if upper in chain)
        flags = libvirt.VIR_DOMAIN_BLOCK_COMMIT_ACTIVE if is_top else 0
        if self.domain.blockJobInfo(target, 0):  # of a vmctl that was killed
            self.domain.blockJobAbort(target, 0)
        self.domain.blockCommit(target, lower, None if is_top else upper, 0, flags)

        def is_done() -> bool:
            if upper not in domain_edit.live_volumes(self.domain):
                return True
            info = self.domain.blockJobInfo(target, 0)
            if is_top and info and info["end"] > 0 and info["cur"] == info["end"]:
                self._pivot(target)
            return False

        hint = virsh(self.connection, "domblklist", self.name)
        until(is_done, Deadline.after(COPYING), f"the disk of {self.name} to be joined", hint=hint)

    def _pivot(self, target: str) -> None:
        libvirt = library()
        # Refused until QEMU itself says that both are alike, which may be a moment later: then asked again.
        with suppress(libvirt.libvirtError):
            self.domain.blockJobAbort(target, libvirt.VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT)

    def _commit_file(self, lower: str, upper: str) -> bool:
        try:
            qemu_img = process.find("qemu-img", package="qemu-utils")
        except ProgramMissing:
            return False
        process.run([qemu_img, "commit", "-q", "--", upper], deadline=COPYING)
        for each in self.storage.overlays(self.name).values():
            if each.below == upper:
                process.run([qemu_img, "rebase", "-u", "-b", lower, "-F", "qcow2", "--", each.path], deadline=COPYING)
        return True


def needed(present: Mapping[str, Overlay], tree: SnapshotTree, tops: Iterable[str]) -> set[str]:
    """Paths of the overlays that the machine or a snapshot stands on."""
    found: set[str] = set()
    for path in (*tops, *tree.volumes()):
        at = path
        while at in present and at not in found:
            found.add(at)
            at = present[at].below
    return found


def is_grounded(present: Mapping[str, Overlay], wanted: Iterable[str]) -> bool:
    """Whether each of these stands on another one, a layer or a box; if not, something is not understood."""
    below = {present[path].below for path in wanted}
    return all(path in present or PurePosixPath(path).name.startswith((BASE, LAYER)) for path in below)


def joinable(present: Mapping[str, Overlay], tree: SnapshotTree, tops: Iterable[str]) -> tuple[str, str] | None:
    """An overlay that nobody names or needs, and the only one that stands on it; None = there is no such pair."""
    named = {*tops, *tree.volumes()}
    for path in sorted(present):
        above = [each.path for each in present.values() if each.below == path]
        if path not in named and not present[path].pinned and len(above) == 1:
            return path, above[0]
    return None
