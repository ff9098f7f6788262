"""`vmctl box rescue`: boxes away from a server that ends, into the store, and on into a registry or a folder.

One box after the other, each with its own result: what cannot be had does not hold up the rest. A rescue that is run
again does only what is left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from msgspec import Struct

from vmctl.boxes import store_upkeep
from vmctl.boxes.box import Box
from vmctl.boxes.oci.reference import Reference, is_oci
from vmctl.boxes.web import Access
from vmctl.errors import Interrupted, UsageError, VmctlError
from vmctl.events import Report, Warned, ignore
from vmctl.layout import HomeLayout

Get = Callable[[], tuple[Box, bool]]
"""Has the box in the store; the box, and whether it was not there before."""


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


def tell(found: Rescued, report: Report) -> None:
    """Say at once what went wrong."""
    if found.problem and not found.passed_over:
        report(Warned(text=f"{found.what}: {found.problem}"))
