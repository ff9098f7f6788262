"""`vmctl box outdated` and `update`: whether where a box came from has a newer one by now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vmctl.boxes import obtaining, resolving
from vmctl.boxes.box import RECIPE, Box, manifest_of
from vmctl.boxes.catalogue import OfferFilter
from vmctl.boxes.oci.reference import is_oci
from vmctl.boxes.request import Order
from vmctl.boxes.versions import Version
from vmctl.boxes.web import Access
from vmctl.errors import UsageError
from vmctl.events import Report, ignore
from vmctl.layout import HomeLayout

UNTOLD = "its source tells no versions"


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """What asking the source of a box brought."""

    box: Box
    newer: str = ""
    """The newer version ("new image" where the source has no numbers); "" = none."""
    unknown: str = ""
    """Why it cannot be told; "" = it can."""


def newer_than(box: Box, access: Access, *, report: Report = ignore) -> Finding:
    """Ask where the box came from.

    Raises:
        VmctlError: the source cannot be asked, or makes no sense: that is not the same as "nothing newer".
    """
    origin = box.provenance.get("origin")
    if not origin:
        hint = f"vmctl box build {box.name} --again" if box.source.startswith(RECIPE) else UNTOLD
        return Finding(box=box, unknown=hint)
    if is_oci(origin):
        return _by_digest(box, origin, access, report)
    wanted = OfferFilter(arch=box.arch, provider=box.provenance.get("vagrant", {}).get("provider", ""))
    if "/" not in origin:  # built in: no versions, one image that is replaced
        choice = resolving.resolve(origin, OfferFilter(arch=box.arch), access, report=report)
        same = str(choice.checksum) == box.provenance.get("checksum")
        return Finding(box=box, newer="" if same else "new image")
    choice = resolving.resolve(origin, wanted, access, report=report)
    return Finding(box=box, newer=choice.version if Version(choice.version) > box.order else "")


def _by_digest(box: Box, origin: str, access: Access, report: Report) -> Finding:
    """Whether a registry's tag leads to another image by now."""
    from vmctl.boxes.oci import pull

    with pull.opened(Order(address=origin, arch=box.arch, access=access), report=report) as found:
        digest = found.document.digest
    return Finding(box=box, newer="" if digest == manifest_of(box) else f"another image, {digest[:19]}")


def check_key(boxes: Sequence[Box], key: Path | None) -> None:
    """See that a key suits all boxes that are to be replaced, before the first is.

    Raises:
        UsageError: one was added by a key, and now there is none; or one comes from where there are no signatures.
    """
    from vmctl.boxes.oci import cosign

    if key is not None:
        cosign.stamp(key)
        if others := [str(box) for box in boxes if not is_oci(box.provenance.get("origin", ""))]:
            raise UsageError(
                f"only boxes of registries have signatures, and these come from elsewhere: {', '.join(others)}",
                hint="vmctl box update NAME --key KEY",
            )
    elif signed := [str(box) for box in boxes if cosign.signers(box.provenance)]:
        raise UsageError(
            f"these boxes were added by a key, and a newer one has to be as well: {', '.join(signed)}",
            hint="vmctl box update NAME --key KEY",
        )


def update(
    finding: Finding, access: Access, home: HomeLayout, *, key: Path | None = None, report: Report = ignore
) -> Box:
    """Add the newer box beside the old one, which machines may still need; return it.

    Args:
        finding: the old one.
        access: how sources are asked.
        home: whose store.
        key: the public key that must have signed it.
        report: told what happens.

    Raises:
        BadSignature: the key did not sign it.
        VmctlError: as ``obtaining.obtain``.
    """
    old = finding.box
    order = Order(
        address=old.provenance["origin"], name=old.name, named=old.named, arch=old.arch, user=old.user,
        cloud_init=old.cloud_init,
        provider=_provider(old),
        firmware=old.firmware, access=access, key=key,
    )  # fmt: skip
    return obtaining.obtain(order, home, report=report)[0]


def _provider(box: Box) -> str:
    """Of the catalogue's box; "" = its origin knows no providers."""
    origin = box.provenance["origin"]
    known = "/" in origin and not is_oci(origin)
    return box.provenance.get("vagrant", {}).get("provider", "") if known else ""
