"""`vmctl status` and `vmctl port`: questions only; nothing is ever changed or removed here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from vmctl.cli import completion
from vmctl.cli.app import App, command
from vmctl.cli.report import machine_object, table
from vmctl.events import Warned

if TYPE_CHECKING:
    from vmctl.driver import Forward
    from vmctl.workspace import Machine


@command(query=True)
@click.argument("names", nargs=-1, metavar="[MACHINE]...", shell_complete=completion.machines)
@click.option("--check", is_flag=True, help="Exit with 3 unless every machine is running and ready.")
def status(app: App, names: tuple[str, ...], *, check: bool) -> int:
    """Show this project's machines, as the hypervisor sees them now."""
    workspace = app.select(names, orphans=True, salvage=True)
    machines = workspace.survey(app.names)
    data = {"project": str(workspace.project.root), "machines": [machine_object(machine) for machine in machines]}
    header = ("MACHINE", "STATE", "PROVIDER", "SSH", "PORTS")
    app.result(data, table(header, (_row(machine) for machine in machines)))
    for machine in machines:
        if machine.problem:
            app.report(Warned(machine=machine.name, text=machine.problem, hint=machine.remedy))
    expected = [machine for machine in machines if names or _starts_by_itself(machine)]
    return 3 if check and not all(machine.is_ready for machine in expected) else 0


def _starts_by_itself(machine: Machine) -> bool:
    return machine.spec is None or machine.spec.autostart


def _row(machine: Machine) -> tuple[str, ...]:
    record = machine.record if machine.observed else None
    state = machine.state_text
    if state == "running" and not machine.is_ready:
        state = "running (not ready)"
    if machine.spec is None:
        state += " (no longer in the Vmfile)"
    ports = ", ".join(_arrow(forward) for forward in (record.forwards if record else ()) if forward.name != "ssh")
    ssh = f"{record.user}@127.0.0.1:{record.ssh_port}" if record and record.ssh_port else ""
    member = f" on {machine.observed.member}" if machine.observed and machine.observed.member else ""
    return machine.name, state, f"{machine.provider}{member} ({machine.reason})", ssh, ports


def _arrow(forward: Forward) -> str:
    suffix = "/udp" if forward.protocol == "udp" else ""
    return f"{forward.host_ip}:{forward.host}->{forward.guest}{suffix}"


@command(query=True)
@click.argument("names", nargs=-1, metavar="[MACHINE]...", shell_complete=completion.machines)
@click.option("--guest", type=int, metavar="PORT", help="Print only the host port that leads to this guest port.")
def port(app: App, names: tuple[str, ...], guest: int | None) -> int:
    """Show forwarded ports: what listens on the host, and where it leads."""
    from vmctl.errors import WrongState

    workspace = app.select(names, salvage=True)
    forwards = {
        machine.name: machine.record.forwards if machine.record and machine.observed else ()
        for machine in workspace.survey(app.names)
    }
    if guest is not None:
        found = [forward.host for several in forwards.values() for forward in several if forward.guest == guest]
        if not found:
            raise WrongState(f"nothing is forwarded to guest port {guest}", hint="vmctl port")
        app.result({"ports": found}, "\n".join(map(str, found)))
        return 0
    app.result({"machines": {name: _objects(several) for name, several in forwards.items()}}, _port_table(forwards))
    return 0


def _objects(forwards: tuple[Forward, ...]) -> list[dict[str, Any]]:
    from vmctl.store.port_leases import as_objects

    return as_objects(forwards)


def _port_table(forwards: Mapping[str, tuple[Forward, ...]]) -> str:
    rows = [
        (name, f"{forward.host_ip}:{forward.host}", f"{forward.guest}/{forward.protocol}", forward.name)
        for name, several in forwards.items()
        for forward in several
    ]
    return table(("MACHINE", "HOST", "GUEST", "NAME"), rows) if rows else "no forwarded ports"
