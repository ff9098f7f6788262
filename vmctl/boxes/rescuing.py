"""`vmctl box rescue`: boxes away from a server that ends, into the store, and on into a registry or a folder.

One box after the other, each with its own result: what cannot be had does not hold up the rest. A rescue that is run
again does only what is left.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from msgspec import Struct

from vmctl.boxes import box_names, obtaining, store_upkeep, vagrant_box
from vmctl.boxes.box import Box
from vmctl.boxes.box_store import BoxStore
from vmctl.boxes.catalogue import PREFERRED
from vmctl.boxes.oci.reference import Reference, is_oci
from vmctl.boxes.request import Order
from vmctl.boxes.versions import Version
from vmctl.boxes.web import Access
from vmctl.errors import Interrupted, UsageError, VmctlError
from vmctl.events import Report, Warned, ignore
from vmctl.layout import HomeLayout
from vmctl.user_environment import expanded

Get = Callable[[], tuple[Box, bool]]
"""Has the box in the store; the box, and whether it was not there before."""
VARIABLE = "VAGRANT_HOME"
WORDS = {"-VAGRANTSLASH-": "/", "-VAGRANTCOLON-": ":"}


class Rescued(Struct, frozen=True, kw_only=True):
    """What became of one box."""

    what: str
    """As people know it."""
    box: Box | None = None
    place: str = ""
    """Its address in the registry or folder; "" = it is in the store alone."""
    changed: bool = False
    problem: str = ""
    """Why it was not rescued; "" = it was."""
    passed_over: bool = False
    """Whether that is no loss: another of its boxes was taken."""


class RescueTarget(Struct, frozen=True, kw_only=True):
    """Where boxes go from the store."""

    address: str
    """``oci://REGISTRY/PREFIX`` or a folder; "" = nowhere."""
    home: HomeLayout
    access: Access
    url: str = ""
    report: Report = ignore

    def check(self) -> None:
        """See that the address is one, before anything is fetched.

        Raises:
            UsageError: it is not.
        """
        if is_oci(self.address) and (found := Reference.parse(self.address)) and (found.tag or found.digest):
            hint = "vmctl box rescue --to oci://REGISTRY/PREFIX"
            raise UsageError(f"{self.address} is one image; each box gets a repository below", hint=hint)

    def bring(self, box: Box) -> tuple[str, bool]:
        """Bring a box there: its address, and whether it was not there before.

        Raises:
            VmctlError: as ``oci.pushing.push`` and ``publishing.publish``.
        """
        if not self.address:
            return "", False
        if is_oci(self.address):
            from vmctl.boxes.oci.pushing import push

            where = f"{self.address.rstrip('/')}/{box.name.lower()}"
            done = push(box, where, self.home, self.access, report=self.report)
            return f"{where}:{done.tags[0]}", done.sent > 0
        from vmctl.boxes.publishing import publish

        published = publish(box, Path(self.address), url=self.url, report=self.report)
        return published.url, published.changed


def rescue(wanted: Iterable[tuple[str, Get]], target: RescueTarget) -> Iterator[Rescued]:
    """Have each box in the store, verify it there, and bring it to the target; what became of each.

    Args:
        wanted: what people call it, and what gets it into the store.
        target: where it goes from there.

    Raises:
        Interrupted: the user asked to stop; the same again does what is left.
    """
    for what, get in wanted:
        try:
            box, new = get()
            if damage := store_upkeep.damage(box, report=target.report):
                yield Rescued(what=what, box=box, problem=damage)
                continue
            place, changed = target.bring(box)
        except Interrupted:
            raise
        except VmctlError as error:
            yield Rescued(what=what, problem=": ".join(filter(None, (error.brief, error.details))))
        else:
            yield Rescued(what=what, box=box, place=place, changed=new or changed)


