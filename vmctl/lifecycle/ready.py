"""The Vmfile's `ready:` checks, looked at from inside the guest, where no forward or firewall lies between."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from vmctl.spec import ReadyCheck
from vmctl.wait import Deadline, until

if TYPE_CHECKING:
    from vmctl.ssh import Connection

PORT_PROBE = 'exec 3<>"/dev/tcp/127.0.0.1/$1"'


def await_check(connection: Connection, machine: str, check: ReadyCheck) -> None:
    """Wait until one check holds.

    Raises:
        TimedOut: it did not, within its own timeout.
    """
    deadline = Deadline.after(check.timeout)
    if check.port is not None:
        argv = ["bash", "-c", PORT_PROBE, "bash", str(check.port)]
        what = f"port {check.port} of {machine} to accept connections"
        until(lambda: connection.run(argv, check=False).status == 0, deadline, what, hint=f"vmctl ssh {machine}")
        return
    command = check.command or "true"
    what = f"`{command}` to succeed in {machine}"
    hint = f"vmctl ssh {machine} -c {shlex.quote(command)}"
    until(lambda: connection.run(["sh", "-c", command], check=False).status == 0, deadline, what, hint=hint)
