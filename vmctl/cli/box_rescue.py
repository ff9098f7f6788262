"""`vmctl box rescue`: boxes away from where they will not be for long."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vmctl.cli import completion
from vmctl.cli.app import App, command
from vmctl.cli.path_types import FromDirectory
from vmctl.cli.report import table

if TYPE_CHECKING:
    from vmctl.boxes.rescuing import Get, Rescued


@command("rescue")
@click.argument("names", metavar="[NAME...]", nargs=-1, shell_complete=completion.known_boxes)
@click.option("--project", is_flag=True, help="The boxes of this project's Vmfile.")
@click.option("--vagrant", is_flag=True, help="The boxes that Vagrant keeps on this host, without network.")
@click.option("--to", default="", metavar="oci://REGISTRY/PREFIX|DIR", help="Push or publish them there as well.")
@click.option("--url", default="", metavar="URL", help="Where the folder DIR is on the web.")
@click.option("--insecure", is_flag=True, help="Do not verify TLS certificates.")
@click.option("--ca", type=FromDirectory(), help="Trust these certificates (file or directory).")
def rescue(app: App, names: tuple[str, ...], *, to: str, url: str, **options: Any) -> int:
    """Bring boxes into the store, and into a registry or a folder, before their server goes; exit 1 when one is lost.

    Without NAME, --project and --vagrant: all boxes of the store. The same command again does what is left.
    """
    from vmctl.boxes import rescuing
    from vmctl.boxes.oci.reference import is_oci
    from vmctl.boxes.web import Access
    from vmctl.errors import UsageError

    if url and (not to or is_oci(to)):
        raise UsageError("--url says where a folder is on the web", hint="vmctl box rescue --to DIR --url URL")
    access = Access.from_environment(insecure=options["insecure"], ca=options["ca"])
    address = to if not to or is_oci(to) else str(app.directory / Path(to).expanduser())
    target = rescuing.RescueTarget(address=address, home=app.home, access=access, url=url, report=app.report)
    target.check()
    wanted, found = _wanted(app, names, access, project=options["project"], vagrant=options["vagrant"])
    for one in found:
        rescuing.tell(one, app.report)
    for one in rescuing.rescue(wanted, target):
        rescuing.tell(one, app.report)
        found.append(one)
    lost = [one for one in found if one.problem and not one.passed_over]
    rows = [(one.what, _fate(one)) for one in found]
    app.done(
        {"changed": any(one.changed for one in found), "boxes": [_object(one) for one in found], "lost": len(lost)},
        table(("BOX", "IS"), rows) if rows else "no boxes",
    )
    return 1 if lost else 0


def _wanted(
    app: App, names: tuple[str, ...], access: Any, *, project: bool, vagrant: bool
) -> tuple[list[tuple[str, Get]], list[Rescued]]:
    from vmctl.boxes import rescuing

    wanted, passed = rescuing.from_vagrant(app.home, report=app.report) if vagrant else ([], [])
    if project:
        refs = (machine.box for machine in app.project.machines)
        wanted += rescuing.of_project(refs, app.home, report=app.report)
    for name in names:
        wanted += rescuing.named(name, app.home, access, report=app.report)
    if not (names or project or vagrant):
        wanted = rescuing.stored(app.home, report=app.report)
    return wanted, passed


def _fate(one: Rescued) -> str:
    if one.problem:
        return f"passed over: {one.problem}" if one.passed_over else f"LOST: {one.problem.splitlines()[0]}"
    return one.place or "in the store"


def _object(one: Rescued) -> dict[str, Any]:
    box = one.box
    known = {"name": box.name, "version": box.version, "arch": box.arch} if box else {}
    fate = {"rescued": not one.problem, "place": one.place or None, "problem": one.problem or None}
    return {"what": one.what, **known, **fate, "changed": one.changed, "passed_over": one.passed_over}
