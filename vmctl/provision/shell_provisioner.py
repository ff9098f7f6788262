"""The `shell` provisioner: a script runs in the guest with exactly the arguments and variables of the Vmfile.

The script goes to a private directory in the guest, and is removed afterwards. Its environment comes by standard input
(for a command line can be read by everybody there), which is empty when the script begins. It runs by the interpreter
that its first line names, without which it is `sh`; an inline script without one stops at its first failing command
(`sh -e`).

With `on: host` the script runs here, in the project's directory, for one machine after the other.
"""

from __future__ import annotations

import contextlib
import re
import shlex
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vmctl import interrupt, process
from vmctl.errors import Interrupted, Unreachable, UsageError, VmctlError
from vmctl.events import Output, Report
from vmctl.provision import scripts
from vmctl.provision.failure import label
from vmctl.provision.provisioner_result import ProvisionerResult, failed
from vmctl.provision.summary import Counts
from vmctl.provision.target import Target, each
from vmctl.spec import Shell

if TYPE_CHECKING:
    from vmctl.ssh.link import Link

SOURCE = "shell"
VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
DETAIL_LINES = 20
CLEAN_UP_TIME = 2.0  # seconds for each command of the clean-up, so that Ctrl-C ends in time

# With the script, which it reads. Nobody may hear of the directory any more, where vmctl was ended: then it goes again.
MAKE_DIRECTORY = """\
trap '' PIPE; set -e; umask 077
made=$(mktemp -d "${TMPDIR:-/tmp}/vmctl-shell.XXXXXXXX")
{ cat >"$made/script" && chmod 700 "$made/script" && echo "$made"; } || { rm -rf "$made"; exit 1; }
"""
# $1 is the directory, the rest the interpreter's argv. The process id says whom to end on an interruption.
START = 'echo "$$" >"$1/pid"; eval "$(cat)"; shift; exec "$@"'
# The group of the script's process, which is what it has started, unless that has detached itself.
END = 'stat=$(cat "/proc/$(cat "$1/pid")/stat") && set -- ${stat##*) } && kill -TERM "-$3"'


def check(item: Shell) -> None:
    """Refuse what cannot work, before anything runs.

    Raises:
        UsageError: the script is not there, or a variable cannot be one.
    """
    where = f"{item.place}: " if item.place else ""
    if item.script is not None and not item.script.is_file():
        raise UsageError(f"{where}provisioner '{item.name}': there is no script {item.script}", hint="vmctl validate")
    for name, value in item.env.items():
        if not VARIABLE_NAME.fullmatch(name) or "\0" in value:
            raise UsageError(f"{where}provisioner '{item.name}': env: {name!r} cannot be an environment variable")
    if any("\0" in word for word in item.args):
        raise UsageError(f"{where}provisioner '{item.name}': an argument cannot hold a NUL character")


def provision(item: Shell, targets: Sequence[Target], report: Report) -> list[ProvisionerResult]:
    """Run the script in all targets, side by side.

    Raises:
        UsageError: the script cannot be read.
        VmctlError: it cannot be downloaded.
        Interrupted: the user asked to stop; the script has been ended in the guests that answer.
    """
    script = scripts.content(item, report)
    return each(targets, lambda target: _provision(item, script, target, report))


def _provision(item: Shell, script: bytes, target: Target, report: Report) -> ProvisionerResult:
    from vmctl.process import CommandFailed

    try:
        with target.connect() as connection:
            if item.creates and _is_there(item, connection):
                return ProvisionerResult(machine=target.name, counts=Counts(ok=1))
            status, lines = _run(item, script, target, connection, report)
    except Unreachable as error:
        brief = f"{error.brief} (provisioner {label(item)})"
        return failed(target.name, brief, error.details, unreachable=True, hint=error.hint)
    except CommandFailed as error:  # of the commands around the script
        return failed(target.name, _brief(item, target, error.brief), error.details)
    if status != 0:
        brief = _brief(item, target, f"ended with status {status}")
        return failed(target.name, brief, "\n".join(lines))
    return ProvisionerResult(machine=target.name, counts=Counts(ok=1, changed=1))


