"""The steps of `up` once the machine has started: into the guest, until it is ready.

Each looks before it acts, so running it again after any failure finishes the work. The Vmfile's `ready:` checks are
looked at from inside the guest, where no forward or firewall lies between.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import TYPE_CHECKING

from msgspec import Struct

from vmctl import folders, key_pairs, ssh
from vmctl.driver import Address, State
from vmctl.errors import VmctlError
from vmctl.lifecycle import consoles, etc_hosts, first_login, standstill
from vmctl.lifecycle.machine_job import Job
from vmctl.login import Login
from vmctl.process import CommandFailed
from vmctl.spec import ReadyCheck
from vmctl.store import files
from vmctl.wait import Deadline, TimedOut, until

if TYPE_CHECKING:
    from vmctl.process import Completed
    from vmctl.ssh import Connection

GROW = "vmctl-grow.service"
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


def await_ssh(job: Job) -> bool:
    """Wait until SSH answers and lets us in; say why when it does not."""
    layout = job.machine.layout
    if job.record.box.cloud_init and not files.exists(layout.first_key):
        ssh.write_known_hosts(layout.known_hosts, job.name, key_pairs.ensure(layout.host_key))
    job.connection = ssh.await_ssh(
        machine=job.name,
        address=lambda: job.driver.address(job.machine.domain, job.tag),
        login=lambda address: login(job, address),
        alive=lambda: _is_alive(job),
        deadline=Deadline.after(job.spec.boot_timeout),
        console=layout.console,
        report=job.report,
        tells=job.started and job.record.box.seeds_itself,
        booted=job.restored or (not job.started and job.record.quiesced),
    )
    if files.exists(layout.first_key):
        first_login.replace_key(job)
    ssh.write_config(job.connection.login)
    return True


def _is_alive(job: Job) -> bool:
    consoles.fetch(job.driver, job.machine.domain, job.tag, job.machine.layout.console)
    standstill.refuse(job.observe())
    return job.machine.state in (State.RUNNING, State.STARTING)


def login(job: Job, address: Address) -> Login:
    """How to get into the job's machine at an address."""
    layout = job.machine.layout
    return Login(
        machine=job.name,
        address=address,
        user=job.record.user,
        key=layout.key,
        known_hosts=layout.known_hosts,
        config=layout.ssh_config,
        first_key=layout.first_key if files.exists(layout.first_key) else None,
        first_password=layout.first_password if files.exists(layout.first_password) else None,
    )


def settle(job: Job) -> bool:
    """Have the new guest's first writes on its disk: a power cut would leave it with empty SSH host keys."""
    if not job.record.box.seeds_itself:  # which has them there before its SSH server starts
        job.guest.run(["sync"])
    job.save(job.record.but(settled=True))
    return True


def await_growth(job: Job) -> bool:
    """Wait until the root file system has the disk that the Vmfile gives: a box of ours grows it while SSH answers."""
    job.guest.run(["systemctl", "start", GROW], sudo=True, check=False)
    return False


def share_folders(job: Job) -> bool:
    """Have the project's folders in the guest."""
    used = folders.attach(
        job.guest, job.spec, job.defined.shares, features=job.features, login=job.guest.login, report=job.report
    )
    job.save(job.record.but(folders=dict(used)))
    return bool(used)


def write_names(job: Job) -> bool:
    """Tell the guest the names of the other machines; where it cannot be told, that is no reason to fail."""
    try:
        etc_hosts.write(job.guest, job.names)
    except CommandFailed as error:
        job.warn(f"the names of the other machines could not be written in the guest: {error.brief}")
        return False
    job.save(job.record.but(names=etc_hosts.digest(job.names)))
    return True


def check_ready(job: Job) -> bool:
    """Wait until the Vmfile's `ready:` checks hold."""
    for check in job.spec.ready:
        await_check(job.guest, job.name, check)
    return True


def mark_ready(job: Job) -> bool:
    """Write down that this start of the machine is done."""
    observed = job.observe().observed
    job.save(job.record.but(ready_run=observed.run if observed else ""))
    return True


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
        return _port_probe(connection, machine, check.port)
    if check.http is not None:
        return _http_probe(connection, machine, check.http, check.status)
    if check.unit is not None:
        return _unit_probe(connection, machine, check.unit)
    return _command_probe(connection, machine, check.command or "true")


def _port_probe(connection: Connection, machine: str, port: int) -> _Probe:
    argv = ["bash", "-c", PORT_PROBE, "bash", str(port)]
    return _Probe(
        what=f"port {port} to accept connections",
        holds=lambda: connection.run(argv, check=False).status == 0,
        hint=f"vmctl ssh {machine}",
    )


def _http_probe(connection: Connection, machine: str, url: str, wanted: int | None) -> _Probe:
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


def _unit_probe(connection: Connection, machine: str, unit: str) -> _Probe:
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


def _command_probe(connection: Connection, machine: str, command: str) -> _Probe:
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
