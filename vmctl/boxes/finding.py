"""From what a Vmfile says to a box in the store: looked up, else fetched or built."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vmctl.boxes.box import RECIPE, Box
from vmctl.boxes.box_store import BoxStore
from vmctl.errors import UsageError, VmctlError, shell_command, suggest
from vmctl.events import Report, ignore
from vmctl.layout import HomeLayout
from vmctl.spec import BoxRef


def find(ref: BoxRef, home: HomeLayout, *, report: Report = ignore) -> Box | None:
    """The box in the store that ``ref`` means; None when it must be fetched or built first. Quick, no network.

    One that a key must have signed is there once its signature was verified.

    Raises:
        UsageError: the constraint makes no sense, the file that ``ref`` names is not there, or the name means boxes of
            several origins.
        VmctlError: a box that may be the one is damaged.
    """
    found = _found(ref, BoxStore(home, report))
    if found is None or not ref.key:
        return found
    from vmctl.boxes.oci import cosign

    return found if cosign.is_verified(found.provenance, Path(ref.key)) else None


def _found(ref: BoxRef, store: BoxStore) -> Box | None:
    if ref.digest:
        return store.locked(ref)
    if not (ref.is_path or ref.is_url):
        return store.find(ref.address, ref.constraint)
    from vmctl.boxes.address import plain_source, stamp

    source = plain_source(ref.address)
    if "://" in source:
        return store.from_source(source)
    if not Path(source).is_file():
        raise UsageError(f"the box {source} does not exist", hint=shell_command("ls", "-l", Path(source).parent))
    return store.from_file(source, stamp(Path(source)))


def ensure(ref: BoxRef, home: HomeLayout, *, formats: Sequence[str] = (), report: Report = ignore) -> Box:
    """The box that ``ref`` means, in the store: added from its path or URL, or built from its recipe, if need be.

    Args:
        ref: what the Vmfile says.
        home: vmctl's data directory.
        formats: what the machine's hypervisor takes; a box of a recipe that was built before the recipe brought one of
            them is built again.
        report: told of the progress.

    Raises:
        VmctlError: there is no such box, or it could not be fetched or built.
    """
    box = find(ref, home, report=report)
    if box and (box.has_form(formats) or ref.digest or box.source != RECIPE + ref.address):
        return box
    if ref.digest:  # never another image instead of the locked one
        raise VmctlError(f"the locked image of box {ref} is not in the store", hint="vmctl up --locked")
    from vmctl.boxes import obtaining, recipe, resolving
    from vmctl.boxes.request import Order
    from vmctl.boxes.web import Access

    access, key = Access.from_environment(), Path(ref.key) if ref.key else None
    if ref.is_path or ref.is_url:
        return obtaining.obtain(Order(address=ref.address, named=False, key=key, access=access), home, report=report)[0]

    if ref.address in recipe.names():
        from vmctl.boxes.box_build import build

        return build(ref.address, home, constraint=ref.constraint, report=report)
    if resolving.is_known(ref.address):
        order = Order(address=ref.address, version=ref.constraint, name=ref.address, access=access)
        return obtaining.obtain(order, home, report=report)[0]
    raise unknown(ref, BoxStore(home))


def unknown(ref: BoxRef, store: BoxStore) -> VmctlError:
    """The error for a name that means nothing here, with near names."""
    from vmctl.boxes import builtin, recipe

    if versions := [box.version for box in store.boxes(ref.address) if box.named]:
        return VmctlError(
            f"no version of box {ref.address} satisfies {ref.constraint or 'this architecture'}",
            details=f"in the store: {', '.join(versions)}",
            hint="vmctl box list",
        )
    known = sorted({*store.names(), *recipe.names(), *builtin.entries()})
    return VmctlError(
        f"there is no box {ref.address!r}{suggest(ref.address, known, most=3)}",
        details=f"in the store, built in, or buildable: {', '.join(known)}" if known else "",
        hint=f"vmctl box add FILE-OR-URL --name {ref.address}",
    )


def box_defaults(home: HomeLayout) -> Callable[[BoxRef], Mapping[str, Any]]:
    """What a box says of machines made from it, as keys of a Vmfile's machine; nothing for a box that is not there."""

    def defaults(ref: BoxRef) -> Mapping[str, Any]:
        try:
            box = find(ref, home)
        except VmctlError:
            return {}  # `ensure` tells, when the box is needed
        return box.defaults if box else {}

    return defaults
