"""The built-in catalogue: distributions' own cloud images, by short name (``vmctl_boxes/catalogue/*.toml``)."""

from __future__ import annotations

import functools
import posixpath
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

from vmctl.boxes import signature
from vmctl.boxes.checksum import Checksum, in_list
from vmctl.boxes.web import Access, Unavailable
from vmctl.errors import UsageError
from vmctl.events import Report, Warned
from vmctl.layout import user_vmfile


@dataclass(frozen=True, kw_only=True, slots=True)
class CatalogueEntry:
    """One box of the catalogue, for one architecture; see ``catalogue/README.md``."""

    name: str
    arch: str
    urls: tuple[str, ...]
    """The image, mirrors after the first."""
    checksums: str
    """The list of checksums, relative to the image."""
    user: str
    signature: str = ""
    """Relative to the list; "" = none, or it is part of the list."""
    signer: str = ""
    """Fingerprint of the key that signs the list; "" = its signature is not known to vmctl."""
    keyrings: tuple[Path, ...] = ()
    firmware: str = "bios"


@functools.cache
def entries() -> Mapping[str, Mapping[str, Any]]:
    """All boxes of the catalogue, by name, as written."""
    import vmctl_boxes

    files = sorted((Path(vmctl_boxes.__file__).parent / "catalogue").glob("*.toml"))
    return {name: table for file in files for name, table in tomllib.loads(file.read_text(encoding="utf-8")).items()}


def find(name: str, arch: str) -> CatalogueEntry | None:
    """The box of that name; None when the catalogue has none.

    Raises:
        UsageError: it has one, but not for that architecture.
    """
    table = entries().get(name)
    if table is None:
        return None
    if arch not in table["arches"]:
        raise UsageError(
            f"there is no {name} for {arch}",
            details=f"it exists for {', '.join(table['arches'])}",
            hint="vmctl box list",
        )
    word = table["arches"][arch]
    urls = tuple(url.format(arch=word) for url in table["urls"])
    return CatalogueEntry(
        name=name,
        arch=arch,
        urls=urls,
        checksums=table["checksums"].format(arch=word, file=posixpath.basename(urls[0])),
        user=table["user"],
        signature=table.get("signature", ""),
        signer=table.get("signer", ""),
        keyrings=tuple(map(Path, table.get("keyrings", ()))),
        firmware=table.get("firmware", "bios"),
    )


def checksum(entry: CatalogueEntry, access: Access, report: Report) -> Checksum:
    """What the image must hash to now, as its publisher's list says.

    Raises:
        Unavailable: no mirror has the list.
        BadSignature: the list is not signed by whom it should be.
        VmctlError: the image is not in the list.
    """
    for url in entry.urls[:-1]:
        try:
            return _checksum(entry, urljoin(url, entry.checksums), access, report)
        except Unavailable as error:
            report(Warned(text=f"{error.brief}: {error.details}; trying the next mirror"))
    return _checksum(entry, urljoin(entry.urls[-1], entry.checksums), access, report)


def _checksum(entry: CatalogueEntry, where: str, access: Access, report: Report) -> Checksum:
    document = access.text(where, report=report)
    if entry.signer:
        document = _verified(entry, document, where, access, report)
    text = document.decode("utf-8", "replace")
    return in_list(text, posixpath.basename(entry.urls[0]), where=where)


def _verified(entry: CatalogueEntry, document: bytes, where: str, access: Access, report: Report) -> bytes:
    own = user_vmfile().parent / "keys" / f"{entry.signer}.gpg"
    keys = signature.keyring([own, *entry.keyrings])
    if keys is None:
        text = f"the signature of {where} is not verified: the publisher's key is not on this host"
        report(Warned(text=text, hint=f"put the key {entry.signer} into {own}"))
        return document
    detached = access.text(urljoin(where, entry.signature), report=report) if entry.signature else None
    return signature.verify(document, detached, signer=entry.signer, keys=keys, where=where)
