"""`vmctl inventory`."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vmctl.cli import completion
from vmctl.cli.app import App, command
from vmctl.errors import UsageError

if TYPE_CHECKING:
    from vmctl.provision.inventory_formats import Listing

SHIM = """\
#!/bin/sh
# Written by `vmctl inventory --install`: asks vmctl for the inventory of this project, as Ansible wants it.
program={program}
[ -x "$program" ] || program=vmctl
exec "$program" -f {vmfile} inventory{target} "$@"
"""
EXECUTABLE = 0o755


@command(query=True)
@click.option("--list", "whole", is_flag=True, help="Everything, as Ansible asks a dynamic inventory (the default).")
@click.option("--host", metavar="HOST", help="The variables of one host, as Ansible asks for them.")
@click.option("--yaml", "as_yaml", is_flag=True, help="As a YAML inventory file.")
@click.option("--ini", "as_ini", is_flag=True, help="As an INI inventory file.")
@click.option(
    "--target",
    default="",
    metavar="TARGET",
    shell_complete=completion.targets,
    help="Of a target of `remotes:`, not of the machines.",
)
@click.option("--install", is_flag=True, help="Write an executable that `ansible-playbook -i` takes.")
@click.option("--output", metavar="FILE", help="Where --install writes it.")
def inventory(app: App, *, target: str, install: bool, output: str | None, **forms: bool | str | None) -> None:
    """Show the Ansible inventory: every machine that exists, halted ones too, with the groups of the Vmfile.

    No hypervisor is asked and nothing has to be provisioned first.
    """
    chosen = [name for name, value in forms.items() if value] + (["install"] if install else [])
    if len(chosen) > 1:
        raise UsageError(
            "--list, --host, --yaml, --ini and --install exclude each other", hint="vmctl inventory --list"
        )
    if output and not install:
        raise UsageError("--output says where --install writes", hint=f"vmctl inventory --install --output {output}")
    if install:
        path = _install(app, target, output)
        app.result({"file": str(path)}, f"wrote {path}; next: ansible-inventory -i {shlex.quote(str(path))} --graph")
        return
    listing = _listing(app, target)
    data = _host(listing, str(forms["host"])) if forms["host"] else listing.as_object()
    if forms["as_yaml"]:
        from vmctl.provision import inventory_formats

        text = inventory_formats.render(app.project, listing.hosts, listing.groups, listing.variables)
    else:
        text = listing.as_ini() if forms["as_ini"] else json.dumps(data, indent=2, ensure_ascii=False)
    app.result(data, text)


def _listing(app: App, target: str) -> Listing:
    """The inventory of a target; "" = of the machines that exist."""
    project = app.project
    if target:
        from vmctl.remotes import server_inventory
        from vmctl.remotes.server_hosts import ServerHosts

        return ServerHosts(project, server_inventory.load(project, server_inventory.find(project, target))).listing()
    from vmctl import logins
    from vmctl.provision import machine_hosts

    return machine_hosts.listing(project, logins.known_logins(app.workspace), app.workspace.layout)


def _host(listing: Listing, name: str) -> dict[str, object]:
    values = listing.host(name)
    if values is None:
        raise UsageError(f"there is no host '{name}'", hint=f"hosts: {', '.join(listing.hosts) or 'none'}")
    return values


def _install(app: App, target: str, output: str | None) -> Path:
    """Write the shim.

    Raises:
        UsageError: the target is not there, or something else is in the way.
    """
    from vmctl.remotes import server_inventory
    from vmctl.store import files

    project = app.project
    if target:
        server_inventory.find(project, target)
    app.workspace.ensure_id()
    name = f"ansible-inventory-{target}" if target else "ansible-inventory"
    path = app.directory / output if output else app.workspace.layout.directory / name
    if files.exists(path) and b"vmctl inventory" not in files.read(path):
        raise UsageError(f"{path} is there, and is not of vmctl's making", hint="name another place with --output")
    text = SHIM.format(
        program=shlex.quote(_program()),
        vmfile=shlex.quote(str(project.file)),
        target=f" --target {target}" if target else "",
    )
    files.write(path, text, mode=EXECUTABLE)
    return path


def _program() -> str:
    """The vmctl that runs now."""
    own = Path(sys.executable).with_name("vmctl")
    return str(own) if os.access(own, os.X_OK) else shutil.which("vmctl") or "vmctl"
