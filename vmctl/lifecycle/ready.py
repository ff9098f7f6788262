"""The Vmfile's `ready:` checks, looked at from inside the guest, where no forward or firewall lies between."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import TYPE_CHECKING

from msgspec import Struct

from vmctl.errors import VmctlError
from vmctl.spec import ReadyCheck
from vmctl.wait import Deadline, TimedOut, until

if TYPE_CHECKING:
    from vmctl.process import Completed
    from vmctl.ssh import Connection

LAST_LINES = 10
PORT_PROBE = 'exec 3<>"/dev/tcp/127.0.0.1/$1"'
# Prints the status of the answer to a request for $1: a certificate of the machine's own is as good as any here.
HTTP_PROBE = """\
if command -v curl >/dev/null; then
  exec curl -sS -k -m 10 --noproxy '*' -o /dev/null -w '%{http_code}' -- "$1"
elif command -v wget >/dev/null; then
  wget -q -S -T 10 -t 1 --no-proxy --no-check-certificate --max-redirect=0 -O /dev/null -- "$1" 2>&1 |
    sed -n 's|^ *HTTP/[0-9.]* *\\([0-9][0-9]*\\).*|\\1|p' | head -n 1
else
  exit 127
fi
"""
NO_PROGRAM = 127
# Last lines of the unit's journal, for the error; root reads them all.
UNIT_STATE = 'systemctl is-active -- "$1"; journalctl --no-pager -q -n 8 -o cat -u "$1" 2>/dev/null'


class _Probe(Struct, frozen=True, kw_only=True):
    """How one kind of check is looked at."""

    what: str
    holds: Callable[[], bool]
    hint: str
    details: Callable[[], str] = lambda: ""
    """What was seen last, for the error."""


def await_check(connection: Connection, machine: str, check: ReadyCheck) -> None:
    """Wait until one check holds.

    Raises:
        TimedOut: it did not, within its own timeout; with what was seen last, and the check's own hint.
        VmctlError: the guest has no program to look with.
    """
    probe = _probe(connection, machine, check)
    hint = check.hint or probe.hint
    try:
        until(probe.holds, Deadline.after(check.timeout), f"{probe.what} in {machine}", hint=hint)
    except TimedOut as error:
        error.details = probe.details()
        raise


def _probe(connection: Connection, machine: str, check: ReadyCheck) -> _Probe:
    if check.port is not None:
        return _port(connection, machine, check.port)
    if check.http is not None:
        return _http(connection, machine, check.http, check.status)
    if check.unit is not None:
        return _unit(connection, machine, check.unit)
    return _command(connection, machine, check.command or "true")


def _port(connection: Connection, machine: str, port: int) -> _Probe:
    argv = ["bash", "-c", PORT_PROBE, "bash", str(port)]
    return _Probe(
        what=f"port {port} to accept connections",
        holds=lambda: connection.run(argv, check=False).status == 0,
        hint=f"vmctl ssh {machine}",
    )


def _http(connection: Connection, machine: str, url: str, wanted: int | None) -> _Probe:
    last = [""]

    def holds() -> bool:
        done = connection.run(["sh", "-c", HTTP_PROBE, "sh", url], check=False)
        if done.status == NO_PROGRAM:
            raise VmctlError(
                f"{machine}: the guest has neither curl nor wget, which the check of {url} needs",
                hint=f"vmctl ssh {machine}",
            )
        status = done.stdout.strip()
        last[0] = f"the last answer had status {status}" if status.strip("0") else done.stderr.strip()
        return _fits(status, wanted)

    what = f"{url} to answer" + (f" with status {wanted}" if wanted is not None else "")
    return _Probe(what=what, holds=holds, hint=f"vmctl ssh {machine} -c {_quoted('curl', '-v', url)}", details=last.pop)


def _fits(status: str, wanted: int | None) -> bool:
    if not status.isdecimal():
        return False
    return int(status) == wanted if wanted is not None else 200 <= int(status) < 400  # noqa: PLR2004  what HTTP calls fine


def _unit(connection: Connection, machine: str, unit: str) -> _Probe:
    argv = ["systemctl", "is-active", "--quiet", "--", unit]
    return _Probe(
        what=f"the unit {unit} to be active",
        holds=lambda: connection.run(argv, check=False).status == 0,
        hint=f"vmctl ssh {machine} -c {_quoted('systemctl', 'status', unit)}",
        details=lambda: _unit_state(connection, unit),
    )


def _unit_state(connection: Connection, unit: str) -> str:
    sudo = connection.login.user != "root"
    return _last_lines(connection.run(["sh", "-c", UNIT_STATE, "sh", unit], sudo=sudo, check=False))


def _command(connection: Connection, machine: str, command: str) -> _Probe:
    last = [""]

    def holds() -> bool:
        done = connection.run(["sh", "-c", command], check=False)
        last[0] = _last_lines(done)
        return done.status == 0

    hint = f"vmctl ssh {machine} -c {shlex.quote(command)}"
    return _Probe(what=f"`{command}` to succeed", holds=holds, hint=hint, details=last.pop)


def _last_lines(done: Completed) -> str:
    return "\n".join((done.stdout + done.stderr).strip().splitlines()[-LAST_LINES:])


def _quoted(*argv: str) -> str:
    """A command for the guest, as one word for the host's shell."""
    return shlex.quote(shlex.join(argv))
