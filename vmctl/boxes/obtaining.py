"""`vmctl box add`: from any address to a box in the store, sources tried in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from vmctl.boxes import adding, box_names, resolving
from vmctl.boxes.address import plain_source, stamp
from vmctl.boxes.box import Box
from vmctl.boxes.box_store import BoxStore
from vmctl.boxes.catalogue import OfferFilter
from vmctl.boxes.checksum import WEAK
from vmctl.boxes.download import DownloadFailed, Patience
from vmctl.boxes.oci.reference import is_oci
from vmctl.boxes.request import Order, Request
from vmctl.boxes.resolving import Choice
from vmctl.errors import UsageError, VmctlError, shell_command
from vmctl.events import Report, Warned, ignore
from vmctl.layout import HomeLayout


def obtain(
    order: Order, home: HomeLayout, *, report: Report = ignore, patience: Patience | None = None
) -> tuple[Box, bool]:
    """Have the box in the store; the box, and whether it was not there before.

    Raises:
        UsageError: the address means nothing, nothing that it offers fits, or the box may not have its name.
        VmctlError: as ``adding.add``; the last source's failure, when all failed.
        Interrupted: the user asked to stop; a download can go on later.
    """
    if is_oci(order.address):
        from vmctl.boxes.oci import pull

        box, new = pull.obtain(order, home, report=report)
        _tell_shadowed(box, BoxStore(home), report)
        return box, new
    if order.key:
        raise UsageError(
            f"only boxes of registries have signatures, and {order.address} is none",
            hint="vmctl box add oci://… --key KEY",
        )
    wanted = OfferFilter(
        constraint=order.version, provider=order.provider, arch=order.arch, host=box_names.host_architecture()
    )  # fmt: skip
    stamps = _stamps(order)
    choice = resolving.resolve(order.address, wanted, order.access, report=report)
    request = _named(_request(choice, order, stamps if choice.origin else {}), choice, report)
    if there := _there(request, BoxStore(home, report)):
        return there, False
    if request.checksum and request.checksum.algorithm in WEAK:
        kind = request.checksum.algorithm
        report(Warned(text=f"{order.address}: only a {kind} checksum; others can make files that match it"))
    box, new = _added(request, choice.sources, home, report, patience)
    _tell_shadowed(box, BoxStore(home), report)
    return box, new


def _added(
    request: Request, sources: Sequence[str], home: HomeLayout, report: Report, patience: Patience | None
) -> tuple[Box, bool]:
    """Add the file from the first source that has it."""
    for source in sources[:-1]:
        try:
            return adding.add(replace(request, address=source), home, report=report, patience=patience)
        except DownloadFailed as error:
            report(Warned(text=f"{error.brief}: {error.details}; trying the next source"))
    return adding.add(replace(request, address=sources[-1]), home, report=report, patience=patience)


def _tell_shadowed(box: Box, store: BoxStore, report: Report) -> None:
    """Say so where the box's name means another one, or none any more."""
    if not box.named:
        return
    try:
        meant = store.find(box.name, arch=box.arch)
    except VmctlError as error:
        report(Warned(text=error.brief, hint=error.hint))
        return
    if meant and meant.origin != box.origin:
        text = f"the name {box.name} means {meant} from {meant.origin or meant.source}; this one by its address"
        report(Warned(text=text, hint="vmctl box add … --name OTHER"))


def _there(request: Request, store: BoxStore) -> Box | None:
    """The very version that a catalogue offers, if it is in the store as the user says it is."""
    if not (request.origin and request.version):
        return None
    arch = box_names.architecture(request.arch) or box_names.host_architecture()
    wanted = (request.version, arch, request.origin)
    for box in store.boxes(request.name):
        known = box.provenance.get("checksum")
        vouched = request.checksum is None or known == str(request.checksum)
        if (box.version, box.arch, box.origin) == wanted and vouched and request.agrees(box):
            return store.annotate(box, stamps=request.stamps, named=request.named)
    return None


def _named(request: Request, choice: Choice, report: Report) -> Request:
    """The request with a name that it may have, or a label."""
    if choice.label and not request.name:
        if request.named:
            text = f"its catalogue gives it a name that no box may have; only {choice.origin} means it"
            report(Warned(text=text, hint=shell_command("vmctl", "box", "add", choice.origin, "--name", "NAME")))
        return replace(request, name=choice.label, named=False)
    if request.named:
        box_names.check_reserved(request.name or box_names.of_address(request.address), choice.origin)
    return request


def _stamps(order: Order) -> Mapping[str, str]:
    """The stamp of a catalogue on this host, from before it is read, where its newest box is asked for."""
    source = plain_source(order.address)
    chosen = order.version or order.provider or order.arch
    return {source: stamp(Path(source))} if source.startswith("/") and Path(source).is_file() and not chosen else {}


def _request(choice: Choice, order: Order, stamps: Mapping[str, str]) -> Request:
    return Request(
        **order.over(choice).claims,
        address=choice.sources[0],
        named=order.named,
        version=choice.version,
        cloud_init=order.cloud_init,
        origin=choice.origin,
        stamps=stamps,
        access=order.access,
    )
