"""`vmctl box lock`, `outdated`, `update`, `prune`, `du`, `push`, `publish`, `repackage` and `rescue`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vmctl.cli import box_choice, completion
from vmctl.cli.app import App, command
from vmctl.cli.box_choice import SOURCE
from vmctl.cli.report import table
from vmctl.cli.shared_options import ALIAS, KEY, FromDirectory

if TYPE_CHECKING:
    from vmctl.boxes import Box
    from vmctl.boxes.rescuing import Get, Rescued
    from vmctl.boxes.updating import Finding

NAME = click.argument("name", metavar="[NAME]", required=False, shell_complete=completion.boxes)


@command("outdated")
@NAME
@SOURCE
def outdated(app: App, name: str | None, *, source: str | None) -> int:
    """Check for newer boxes where they came from; exit 1 when there are any."""
    findings = _findings(app, name, source)
    rows = [(str(one.box), _finding_text(one)) for one in findings]
    app.result({"boxes": [_object(one) for one in findings]}, table(("BOX", "NEWER"), rows) if rows else "no boxes")
    return 1 if any(one.newer for one in findings) else 0


@command("update")
@NAME
@SOURCE
@KEY
def update(app: App, name: str | None, *, source: str | None, key: Path | None) -> None:
    """Add newer versions of boxes; machines keep the version that they were made from."""
    from vmctl.boxes import updating
    from vmctl.boxes.web import Access

    access = Access.from_environment()
    behind = [one for one in _findings(app, name, source) if one.newer]
    updating.check_key([one.box for one in behind], key)
    added = [updating.update(one, access, app.home, key=key, report=app.report) for one in behind]
    text = "\n".join(f"added {box}" for box in added) or "nothing newer"
    app.done({"changed": bool(added), "added": [_names(box) for box in added]}, text)


@command("prune")
@click.option("--dry-run", is_flag=True, help="Only show what would be removed.")
def prune(app: App, *, dry_run: bool) -> None:
    """Remove boxes that have a newer version, no machine and no Vmfile.lock, and abandoned downloads."""
    from vmctl.boxes import store_upkeep
    from vmctl.boxes.box_store import BoxStore
    from vmctl.units import readable

    store = BoxStore(app.home, app.report)
    there = store.boxes()
    by = store_upkeep.needed(app.home, there, report=app.report)
    boxes, partial = store_upkeep.superfluous(there, by), store_upkeep.given_up(app.home)
    freed = sum(map(store_upkeep.allocated, [*(box.directory for box in boxes), *partial]))
    if not dry_run:
        for box in boxes:
            store.remove(box, lambda: store_upkeep.needed(app.home, there))
        for path in partial:
            path.unlink(missing_ok=True)
    word = "would remove" if dry_run else "removed"
    lines = [f"{word} {what}" for what in [*boxes, *(f"the partial download {path}" for path in partial)]]
    data = {"changed": bool(lines) and not dry_run, "removed": [_names(box) for box in boxes], "bytes": freed}
    app.done(data, "\n".join([*lines, f"{readable(freed)} in all"]) if lines else "nothing to remove")


@command("du")
def du(app: App) -> None:
    """Show what boxes and partial downloads take up on disk."""
    from vmctl.boxes import store_upkeep
    from vmctl.boxes.box_store import BoxStore
    from vmctl.units import readable

    sizes = [(box, store_upkeep.allocated(box.directory)) for box in BoxStore(app.home, app.report).boxes()]
    partial = store_upkeep.allocated(app.home.downloads)
    total = sum(size for _, size in sizes) + partial
    rows = [(str(box), readable(size)) for box, size in sizes]
    rows += [("partial downloads", readable(partial)), ("all", readable(total))]
    data = [{**_names(box), "bytes": size} for box, size in sizes]
    app.result({"boxes": data, "downloads": partial, "bytes": total}, table(("BOX", "ON DISK"), rows))


@command("repackage")
@click.argument("ref", metavar="NAME[@VERSION]", shell_complete=completion.boxes)
@click.option("--output", type=click.Path(path_type=Path), help="The file to write (default: NAME-VERSION.box).")
@SOURCE
def repackage(app: App, ref: str, *, output: Path | None, source: str | None) -> None:
    """Write a box from the store to a .box file, for vmctl elsewhere and for Vagrant's libvirt provider."""
    from vmctl.boxes import packing
    from vmctl.boxes.box_store import BoxStore

    found = box_choice.chosen(BoxStore(app.home, app.report).boxes(), ref, source)
    box = box_choice.newest(found, ref, command="vmctl box repackage")
    target = app.directory / (output or Path(f"{box.name.replace('/', '-')}-{box.version}.box"))
    packing.repackage(box, target)
    app.done({"box": _names(box), "path": str(target)}, f"wrote {target}")


@command("push")
@click.argument("ref", metavar="NAME[@VERSION]", shell_complete=completion.boxes)
@click.argument("target", metavar="oci://REGISTRY/REPOSITORY[:TAG]")
@click.option("--insecure", is_flag=True, help="Do not verify TLS certificates.")
@click.option("--ca", type=FromDirectory(), help="Trust these certificates (file or directory).")
@SOURCE
def push(app: App, ref: str, target: str, *, insecure: bool, ca: Path | None, source: str | None) -> None:
    """Push a box to an OCI registry; without TAG, as its version and as `latest`.

    The login is that of docker login or podman login, or VMCTL_REGISTRY_AUTH. What the registry has is not sent again.
    """
    from vmctl.boxes.box_store import BoxStore
    from vmctl.boxes.oci import pushing
    from vmctl.boxes.web import Access
    from vmctl.units import readable

    found = box_choice.chosen(BoxStore(app.home, app.report).boxes(), ref, source)
    box = box_choice.newest(found, ref, command="vmctl box push")
    access = Access.from_environment(insecure=insecure, ca=ca)
    done = pushing.push(box, target, app.home, access, report=app.report)
    data = {"box": _names(box), "reference": str(done.reference), "tags": list(done.tags)}
    amount = f"{readable(done.sent)} of {readable(done.size)} sent"
    amount += f", what differs from {done.parent}" if done.parent else ""
    text = f"pushed {box} to {done.reference} ({', '.join(done.tags)}): {amount}"
    app.done(
        {"changed": done.sent > 0, **data, "sent": done.sent, "bytes": done.size, "parent": done.parent or None}, text
    )


