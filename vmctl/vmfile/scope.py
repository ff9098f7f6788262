"""What expressions can name: env, vars, project, host, and in a machine's own values machine and each."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from vmctl.vmfile.expansion import Each


def project_scope(root: Path, variables: Mapping[str, Any], environ: Mapping[str, str]) -> dict[str, Any]:
    """The names that are known everywhere."""
    return {
        "env": environ,
        "vars": variables,
        "project": {"name": root.name, "root": str(root)},
        "host": Facts({
            "cpus": _cpus,
            "memory": _memory,
            "os": _system,
            "arch": _arch,
            "user": _user,
        }),
    }  # fmt: skip


def _cpus() -> int:
    """The processors that this process may use, where the system can say."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _system() -> str:
    return os.uname().sysname.lower()


def _arch() -> str:
    return str(os.uname().machine)


def _user() -> str:
    import getpass

    return getpass.getuser()


def machine_scope(
    project: Mapping[str, Any], name: str, group: str, index: int, each: Each | None = None
) -> dict[str, Any]:
    """The names that are known in the values of one machine; ``each`` only where ``for_each`` makes it."""
    own = {} if each is None else {"each": {"key": each.key, "value": each.value}}
    return {**project, "machine": {"name": name, "group": group, "index": index}, **own}


class Facts(Mapping[str, Any]):
    """Facts about the host, found out when an expression asks."""

    def __init__(self, ask: Mapping[str, Callable[[], Any]]) -> None:
        self._ask = {name: functools.cache(function) for name, function in ask.items()}

    def __getitem__(self, name: str) -> Any:
        return self._ask[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._ask)

    def __len__(self) -> int:
        return len(self._ask)
