"""`vmctl box`: the images that machines start from."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vmctl.cli import box_choice, box_upkeep, completion
from vmctl.cli.app import App, Subcommands, command
from vmctl.cli.box_choice import SOURCE
from vmctl.cli.report import table
from vmctl.cli.shared_options import ALIAS, KEY, FromDirectory
from vmctl.user_environment import require_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vmctl.boxes import Box


@click.group(cls=Subcommands)
def box() -> None:
    """Manage base boxes."""


@command("add")
@click.argument("address", metavar="NAME|ORG/NAME|PATH|URL", shell_complete=completion.known_boxes)
@click.option("--name", default="", metavar="NAME", help="Name for the box (default: from the address).")
@click.option(
    "--version",
    default="",
    metavar="VERSION",
    help="A version or constraint (~>1.2) of a catalogue; for a file, its number.",
)
@click.option("--provider", default="", metavar="PROVIDER", help="Take the catalogue's box for this provider.")
@click.option(
    "--arch", default="", metavar="ARCH", help="Its architecture (default: what the box says, else this host's)."
)
@click.option("--checksum", metavar="[ALGO:]HEX", help="Expected checksum.")
@click.option(
    "--user",
    default="",
    metavar="USER",
    help="Login user unless a Vmfile names one (default: what the box says, else vmctl).",
)
@click.option(
    "--firmware", type=click.Choice(["bios", "uefi"]), default=None, help="Firmware (default: what the box says)."
)
@click.option("--cloud-init/--no-cloud-init", default=True, help="Whether the image reads a seed.")
@click.option(
    "--password-file",
    type=click.Path(path_type=Path),
    help="File with the login user's password, for the first login to a guest that reads no seed.",
)
@ALIAS
@KEY
@click.option("--insecure", is_flag=True, help="Do not verify TLS certificates.")
@click.option("--ca", type=FromDirectory(), help="Trust these certificates (file or directory).")
def add(
    app: App,
    address: str,
    *,
    checksum: str | None,
    firmware: str | None,
    password_file: Path | None,
    alias: bool,
    insecure: bool,
    ca: Path | None,
    **options: Any,
) -> None:
    """Add a box to the store: a .box, an OVA, or a disk image (qcow2, raw, VMDK, VDI, VHDX; also compressed).

    A name is one of the built-in catalogue (`ubuntu-24.04`) or ORG/NAME on the servers of VMCTL_BOX_SERVER. A URL is of
    http, https, file, or oci://REGISTRY/REPOSITORY[:TAG|@DIGEST].
    """
    from vmctl.boxes import obtaining
    from vmctl.boxes.checksum import Checksum
    from vmctl.boxes.request import Order
    from vmctl.boxes.web import Access

    order = Order(
        address=_aliased(_address(address, app.directory), app) if alias else _address(address, app.directory),
        checksum=Checksum.parse(checksum) if checksum else None,
        firmware=firmware or "",
        password=_password(app.directory / password_file) if password_file else "",
        access=Access.from_environment(insecure=insecure, ca=ca),
        **options,
    )
    added, new = obtaining.obtain(order, app.home, report=app.report)
    text = f"added {added}" if new else f"{added} is in the store already"
    app.done({"box": _object(added), "changed": new}, text)


@command("build")
@click.argument("name", metavar="NAME", shell_complete=completion.recipes)
@click.option("--again", is_flag=True, help="Build again, with newer packages, even if there is one already.")
def build(app: App, name: str, *, again: bool) -> None:
    """Build a box from its distribution's packages."""
    from vmctl.boxes import box_build

    built = box_build.build(name, app.home, report=app.report, again=again)
    app.done({"box": _object(built)}, f"{built} is in the store")


@command("list", query=True)
@click.option("-i", "--info", is_flag=True, help="Also show where each came from, and what it says of itself.")
def list_(app: App, *, info: bool) -> None:
    """Show the boxes in the store, newest version first, and the machines that use them."""
    from vmctl.boxes.box_store import BoxStore
    from vmctl.boxes.store_upkeep import users

    boxes, by = BoxStore(app.home, app.report).boxes(), users(app.home, report=app.report)
    data = [{**_object(one), "used_by": by.get(one.digest, [])} | (_info(one) if info else {}) for one in boxes]
    text = "\n".join(map(_described, boxes)) if info else _table(boxes, by)
    app.result({"boxes": data}, text if boxes else "no boxes yet; try: vmctl box build debian-12")


