"""SSH into machines: waiting for it, running commands over it, and everything OpenSSH needs to know.

vmctl's own work goes through ``Connection`` (one login for many commands); what a person or Ansible does goes
through OpenSSH with the machine's ``ssh_config``. Host keys are known before the first connection and checked always;
but for guests without a seed, whose key is taken at the first connection and then pinned.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from vmctl.ssh.config import (
    pin,
    public_part,
    render,
    run_session,
    session_argv,
    shown_key,
    write_config,
    write_known_hosts,
)

if TYPE_CHECKING:
    from vmctl.ssh.connection import Connection
    from vmctl.ssh.waiting import await_ssh

__all__ = [
    "Connection",
    "await_ssh",
    "pin",
    "public_part",
    "render",
    "run_session",
    "session_argv",
    "shown_key",
    "write_config",
    "write_known_hosts",
]

_LATER = {"Connection": "connection", "await_ssh": "waiting"}
"""What only those load that log in themselves: `vmctl ssh` and `ssh-config` leave that to OpenSSH."""


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_LATER[name]}"), name)
