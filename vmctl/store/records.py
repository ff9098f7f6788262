"""What vmctl keeps of one machine: the record of what only vmctl knows, and the journal of what was done.

The record is written before the machine is made, so that nothing is ever orphaned. The journal is append-only, synced,
for people and tests: steps never need it to go on (they look at the world instead); it says what a killed vmctl was
doing.
"""

from __future__ import annotations

import errno
import ipaddress
import json
import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from msgspec import Struct, ValidationError, convert, field, structs, to_builtins

from vmctl import json_text, redaction
from vmctl.box_facts import SEEDED_BY_VMCTL, BoxFacts
from vmctl.driver import Forward
from vmctl.layout import MachineLayout
from vmctl.store import files
from vmctl.store.door import ForeignFile

logger = logging.getLogger(__name__)

LONGEST_JOURNAL = 256 * 1024
FULL = (errno.ENOSPC, errno.EDQUOT)


class BoxUsed(BoxFacts, frozen=True, kw_only=True):
    """The box that the machine's disk is an overlay of; ``cloud_init`` is what the guest showed at its first boot."""

    seeding: str = ""
    """What in the box reads a seed (``BoxInfo.seeding``); "" = not known."""
    virtual_size: int = 0
    further: tuple[str, ...] | None = None
    """Digests of its other disks; None: an older vmctl wrote this, who did not say."""
    mac: str = ""
    """MAC address that the box's guest wants on NIC 1; "" = any."""

    @property
    def seeds_itself(self) -> bool:
        """Whether the guest takes its seed by vmctl's own unit."""
        return self.seeding == SEEDED_BY_VMCTL and self.cloud_init


class Record(Struct, frozen=True, kw_only=True):
    """One machine's record (``machine.json``)."""

    name: str
    """The machine's name in the hypervisor."""
    project: str
    machine: str
    provider: str
    where: str = ""
    """Which hypervisor of the provider has it (``Driver.where``)."""
    box: BoxUsed
    version: str
    """The vmctl that made it."""
    user: str
    """Login user in the guest."""
    uid: int | None = None
    """The login user's uid in the guest, where vmctl chose it."""
    forwards: tuple[Forward, ...] = ()
    applied: Mapping[str, Any] = field(default_factory=dict)
    """The hardware that the hypervisor was last told, by field (``vmctl.lifecycle.plan``)."""
    folders: Mapping[str, str] = field(default_factory=dict)
    """How each guest path was shared: virtiofs, rsync…"""
    settled: bool = False
    """Whether what the first boot wrote (users, host keys) is known to be on the guest's disk."""
    first_boots: int = 0
    """How often it was started again before it had settled; each is a new instance to cloud-init."""
    names: str = ""
    """Digest of the names of other machines that the guest was last told (``vmctl.lifecycle.etc_hosts``); "" = none."""
    quiesced: bool = False
    """Whether the guest was made to stand still, for its memory to be saved, and not woken since."""
    ready_run: str = ""
    """``Observed.run`` of the start after which folders and checks were done; "" = not yet."""

    @property
    def ssh_port(self) -> int | None:
        """The host port that leads to the guest's SSH, where there is one."""
        return next((forward.host for forward in self.forwards if forward.name == "ssh"), None)

    def but(self, **changes: Any) -> Self:
        """A copy with some fields changed."""
        return structs.replace(self, **changes)


def save(layout: MachineLayout, record: Record) -> None:
    """Write a machine's record."""
    files.write_json(layout.record, to_builtins(record))


def load(layout: MachineLayout) -> Record | None:
    """Read a machine's record; None when there is none.

    Raises:
        VmctlError: the file is there but damaged.
    """
    data = files.read_json(layout.record)
    if data is None:
        return None
    try:
        record = convert(data, Record)
        for forward in record.forwards:
            _check(forward)
    except (ValidationError, ValueError) as error:
        raise files.damaged(layout.record, f"{type(error).__name__}: {error}") from error
    return record


def _check(forward: Forward) -> None:
    """Refuse what is not a port forward: drivers hand its words on to hypervisors, among options of theirs."""
    ipaddress.ip_address(forward.host_ip)
    if not forward.name.isprintable() or "," in forward.name or forward.protocol not in ("tcp", "udp"):
        raise ValueError(f"invalid port forward {forward}")


class Journal(Struct, frozen=True):
    """The journal at ``path``."""

    path: Path

    def write(self, step: str, phase: str, **facts: Any) -> None:
        """Add an entry; it is on disk when this returns. ``phase``: begin, done, failed.

        On a full disk there is no entry: `destroy`, which makes room, has to go on. Nor is there one in a file that
        is not ours.
        """
        try:
            self._append(step, phase, facts)
        except ForeignFile as error:
            logger.debug("%s", error)
        except OSError as error:
            if error.errno not in FULL:
                raise

    def _append(self, step: str, phase: str, facts: Mapping[str, Any]) -> None:
        known = {"time": round(time.time(), 3), "pid": os.getpid(), "step": step, "phase": phase}
        entry = known | redaction.facts(facts)
        self._rotate()
        files.append(self.path, json.dumps(entry, ensure_ascii=False, default=str) + "\n", sync=True)

    def _rotate(self) -> None:
        if files.size(self.path) > LONGEST_JOURNAL:
            files.rename(self.path, self.path.name + ".1")

    def entries(self) -> list[Mapping[str, Any]]:
        """All whole entries; a line cut by a crash is left out."""
        found = []
        text = files.read(self.path).decode(errors="replace") if files.exists(self.path) else ""
        for line in text.split("\n"):  # what is told may hold other line separators
            try:
                found.append(json_text.loads(line))
            except ValueError:
                continue
        return found
