"""What expressions can name: env, vars, project, host, and in a machine's own values machine and each.

All of it is plain data, made for this: exact built-in types and nothing that leads elsewhere.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct, field

from vmctl import user_environment
from vmctl.vmfile.budget import Budget, plain_copy
from vmctl.vmfile.expansion import Each


class Scope(Struct):
    """The names that an expression knows, and what expressions may still cost."""

    names: dict[str, Any] = field(default_factory=dict)
    budget: Budget = field(default_factory=Budget)
    rejected: set[str] = field(default_factory=set)
    """Variables that have no value, and whose fault is recorded."""

    def within(self, **names: Any) -> Scope:
        """The scope with further names, at the expense of the same budget."""
        return Scope({**self.names, **names}, self.budget, self.rejected)


def project_scope(root: Path, environ: Mapping[str, str]) -> Scope:
    """The names that are known everywhere; ``vars`` is empty until the variables are evaluated."""
    return Scope({
        "env": {str(name): str(value) for name, value in environ.items()},
        "vars": {},
        "project": {"name": root.name, "root": str(root)},
        "host": {
            "cpus": user_environment.processors(),
            "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            "os": os.uname().sysname.lower(),
            "arch": os.uname().machine,
            "user": user_environment.user_name(),
        },
    })  # fmt: skip


def machine_scope(project: Scope, name: str, group: str, index: int, each: Each | None = None) -> Scope:
    """The names that are known in the values of one machine; ``each`` only where ``for_each`` makes it."""
    own = {} if each is None else {"each": {"key": each.key, "value": plain_copy(each.value)}}
    return project.within(machine={"name": name, "group": group, "index": index}, **own)
