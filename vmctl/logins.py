"""Getting into machines that should be up: the login for each, and what to say when one is not.

Where NIC 1 is user-mode NAT, the way in is a forward that vmctl itself chose, so nobody needs to be asked; when the
way turns out to be closed, the hypervisor says why.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from vmctl.driver import Address, State
from vmctl.errors import Unreachable, WrongState
from vmctl.login import Login
from vmctl.store import files, records

if TYPE_CHECKING:
    from vmctl.ssh import Connection
    from vmctl.workspace import Workspace


def login(workspace: Workspace, name: str) -> Login:
    """How to get into a machine; its ``ssh_config`` is written.

    Raises:
        WrongState: it does not exist or is not running.
        Unreachable: its address is not known.
    """
    from vmctl import ssh

    layout = workspace.layout.machine(name)
    record = records.load(layout) if workspace.id else None
    if record is None:
        raise _not_created(name)
    found = Login(
        machine=name,
        address=_forwarded(record) or _asked(workspace, name),
        user=record.user,
        key=layout.key,
        known_hosts=layout.known_hosts,
        config=layout.ssh_config,
    )
    if not files.exists(found.known_hosts):
        check_running(workspace, name)
        raise Unreachable(f"machine {name} has not come up yet", hint=f"vmctl up {name}")
    ssh.write_config(found)
    return found


def known_logins(workspace: Workspace) -> list[Login]:
    """How to get into the machines whose way in vmctl itself chose, running or halted; no hypervisor is asked."""
    found = []
    for spec in workspace.project.machines if workspace.id else ():
        layout = workspace.layout.machine(spec.name)
        record = records.load(layout)
        if record and _forwarded(record) and files.exists(layout.known_hosts):
            found.append(login(workspace, spec.name))
    return found


def _forwarded(record: records.Record) -> Address | None:
    forward = next((forward for forward in record.forwards if forward.name == "ssh"), None)
    return Address(host=forward.host_ip, port=forward.host) if forward else None


def _asked(workspace: Workspace, name: str) -> Address:
    check_running(workspace, name)
    (machine,) = workspace.survey([name])
    address = workspace.driver(machine.provider).address(machine.domain, workspace.tag(name))
    if address is None:
        raise Unreachable(f"the address of machine {name} is not known yet", hint=f"vmctl up {name}")
    return address


def check_running(workspace: Workspace, name: str) -> None:
    """Ask the hypervisor.

    Raises:
        WrongState: the machine does not exist or is not running.
    """
    (machine,) = workspace.survey([name])
    if machine.state is None:
        raise _not_created(name)
    if machine.state is not State.RUNNING:
        raise WrongState(f"machine {name} is {machine.state_text}", hint=f"vmctl up {name}")


def _not_created(name: str) -> WrongState:
    return WrongState(f"machine {name} is not created", hint=f"vmctl up {name}")


@contextlib.contextmanager
def explained(workspace: Workspace, name: str) -> Iterator[None]:
    """Where the block cannot reach the machine because it is not running, say that instead.

    Raises:
        WrongState: in place of ``Unreachable``.
    """
    try:
        yield
    except Unreachable:
        check_running(workspace, name)
        raise


def connect(workspace: Workspace, name: str) -> Connection:
    """Log in to a machine.

    Raises:
        WrongState, Unreachable.
    """
    from vmctl.ssh import Connection

    with explained(workspace, name):
        return Connection.connect(login(workspace, name))