@command("remove")
@click.argument("ref", metavar="NAME[@VERSION]", shell_complete=completion.boxes)
@click.option("--all", "every", is_flag=True, help="Remove all versions that match.")
@SOURCE
def remove(app: App, ref: str, *, every: bool, source: str | None) -> None:
    """Remove a box from the store; refuses while a machine uses it."""
    from vmctl.boxes.box_store import BoxStore
    from vmctl.boxes.store_upkeep import users

    store = BoxStore(app.home, app.report)
    chosen = box_choice.chosen(store.boxes(), ref, source)
    if not every:
        chosen = [box_choice.only(chosen, ref, command="vmctl box remove")]
    users(app.home, report=app.report)  # tells, once, of projects that are gone
    for one in chosen:
        store.remove(one, lambda: users(app.home))
    app.done({"removed": [_object(one) for one in chosen]}, "\n".join(f"removed {one}" for one in chosen))


@command("verify")
@click.argument("ref", metavar="[NAME[@VERSION]]", required=False, shell_complete=completion.boxes)
@SOURCE
def verify(app: App, ref: str | None, *, source: str | None) -> int:
    """Check images against their digests; exit 1 when one is damaged."""
    from vmctl.boxes.box_store import BoxStore
    from vmctl.boxes.store_upkeep import damage

    store = BoxStore(app.home)
    broken = [] if source is not None else store.damaged(ref.partition("@")[0] if ref else None)
    chosen = box_choice.matching(store.boxes(), ref, source)
    if ref and not (chosen or broken):
        raise box_choice.absent(ref, source)
    rows = [(one, damage(one, report=app.report)) for one in chosen]
    data = [{**_object(one), "damage": problem} for one, problem in rows]
    data += [{"name": one.name, "path": str(one.directory), "damage": one.problem} for one in broken]
    lines = [f"{one}: {problem or 'sound'}" for one, problem in rows] + [one.problem for one in broken]
    app.result({"boxes": data}, "\n".join(lines))
    return 1 if broken or any(problem for _, problem in rows) else 0


for _command in (add, build, list_, remove, verify, *box_upkeep.COMMANDS):
    box.add_command(_command)


def _address(text: str, directory: Path) -> str:
    """A URL or a name as it is, a path made absolute. What exists as a file is one, unless it could be a name."""
    from vmctl.boxes import box_names

    if "://" in text:
        return text
    path = (directory / Path(text).expanduser()).absolute()
    require_text(path)
    named = box_names.NAME.fullmatch(text) and not text.endswith(box_names.SUFFIXES)
    return text if named and not path.is_file() else str(path)


def _aliased(address: str, app: App) -> str:
    """What takes the place of a name, which is told; a name that vmctl's table has not as it is."""
    from vmctl.boxes import aliases
    from vmctl.events import Notice

    known = aliases.proposed(address)
    if known is None:
        return address
    app.report(Notice(text=f"{known.target} in place of {address} (--alias, {known.what})"))
    return known.target


def _password(path: Path) -> str:
    from vmctl.errors import UsageError

    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {error}", hint="vmctl box add --help") from error
    if len(lines) != 1 or not lines[0]:
        raise UsageError(f"{path} must hold one line, the password", hint="vmctl box add --help")
    return lines[0]


def _object(one: Box) -> dict[str, Any]:
    keys = ("name", "version", "arch", "digest", "format", "size", "virtual_size", "source", "user", "firmware")
    more = {"named": one.named, "origin": one.origin or None, "cloud_init": one.cloud_init, "seeding": one.seeding}
    return {key: getattr(one, key) for key in keys} | more | {"path": str(one.path)}


def _info(one: Box) -> dict[str, Any]:
    first = {"first_key": one.first_key or None, "first_password": one.first_password}
    return {"defaults": dict(one.defaults), "provenance": dict(one.provenance), **first}


def _described(one: Box) -> str:
    from vmctl.boxes.box import OWN
    from vmctl.boxes.oci.cosign import signers

    known: dict[str, Any] = {"from": one.source}
    known |= {"origin": one.origin} if one.origin not in ("", one.source) else {}
    known |= {} if one.named else {"name": "a label only; Vmfiles name its source"}
    known |= {"user": one.user, "firmware": one.firmware, "seeding": one.seeding}
    if one.first_key:
        key = "its own key" if one.first_key == OWN else "Vagrant's published key"
        known["first login"] = f"{key}, or a password" if one.first_password else key
    known |= {**one.defaults, **{key: value for key, value in one.provenance.items() if key != "stamps"}}
    if keys := signers(one.provenance):
        known["signed by"] = ", ".join(f"sha256:{key}" for key in keys)
    if added := one.provenance.get("added"):
        known["added"] = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(added))
    return "\n".join([str(one), *(f"  {key}: {value}" for key, value in known.items())])


def _table(boxes: Sequence[Box], by: Mapping[str, Sequence[str]]) -> str:
    from vmctl.units import readable

    rows = []
    for one in boxes:
        used = ", ".join(by.get(one.digest, ())) or "-"
        name, source = one.name if one.named else f"({one.name})", box_choice.shown(one)
        rows.append((name, one.version, one.arch, readable(one.size), readable(one.virtual_size), source, used))
    return table(("NAME", "VERSION", "ARCH", "SIZE", "DISK", "FROM", "USED BY"), rows)