def from_vagrant(home: HomeLayout, *, report: Report = ignore) -> tuple[list[tuple[str, Get]], list[Rescued]]:
    """What Vagrant keeps on this host, oldest version first, without network; and what is passed over.

    Raises:
        UsageError: Vagrant keeps no boxes here.
    """
    taken, others = best_of_vagrant(vagrant_boxes(vagrant_directory()))
    chosen = {(one.name, one.version) for one in taken}
    passed = [Rescued(what=str(one), problem=why, passed_over=(one.name, one.version) in chosen) for one, why in others]

    def getter(one: Unpacked) -> Get:
        order = Order(address=str(one.directory), name=one.name, version=one.version, arch=one.arch)
        return lambda: obtaining.obtain(order, home, report=report)

    return [(str(one), getter(one)) for one in taken], passed


def named(name: str, home: HomeLayout, access: Access, *, report: Report = ignore) -> list[tuple[str, Get]]:
    """The boxes of a name that are in the store, oldest first; else what `box add` gets by it."""
    there = [box for box in BoxStore(home, report).boxes(name) if box.named]
    if there:
        return [(str(box), functools.partial(_as_it_is, box)) for box in reversed(there)]
    order = Order(address=name, access=access)
    return [(name, lambda: obtaining.obtain(order, home, report=report))]


def stored(home: HomeLayout, *, report: Report = ignore) -> list[tuple[str, Get]]:
    """All boxes of the store that have names."""
    names = BoxStore(home, report).names()
    return [one for name in names for one in named(name, home, Access(), report=report)]


def _as_it_is(box: Box) -> tuple[Box, bool]:
    return box, False


def tell(found: Rescued, report: Report) -> None:
    """Say at once what went wrong."""
    if found.problem and not found.passed_over:
        report(Warned(text=f"{found.what}: {found.problem}"))


class Unpacked(Struct, frozen=True, kw_only=True):
    """One box, as Vagrant unpacked it."""

    name: str
    version: str
    provider: str
    directory: Path
    arch: str = ""
    """"" = Vagrant does not say."""

    def __str__(self) -> str:
        return f"{self.name} {self.version} ({self.provider})"


def vagrant_directory() -> Path:
    """Where Vagrant keeps its boxes.

    Raises:
        UsageError: it keeps none on this host.
    """
    found = expanded(os.environ.get(VARIABLE) or "~/.vagrant.d") / "boxes"
    if not found.is_dir():
        raise UsageError(
            f"Vagrant has no boxes in {found}", hint=f"export {VARIABLE}=DIRECTORY, if it has another home"
        )
    return found


def vagrant_boxes(home: Path) -> list[Unpacked]:
    """All that lie there, by name, oldest version first."""
    found = [one for path in home.glob("*/*") if path.is_dir() for one in _of_version(path)]
    return sorted(sorted(found, key=_order), key=lambda one: one.name)


def best_of_vagrant(found: list[Unpacked]) -> tuple[list[Unpacked], list[tuple[Unpacked, str]]]:
    """One for each version and architecture that vmctl can use, libvirt's first; the others, and why not."""
    usable: dict[object, Unpacked] = {}
    others: list[tuple[Unpacked, str]] = []
    ranks = {provider: rank for rank, provider in enumerate(PREFERRED)}
    for one in sorted(found, key=lambda box: ranks.get(box.provider, len(ranks))):
        key = one.name, one.version, one.arch
        if one.provider not in ranks:
            others.append((one, f"vmctl cannot read boxes for {one.provider}"))
        elif key in usable:
            others.append((one, f"its box for {usable[key].provider} is taken"))
        else:
            usable[key] = one
    return [one for one in found if one in usable.values()], others


def _of_version(path: Path) -> Iterator[Unpacked]:
    name = path.parent.name
    for word, meant in WORDS.items():
        name = name.replace(word, meant)
    for inner in sorted(path.iterdir()):
        if vagrant_box.is_vagrant_box(inner):
            yield Unpacked(name=name, version=path.name, provider=inner.name, directory=inner)
        elif inner.is_dir():
            arch = box_names.architecture(inner.name)
            for one in sorted(inner.iterdir()):
                if vagrant_box.is_vagrant_box(one):
                    yield Unpacked(name=name, version=path.name, provider=one.name, directory=one, arch=arch)


def _order(one: Unpacked) -> Version:
    try:
        return Version(one.version)
    except VmctlError:
        return Version("0")
