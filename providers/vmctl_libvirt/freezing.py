"""Freezing disks: a machine writes to new overlays from now on, and what it wrote so far stays as it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vmctl import templates
from vmctl.errors import WrongState
from vmctl_libvirt import domain_edit
from vmctl_libvirt.libvirt_errors import is_unsavable, library
from vmctl_libvirt.storage import Storage


def own_disks(storage: Storage, domain: Any, name: str) -> tuple[str, ...]:
    """The volumes that the machine ``name`` writes to, all of them made by vmctl.

    Raises:
        WrongState: there are others, which could not be frozen.
    """
    disks = domain_edit.disks(domain)
    own = storage.own(disks)
    if foreign := [path for path in disks if path not in own]:
        raise WrongState(
            f"{name} has a disk that vmctl did not make, and a snapshot cannot keep it",
            details="\n".join(foreign),
            hint="vmctl reload    # once `libvirt.xml` makes it <readonly/>, or leaves it out",
        )
    return disks


def freeze_live(domain: Any, tops: Sequence[str], memory: str = "", *, or_disks: bool = True) -> bool:
    """Have a running machine write to ``tops`` from now on; whether its memory was written to ``memory`` ("" = not).

    Raises:
        WrongState: its memory cannot be saved, and the disks alone (``or_disks``) are not wanted.
    """
    libvirt = library()
    flags = (
        libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_NO_METADATA
        | libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_ATOMIC
        | libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_REUSE_EXT
    )
    new = dict(zip(domain_edit.live_chains(domain), tops, strict=True))
    others = domain_edit.read_only_targets(domain)
    if memory:
        refused = _save(domain, _xml(memory, new, others), flags)
        if not refused:
            return True
        if not or_disks:
            raise WrongState("the machine's memory cannot be saved as it is", details=refused, hint="vmctl halt")
    domain.snapshotCreateXML(_xml("", new, others), flags | libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY)
    return False


def _save(domain: Any, xml: str, flags: int) -> str:
    """Have the memory written as well, or what forbids that."""
    if domain_edit.has_virtiofs(domain):
        return "it has a live folder (virtiofs)"
    try:
        domain.snapshotCreateXML(xml, flags)
    except library().libvirtError as error:
        if not is_unsavable(error):
            raise
        return str(error)
    return ""


def _xml(memory: str, new: Mapping[str, str], others: Sequence[str]) -> str:
    return templates.render("vmctl_libvirt", "snapshot.xml.j2", memory=memory, new=new, others=others)