def _brief(item: Shell, target: Target, what: str) -> str:
    where = " on the host" if item.on == "host" else ""
    return f"{target.name}: the script{scripts.name_of(item)}{where} {what} (provisioner {label(item)})"


def _is_there(item: Shell, connection: Link) -> bool:
    return connection.run(["test", "-e", item.creates], sudo=item.become, check=False).status == 0


def _run(item: Shell, script: bytes, target: Target, connection: Link, report: Report) -> tuple[int, deque[str]]:
    lines, on_line = _told(target, report)
    with private_directory(connection, script, sudo=item.become) as directory:
        variables = environment({**item.env, "VMCTL_MACHINE": target.name})
        argv = [*scripts.interpreter(script, inline=item.inline is not None), f"{directory}/script", *item.args]
        start = ["sh", "-c", START, "sh", directory, *argv]
        done = connection.run(start, input=variables, sudo=item.become, check=False, on_line=on_line)
    return done.status, lines


def _told(target: Target, report: Report) -> tuple[deque[str], Callable[[str], None]]:
    """The last lines that a script has printed so far, and what takes in one more."""
    lines: deque[str] = deque(maxlen=DETAIL_LINES)

    def on_line(line: str) -> None:
        lines.append(line)
        report(Output(machine=target.name, line=line, source=SOURCE))

    return lines, on_line


@contextlib.contextmanager
def private_directory(connection: Link, script: bytes = b"", *, sudo: bool) -> Iterator[str]:
    """A private directory in the guest that holds ``script``; on an interruption, that is ended before it goes."""
    directory = connection.run(MAKE_DIRECTORY, input=script).stdout.strip()
    try:
        yield directory
    except Interrupted:
        _tidy(connection, ["sh", "-c", END, "sh", directory], sudo=sudo)
        raise
    finally:
        _tidy(connection, ["rm", "-rf", "--", directory], sudo=sudo)


def _tidy(connection: Link, argv: Sequence[str], *, sudo: bool) -> None:
    """Best effort: the machine may be gone by now, and what matters has been told."""
    with interrupt.shielded(), contextlib.suppress(VmctlError):
        connection.run(argv, sudo=sudo, check=False, deadline=CLEAN_UP_TIME)


def environment(variables: Mapping[str, str]) -> str:
    """Shell text that exports variables, whatever is in their values."""
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items())


def provision_on_host(item: Shell, targets: Sequence[Target], root: Path, report: Report) -> list[ProvisionerResult]:
    """Run the script for each target, in the project's directory.

    Raises:
        UsageError: the script cannot be read.
        VmctlError: it cannot be downloaded.
        Interrupted: the user asked to stop; the script has been ended.
    """
    script = scripts.content(item, report)
    with tempfile.TemporaryDirectory(prefix="vmctl-") as place:  # private (0700)
        path = Path(place, "script")
        path.write_bytes(script)
        path.chmod(0o700)
        argv = [*scripts.interpreter(script, inline=item.inline is not None), str(path), *item.args]
        return [_run_here(item, target, argv, root, report) for target in targets]


def _run_here(item: Shell, target: Target, argv: Sequence[str], root: Path, report: Report) -> ProvisionerResult:
    if item.creates and (root / Path(item.creates).expanduser()).exists():
        return ProvisionerResult(machine=target.name, counts=Counts(ok=1))
    lines, on_line = _told(target, report)
    try:
        status = process.stream(
            argv, on_line, cwd=root, env={**item.env, **target.environment, "VMCTL_MACHINE": target.name}, named=True
        )
    except (process.ProgramMissing, process.CommandFailed) as error:
        return failed(target.name, _brief(item, target, error.brief), error.details)
    if status != 0:
        brief = _brief(item, target, f"ended with status {status}")
        return failed(target.name, brief, "\n".join(lines))
    return ProvisionerResult(machine=target.name, counts=Counts(ok=1, changed=1))
