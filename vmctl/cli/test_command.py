"""`vmctl test`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vmctl.cli import completion
from vmctl.cli.app import App, command
from vmctl.cli.shared_options import ALIAS

if TYPE_CHECKING:
    from vmctl.project_test import Suite
    from vmctl.spec import BoxRef


@command()
@click.argument("names", nargs=-1, metavar="[MACHINE]...", shell_complete=completion.machines)
@click.option(
    "--box",
    "boxes",
    multiple=True,
    metavar="BOX",
    shell_complete=completion.known_boxes,
    help="Test with this box; may be repeated.",
)
@ALIAS
@click.option("--junit", type=click.Path(path_type=Path), metavar="FILE", help="Write the result as JUnit XML.")
@click.option("--keep", is_flag=True, help="Keep the machines of a test that failed, to look at.")
def test(
    app: App, names: tuple[str, ...], *, boxes: tuple[str, ...], alias: bool, junit: Path | None, keep: bool
) -> None:
    """Try the project on machines of their own; yours are not touched.

    Up and provisioned; provisioned again, which must change nothing; restarted; asked by what `test:` of the Vmfile
    names whether they do their work; destroyed.
    """
    from vmctl.lifecycle.selection import Selection
    from vmctl.lifecycle.up import with_dependencies
    from vmctl.project_test import BoxTest, ProjectTestFailed, prepare, write_junit

    app.alias = alias
    app.select(names, rising=True)
    project = app.project
    selection = Selection()
    tested = with_dependencies(project, app.names)
    selection.ask_for_new(spec for spec in project.machines if spec.name in tested)
    suites: list[Suite] = []
    kept = []
    wanted: list[BoxRef | None] = [*(_boxes(boxes, app.directory) or project.test.boxes)]
    for box in wanted or [None]:
        place = prepare(partial(app.with_box, box), home=app.home, report=app.report, lock_timeout=app.lock_timeout)
        suites.append(BoxTest(place, app.names, keep=keep, passwords=selection.passwords).run())
        kept += [place.root] if keep and suites[-1].failed else []
        if junit:
            write_junit(app.directory / junit, project.name, suites)
    if any(suite.failed for suite in suites):
        raise ProjectTestFailed(suites, hint=_look_hint(kept))
    data = {"changed": True, "suites": [suite.as_object() for suite in suites]}
    app.done(data, "\n".join(map(str, suites)))


def _boxes(written: tuple[str, ...], directory: Path) -> list[BoxRef]:
    from vmctl.errors import UsageError
    from vmctl.vmfile.box_refs import parse_box
    from vmctl.vmfile.nodes import Source
    from vmctl.vmfile.quantities import Mismatch

    try:
        return [parse_box(box, Source("--box", directory)) for box in written]
    except Mismatch as error:
        raise UsageError(f"--box: {error}", hint="vmctl box list") from error


def _look_hint(kept: list[Path]) -> str:
    if not kept:
        return "vmctl test --keep    # keeps the machines, to look at"
    from vmctl.errors import shell_command

    return shell_command("vmctl", "-C", kept[0], "status") + "    # ssh and logs work there too"