@command("publish")
@click.argument("ref", metavar="NAME[@VERSION]", shell_complete=completion.boxes)
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
@click.option("--url", default="", metavar="URL", help="Where the folder is on the web (asked for once).")
@SOURCE
def publish(app: App, ref: str, directory: Path, *, url: str, source: str | None) -> None:
    """Publish a box in a folder that any web server serves, for vmctl and for Vagrant's libvirt provider.

    The catalogue is DIR/NAME.json. Versions that are published stay as they are; readers may go on meanwhile.
    """
    from vmctl.boxes import publishing
    from vmctl.boxes.box_store import BoxStore

    found = box_choice.chosen(BoxStore(app.home, app.report).boxes(), ref, source)
    box = box_choice.newest(found, ref, command="vmctl box publish")
    done = publishing.publish(box, app.directory / directory.expanduser(), url=url, report=app.report)
    data = {"box": _names(box), "catalogue": str(done.catalogue), "file": str(done.file), "url": done.url}
    text = f"published {box}: {done.url}" if done.changed else f"{box} is published already: {done.url}"
    app.done({"changed": done.changed, **data}, text)


@command("lock")
@ALIAS
def lock(app: App, *, alias: bool) -> None:
    """Write Vmfile.lock: exactly the images that this project's boxes are now, for `up --locked`."""
    from vmctl import boxes
    from vmctl.boxes import locking

    app.alias = alias
    project = app.project
    refs = {spec.box_alias or str(spec.box): spec.box for spec in project.machines}
    instead = {spec.box_alias: spec.box for spec in project.machines if spec.box_alias}
    found = {written: boxes.ensure(ref, app.home, report=app.report) for written, ref in refs.items()}
    path = locking.path_for(project.file)
    changed = locking.write(path, found, instead)
    for one in found.values():
        locking.remember(one, path, app.home)
    text = "\n".join(f"{ref}: {box}{' in its place' if ref in instead else ''}" for ref, box in found.items())
    app.done({"changed": changed, "path": str(path), "boxes": {ref: _names(box) for ref, box in found.items()}}, text)


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
    wanted, found = _to_rescue(app, names, access, project=options["project"], vagrant=options["vagrant"])
    for one in found:
        rescuing.tell(one, app.report)
    for one in rescuing.rescue(wanted, target):
        rescuing.tell(one, app.report)
        found.append(one)
    lost = [one for one in found if one.problem and not one.passed_over]
    rows = [(one.what, _fate(one)) for one in found]
    app.done(
        {
            "changed": any(one.changed for one in found),
            "boxes": [_fate_object(one) for one in found],
            "lost": len(lost),
        },
        table(("BOX", "IS"), rows) if rows else "no boxes",
    )
    return 1 if lost else 0


COMMANDS = (lock, outdated, update, prune, du, push, publish, repackage, rescue)


def _findings(app: App, name: str | None, source: str | None) -> list[Finding]:
    from vmctl.boxes import store_upkeep, updating
    from vmctl.boxes.box_store import BoxStore
    from vmctl.boxes.web import Access

    access = Access.from_environment()
    boxes = BoxStore(app.home, app.report).boxes()
    chosen = [box for box in box_choice.matching(boxes, None, source) if not name or box.name == name]
    if (name or source is not None) and not chosen:
        raise box_choice.absent(name or "", source)
    return [updating.newer_than(box, access, report=app.report) for box in store_upkeep.newest(chosen)]


def _finding_text(finding: Finding) -> str:
    return finding.newer or (f"? ({finding.unknown})" if finding.unknown else "-")


def _object(finding: Finding) -> dict[str, Any]:
    return {**_names(finding.box), "newer": finding.newer or None, "unknown": finding.unknown or None}


def _names(box: Box) -> dict[str, Any]:
    known = {"name": box.name, "version": box.version, "arch": box.arch}
    return known if box.origin in ("", box.name) else known | {"origin": box.origin}


def _to_rescue(
    app: App, names: tuple[str, ...], access: Any, *, project: bool, vagrant: bool
) -> tuple[list[tuple[str, Get]], list[Rescued]]:
    from vmctl.boxes import rescue_sources

    wanted, passed = rescue_sources.from_vagrant(app.home, report=app.report) if vagrant else ([], [])
    if project:
        wanted += rescue_sources.of_project(app.project, app.home, report=app.report)
    for name in names:
        wanted += rescue_sources.named(name, app.home, access, report=app.report)
    if not (names or project or vagrant):
        wanted = rescue_sources.stored(app.home, report=app.report)
    return wanted, passed


def _fate(one: Rescued) -> str:
    if one.problem:
        return f"passed over: {one.problem}" if one.passed_over else f"LOST: {one.problem.splitlines()[0]}"
    return one.place or "in the store"


def _fate_object(one: Rescued) -> dict[str, Any]:
    box = one.box
    known = {"name": box.name, "version": box.version, "arch": box.arch} if box else {}
    fate = {"rescued": not one.problem, "place": one.place or None, "problem": one.problem or None}
    return {"what": one.what, **known, **fate, "changed": one.changed, "passed_over": one.passed_over}
