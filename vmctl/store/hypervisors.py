"""Which hypervisors machines were made under: what machines leave there for others outlives their records.

A hypervisor of another host is known only to the projects that name it; nobody else would ever look there.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from msgspec import Struct, ValidationError, convert, to_builtins

from vmctl.errors import VmctlError
from vmctl.layout import HomeLayout
from vmctl.store import files, locks

FORMAT = 1

Place = tuple[str, str]
"""A provider, and ``Driver.where``."""


class Hypervisor(Struct, frozen=True, kw_only=True):
    """One hypervisor."""

    provider: str
    where: str
    """As ``Driver.where``."""
    used: float
    """When a machine was last made or destroyed there; seconds since the epoch."""

    @property
    def place(self) -> Place:
        """What tells it from others."""
        return self.provider, self.where


def read(home: HomeLayout) -> tuple[Hypervisor, ...]:
    """All that are remembered.

    Raises:
        VmctlError: the file is damaged, or somebody else's.
    """
    data = files.read_json(home.hypervisors)
    try:
        return () if data is None else convert(data["hypervisors"], tuple[Hypervisor, ...])
    except (ValidationError, TypeError, KeyError) as error:
        raise files.damaged(home.hypervisors, str(error)) from error


def remember(home: HomeLayout, provider: str, where: str) -> None:
    """Remember that a machine is made there, or destroyed; before its record goes, after it was written.

    What is damaged is as good as lost: that is no reason not to make a machine.
    """
    with _changed(home) as known:
        known[provider, where] = Hypervisor(provider=provider, where=where, used=time.time())


def forget(home: HomeLayout, seen: Hypervisor) -> None:
    """Forget one, unless it was used since it was read."""
    with _changed(home) as known:
        if known.get(seen.place) == seen:
            del known[seen.place]


@contextlib.contextmanager
def _changed(home: HomeLayout) -> Iterator[dict[Place, Hypervisor]]:
    with locks.hold(home.locks / "hypervisors", "what vmctl knows of hypervisors"):
        known = {}
        with contextlib.suppress(VmctlError):
            known = {one.place: one for one in read(home)}
        yield known
        data = sorted((to_builtins(one) for one in known.values()), key=lambda one: (one["provider"], one["where"]))
        files.write_json(home.hypervisors, {"format": FORMAT, "hypervisors": data})
