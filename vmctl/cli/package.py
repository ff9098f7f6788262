"""`vmctl package`."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vmctl import json_text
from vmctl.cli import completion
from vmctl.cli.app import App, command
from vmctl.cli.guest_commands import only_machine
from vmctl.cli.shared_options import FromDirectory

if TYPE_CHECKING:
    from vmctl.boxes.packing import Contents
    from vmctl.workspace import Machine, Workspace


@command()
@click.argument("machine", required=False, shell_complete=completion.machines)
@click.option("--output", type=click.Path(path_type=Path), help="The file to write (default: PROJECT-MACHINE.box).")
@click.option(
    "--include",
    multiple=True,
    metavar="FILE",
    type=FromDirectory(dir_okay=False),
    help="Also put this file into the box, below include/; may be repeated.",
)
@click.option(
    "--info",
    type=FromDirectory(dir_okay=False),
    help="A JSON file with facts about the box (`box list -i`).",
)
def package(
    app: App, machine: str | None, *, output: Path | None, include: tuple[Path, ...], info: Path | None
) -> None:
    """Make a box from a halted machine, for vmctl and for Vagrant.

    A copy of the machine is booted, cleaned (identity, SSH keys, cloud-init's state, logs) and written, flattened. The
    machine itself stays as it is. The box's login user is the machine's, with the key that Vagrant publishes.
    """
    from vmctl.boxes import packing, space
    from vmctl.lifecycle import packaging

    workspace, name = only_machine(app, machine)
    target = app.directory / (output or Path(f"{workspace.project.name}-{name}.box"))
    packing.check_target(target, "vmctl package --output OTHER")
    description, included = _info(info), _included(include)
    with (
        space.needed(target.parent, f"to write {target}"),
        tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as place,
    ):
        exported, taken = packaging.take(workspace, name, Path(place))
        contents = _contents(workspace, taken, info=description, include=included, disks=exported.disks,
                             descriptor=exported.descriptor, form=exported.format, size=exported.size)  # fmt: skip
        with packaging.reported_step(app.report, name, "write_box", f"writing {target.name}"):
            packing.write(contents, target)
    app.done({"changed": True, "machine": name, "path": str(target)}, f"wrote {target}")


def _contents(workspace: Workspace, machine: Machine, **parts: Any) -> Contents:
    from vmctl.boxes.box_names import host_architecture
    from vmctl.boxes.box_store import BoxStore
    from vmctl.boxes.packing import Contents
    from vmctl.lifecycle.machine_job import Job
    from vmctl.lifecycle.packaging import nic_address

    job = Job(workspace, machine)
    record = job.record
    box = BoxStore(workspace.home).by_digest(record.box.digest)
    return Contents(
        arch=box.arch if box else host_architecture(),
        user=record.user,
        firmware=record.box.firmware,
        ssh_port=job.spec.ssh_port,
        seeding=record.box.seeding,
        base=record.box.digest,
        mac=nic_address(record) if parts["descriptor"] else record.box.mac,
        **parts,
    )


def _info(path: Path | None) -> dict[str, Any]:
    from vmctl.errors import UsageError

    if path is None:
        return {}
    try:
        value = json_text.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UsageError(f"{path} is not valid JSON: {error}", hint="vmctl package --help") from error
    if not isinstance(value, dict):
        raise UsageError(f"{path} holds no JSON object", hint="vmctl package --help")
    return value


def _included(paths: tuple[Path, ...]) -> tuple[Path, ...]:
    from vmctl.errors import UsageError

    names = [path.name for path in paths]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UsageError(f"two files to include are called {twice}", hint="vmctl package --help")
    return tuple(path.absolute() for path in paths)
