"""Short chains: an overlay that no snapshot names any more goes, or takes in the one that stands on it.

Joining two overlays keeps what both show. It is done by libvirt where the machine runs, else by qemu-img where vmctl
may write to the pool; else the overlay stays until one of the two is the case.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from vmctl import process
from vmctl.driver import State
from vmctl.process import ProgramMissing
from vmctl.wait import Deadline, until
from vmctl_libvirt import domain_edit, layers, machines
from vmctl_libvirt.domain_edit import Edit
from vmctl_libvirt.layer_storage import LayerStorage, Overlay
from vmctl_libvirt.layers import Tree
from vmctl_libvirt.libvirt_errors import library
from vmctl_libvirt.storage import BASE, LAYER

COPYING = 3600.0
"""Seconds for joining two overlays."""


@dataclass(frozen=True)
class Chain:
    """The overlays of one machine; each disk has a chain of its own."""

    connection: Any
    storage: LayerStorage
    name: str
    domain: Any
    runs_guests: bool
    writes_pool: bool

    def tidy(self, tree: Tree, tops: Sequence[str]) -> None:
        """Delete what is not needed; then join what can be joined, one pair after the other.

        ``tops`` are the paths of the overlays that the machine writes to.
        """
        self._drop_unused(tree, tops)
        while pair := joinable(self.storage.overlays(self.name, fresh=True), tree, tops):
            if not self._join(*pair, tree, tops):
                return
            tree, tops = layers.read(self.domain), domain_edit.disks(self.domain)
            self._drop_unused(tree, tops)

    def _drop_unused(self, tree: Tree, tops: Sequence[str]) -> None:
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

    def _join(self, lower: str, upper: str, tree: Tree, tops: Sequence[str]) -> bool:
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
        edit = Edit(disks=layers.replaced(tops, upper, lower), tree=tree.moved(upper, lower))
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

        until(is_done, Deadline.after(COPYING), f"the disk of {self.name} to be joined", hint="virsh domblklist")

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


def needed(present: Mapping[str, Overlay], tree: Tree, tops: Iterable[str]) -> set[str]:
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


def joinable(present: Mapping[str, Overlay], tree: Tree, tops: Iterable[str]) -> tuple[str, str] | None:
    """An overlay that nobody names or needs, and the only one that stands on it; None = there is no such pair."""
    named = {*tops, *tree.volumes()}
    for path in sorted(present):
        above = [each.path for each in present.values() if each.below == path]
        if path not in named and not present[path].pinned and len(above) == 1:
            return path, above[0]
    return None
