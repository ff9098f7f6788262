"""Names that machines have for each other: a block in every running guest's /etc/hosts, right as machines come and go.

What was written last is remembered by its digest in the machine's record, so that nothing is asked of a guest whose
block is right. Only machines with networks of their own (``networks:``) can reach each other, so only those have names.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from vmctl import logins
from vmctl.driver import State
from vmctl.errors import Interrupted, LockTimeout, VmctlError
from vmctl.events import Warned
from vmctl.machine_names import slug
from vmctl.store import locks, records

if TYPE_CHECKING:
    from vmctl.ssh import Connection
    from vmctl.workspace import Machine, Workspace

HOSTS = "/etc/hosts"
BEGIN, END = "# vmctl: begin", "# vmctl: end"
AT_ONCE = 16  # connections; each is a thread that mostly waits

# $1 is the file, $2 and $3 the marks, standard input the new block. A block without its end is the user's text again.
WRITE = """\
set -eu
new=$(mktemp "$1.vmctl-XXXXXX")
trap 'rm -f "$new"' EXIT
cp -p "$1" "$new"
{
  awk -v begin="$2" -v end="$3" '
    $0 == begin { if (inside) printf "%s", kept; inside = 1; kept = ""; next }
    inside && $0 == end { inside = 0; next }
    inside { kept = kept $0 "\\n"; next }
    { print }
    END { if (inside) printf "%s", kept }' "$1"
  cat
} >"$new"
mv -f "$new" "$1" 2>/dev/null || cat "$new" >"$1"
"""

Addresses = Mapping[str, str]
"""Network → address, in the order of a machine's cards."""


def addresses(machine: Machine, *, starting: bool) -> Addresses:
    """A machine's addresses: those that it was last told, or those of the Vmfile where it is starting anew."""
    applied = machine.record.applied.get("networks") if machine.record and machine.observed and not starting else None
    if applied is not None:
        words = [str(card).split() for card in applied]
        return {name: address.partition("/")[0] for name, address in words}
    return {network.name: network.ip or "" for network in machine.spec.networks} if machine.spec else {}


def blocks(project: str, machines: Iterable[tuple[Machine, Addresses]]) -> dict[str, str]:
    """What stands in each machine's /etc/hosts, by name; "" for one without networks.

    Args:
        project: its name as part of a host name.
        machines: those that exist, or are about to.
    """
    known = [(machine, cards) for machine, cards in machines if cards]
    seen: dict[tuple[str, ...], str] = {}
    for _, cards in known:
        view = tuple(cards)
        if view not in seen:
            seen[view] = _block(project, view, known)
    return {machine.name: seen[tuple(cards)] for machine, cards in known}


def _block(project: str, networks: tuple[str, ...], known: Iterable[tuple[Machine, Addresses]]) -> str:
    """The names as seen by a machine on these networks: of each other one, the address on the first they share."""
    lines = []
    for machine, cards in known:
        shared = next((cards[network] for network in networks if network in cards), None)
        if shared:
            lines.append(f"{shared} {' '.join(_names(machine, project))}")
    return "".join(f"{line}\n" for line in [BEGIN, *lines, END])


def _names(machine: Machine, project: str) -> list[str]:
    hostname = machine.spec.hostname if machine.spec else ""
    return list(dict.fromkeys(name for name in (machine.name, f"{machine.name}.{project}", hostname) if name))


def digest(block: str) -> str:
    """What the record keeps of a block; "" for none."""
    return hashlib.sha256(block.encode()).hexdigest()[:16] if block else ""


def write(connection: Connection, block: str) -> None:
    """Put the block into the guest's /etc/hosts, in place of the one that is there.

    Raises:
        CommandFailed, Unreachable, Interrupted.
    """
    connection.run(["sh", "-c", WRITE, "sh", HOSTS, BEGIN, END], input=block, sudo=True)


def present_blocks(
    workspace: Workspace, rising: Collection[Machine] = (), *, restarting: bool = False
) -> dict[str, str]:
    """The blocks of all machines of the project that exist or are about to; {} where no machine has networks.

    Args:
        workspace: the project.
        rising: machines that a command brings up now.
        restarting: whether it restarts those that run.
    """
    specs = workspace.project.machines
    if not any(spec.networks for spec in specs):
        return {}
    off = (None, State.STOPPED, State.CRASHED)
    starting = {machine.name for machine in rising if restarting or machine.state in off}
    known = {machine.name: machine for machine in rising}
    if others := [spec.name for spec in specs if spec.name not in known]:
        known |= {machine.name: machine for machine in workspace.survey(others) if machine.observed}
    machines = [known[spec.name] for spec in specs if spec.name in known]
    return blocks(
        slug(workspace.project.root), [(one, addresses(one, starting=one.name in starting)) for one in machines]
    )


def refresh(workspace: Workspace, wanted: Mapping[str, str], *, locked: Collection[str]) -> None:
    """Write the block of every machine that runs and has another one; what cannot be written is a warning.

    Args:
        workspace: the project.
        wanted: block by machine (``present_blocks``).
        locked: machines whose locks the caller holds. Others are left alone while another vmctl works on them.
    """
    outdated = [name for name, block in wanted.items() if _last(workspace, name) not in (None, digest(block))]
    stale = [machine for machine in workspace.survey(outdated) if machine.is_ready] if outdated else []
    if not stale:
        return
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="vmctl") as pool:
        list(pool.map(lambda machine: _refresh(workspace, machine, wanted[machine.name], locked), stale))


def _last(workspace: Workspace, name: str) -> str | None:
    """Digest of the block that a machine was last told; None where there is no machine."""
    record = records.load(workspace.layout.machine(name))
    return record.names if record else None


def _refresh(workspace: Workspace, machine: Machine, block: str, locked: Collection[str]) -> None:
    with contextlib.ExitStack() as stack:
        try:
            if machine.name not in locked:
                path = workspace.layout.machine_lock(machine.name)
                stack.enter_context(locks.hold(path, f"machine {machine.name}", timeout=0))
            connection = stack.enter_context(logins.connect(workspace, machine.name))
            write(connection, block)
        except Interrupted:
            raise
        except LockTimeout:
            return  # whoever holds it writes the names too, or the next `up` does
        except VmctlError as error:
            text = f"the names of the other machines could not be written in the guest: {error.brief}"
            workspace.report(Warned(machine=machine.name, text=text, hint=f"vmctl up {machine.name}"))
            return
        record = records.load(machine.layout)
        if record:
            records.save(machine.layout, record.but(names=digest(block)))
