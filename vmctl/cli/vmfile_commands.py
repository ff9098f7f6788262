"""`vmctl init`, `adopt`, `validate`, `config` and `schema`: the Vmfile and the directory that it lies in."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path

import click

from vmctl.cli import completion
from vmctl.cli.app import App, command
from vmctl.layout import PROJECT_DIRECTORY, VMFILE


@command()
@click.argument("box", required=False, shell_complete=completion.known_boxes)
@click.option("--force", is_flag=True, help="Replace an existing Vmfile.")
def init(app: App, box: str | None, *, force: bool) -> None:
    """Write a Vmfile in this directory, and the JSON Schema that its first line names for editors."""
    from vmctl.errors import UsageError
    from vmctl.store import files
    from vmctl.vmfile.writing import DEFAULT_BOX, checked_box, starter

    path = app.vmfile or app.directory / VMFILE
    if path.exists() and not force:
        quoted = shlex.quote(str(path))
        raise UsageError(f"{path} exists already", hint=f"mv -n -- {quoted} {quoted}.old && vmctl init")
    box = checked_box(box or DEFAULT_BOX, path.parent)
    schema_file = _write_schema(path.parent)
    files.write(path, starter(box, str(schema_file.relative_to(path.parent))), mode=0o644)
    app.done({"file": str(path), "schema": str(schema_file), "box": box}, f"wrote {path}; next: vmctl up")


@command(query=True)
def validate(app: App) -> int:
    """Check the Vmfile; all faults are shown, with their places."""
    from vmctl.vmfile import VmfileInvalid

    try:
        project = app.project
    except VmfileInvalid as error:
        if not app.json:
            raise
        app.result({"valid": False, "faults": error.data["faults"]})
        return error.exit_code
    names = [spec.name for spec in project.machines]
    remotes = [remote.name for remote in project.remotes]
    text = f"{project.file} is valid: {len(names)} machine{'' if len(names) == 1 else 's'}"
    text += f", servers of {', '.join(remotes)}" if remotes else ""
    app.result({"valid": True, "file": str(project.file), "machines": names, "remotes": remotes, "faults": []}, text)
    return 0


@command(query=True)
@click.option("--origins", "show_origins", is_flag=True, help="Show where each value was written.")
def config(app: App, *, show_origins: bool) -> None:
    """Show the effective configuration: every machine with every value."""
    from vmctl.vmfile import effective, origins, to_yaml

    project = app.project
    data = effective(project)
    places: Mapping[str, str] = origins(project) if show_origins else {}
    answer = {"file": str(project.file), "root": str(project.root), **data}
    app.result({**answer, "origins": places} if show_origins else answer, to_yaml(data, places))


@command()
@click.option(
    "--write", is_flag=True, help=f"Write it to {PROJECT_DIRECTORY}/, where a Vmfile's first line expects it."
)
def schema(app: App, *, write: bool) -> None:
    """Print the Vmfile's JSON Schema (2020-12), as editors use it."""
    from vmctl import vmfile

    if write:
        path = _write_schema(app.vmfile_path().parent)
        app.done({"schema": str(path)}, f"wrote {path}")
        return
    app.result(vmfile.schema(), json.dumps(vmfile.schema(), indent=2))


def _write_schema(root: Path) -> Path:
    """Put the schema where editors of the Vmfile look for it, out of version control."""
    from vmctl import vmfile
    from vmctl.store import claims, files

    tree = claims.prepare(root)
    files.write(tree.schema, json.dumps(vmfile.schema(), indent=2) + "\n", mode=0o644)
    return tree.schema


@command()
def adopt(app: App) -> None:
    """Make this directory the project that it was before it was restored, copied or cloned again.

    Moving a project needs nothing of the kind. The machines are then this directory's, and no longer those of the
    directory that vmctl knew; nothing is made or removed.
    """
    from vmctl import machine_names
    from vmctl.store import project_identity

    place = project_identity.adopt(app.vmfile_path().parent, app.home, report=app.report)
    names = machine_names.recorded(place.layout(app.home))
    text = f"{place.root} has the machines {', '.join(names)} now" if names else f"{place.root} has no machines"
    app.done({"changed": True, "project": place.root, "machines": list(names)}, text)
