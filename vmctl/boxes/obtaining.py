"""`vmctl box add`: from any address to a box in the store, sources tried in order."""

from __future__ import annotations

from vmctl.boxes import adding, names, resolving
from vmctl.boxes.box import Box
from vmctl.boxes.catalogue import Wanted
from vmctl.boxes.checksum import WEAK
from vmctl.boxes.download import DownloadFailed, Patience
from vmctl.boxes.request import Order, Request
from vmctl.boxes.resolving import Choice
from vmctl.boxes.shelf import Shelf
from vmctl.events import Report, Warned, ignore
from vmctl.layout import HomeLayout


def obtain(
    order: Order, home: HomeLayout, *, report: Report = ignore, patience: Patience | None = None
) -> tuple[Box, bool]:
    """Have the box in the store; the box, and whether it was not there before.

    Raises:
        UsageError: the address means nothing, or nothing that it offers fits.
        VmctlError: as ``adding.add``; the last source's failure, when all failed.
        Interrupted: the user asked to stop; a download can go on later.
    """
    wanted = Wanted(
        constraint=order.version, provider=order.provider, arch=order.arch, host=names.host_architecture()
    )  # fmt: skip
    choice = resolving.resolve(order.address, wanted, order.access, report=report)
    if there := _there(choice, order, home):
        return there, False
    checksum = order.checksum or choice.checksum
    if checksum and checksum.algorithm in WEAK:
        report(
            Warned(text=f"{order.address}: only a {checksum.algorithm} checksum; others can make files that match it")
        )
    for source in choice.sources[:-1]:
        try:
            return _add(source, choice, order, home, report=report, patience=patience)
        except DownloadFailed as error:
            report(Warned(text=f"{error.brief}: {error.details}; trying the next source"))
    return _add(choice.sources[-1], choice, order, home, report=report, patience=patience)


def _there(choice: Choice, order: Order, home: HomeLayout) -> Box | None:
    """The very version that a catalogue offers, if it is in the store as the user says it is."""
    if not (choice.origin and choice.version) or order.checksum:
        return None
    arch = names.architecture(order.arch or choice.arch) or names.host_architecture()
    boxes = Shelf(home).boxes(order.name or choice.name)
    same = (box for box in boxes if (box.version, box.arch) == (choice.version, arch))
    return next((box for box in same if _request("", choice, order).agrees(box)), None)


def _add(
    source: str, choice: Choice, order: Order, home: HomeLayout, *, report: Report, patience: Patience | None
) -> tuple[Box, bool]:
    return adding.add(_request(source, choice, order), home, report=report, patience=patience)


def _request(source: str, choice: Choice, order: Order) -> Request:
    return Request(
        address=source,
        name=order.name or choice.name,
        version=choice.version,
        arch=order.arch or choice.arch,
        checksum=order.checksum or choice.checksum,
        user=order.user or choice.user,
        firmware=order.firmware or choice.firmware,
        cloud_init=order.cloud_init,
        password=order.password,
        origin=choice.origin,
        access=order.access,
    )
