"""From an address as people write it to what is to be fetched: where from, and what it must be.

An address is a path, a URL, a catalogue (a path or URL that holds JSON), a name from the built-in catalogue, or
ORG/NAME, which catalogue servers know.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote, urlsplit

from vmctl.boxes import aliases, box_names, builtin, catalogue
from vmctl.boxes.address import is_local, local_path, plain_source
from vmctl.boxes.catalogue import OfferFilter
from vmctl.boxes.request import Claims
from vmctl.boxes.web import LONGEST_TEXT, SERVERS_VARIABLE, Access, Unavailable
from vmctl.errors import UsageError, VmctlError, shell_command, suggest
from vmctl.events import Report, Warned, ignore

PLACES = ("/api/v2/vagrant/{name}", "/{name}", "/{name}.json")
"""Where catalogue servers keep a box's catalogue: Vagrant's registry, older servers, and folders of `box publish`."""
JSON = "application/json"
NOBODY = f"{SERVERS_VARIABLE} names no server, and the default one has ended; it is not asked any more"


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice(Claims):
    """One box to fetch, and what is known of it before it is there."""

    sources: tuple[str, ...]
    """Absolute paths or URLs of the same file, to be tried in order."""
    label: str = ""
    """What to call it where the catalogue's word for it is not a name that a box may have."""
    version: str = ""
    origin: str = ""
    """What to ask for newer versions: a name or a catalogue's address; "" = a plain file or URL."""


def resolve(address: str, wanted: OfferFilter, access: Access, *, report: Report = ignore) -> Choice:
    """Make sense of an address.

    Args:
        address: an absolute path, a URL, or a name.
        wanted: which version, provider and architecture.
        access: how to talk to servers.
        report: told of what is not verified, and of mirrors that do not answer.

    Raises:
        UsageError: a catalogue offers nothing that fits, or an option makes no sense for a plain file.
        VmctlError: a catalogue is damaged, or no server knows the name.
    """
    if is_local(address) or "://" in address:
        document = _document(address, access, report)
        if document is None:
            return _plain(address, wanted)
        return _chosen(document, address, wanted, origin=plain_source(address), report=report)
    arch = box_names.architecture(wanted.arch or wanted.host)
    if entry := builtin.find(address, arch):
        if wanted.constraint or wanted.provider:
            raise UsageError(f"{address} has no versions and providers to choose from", hint=f"vmctl box add {address}")
        known = builtin.checksum(entry, access, report)
        return Choice(
            sources=entry.urls, name=entry.name, arch=arch, checksum=known, user=entry.user,
            firmware=entry.firmware, origin=address,
        )  # fmt: skip
    if "/" not in box_names.check(address):
        raise unknown(address)
    document, where = _from_servers(address, access, report)
    choice = _chosen(document, where, wanted, origin=address, report=report)
    if choice.name.lower() != address.lower():
        raise UsageError(
            f"the catalogue of {address} is that of another box: {choice.name or choice.label}",
            details=where,
            hint=shell_command("vmctl", "box", "add", where, "--name", "NAME") + "    # if it is the one that you want",
        )
    return replace(choice, name=address)


def is_known(name: str) -> bool:
    """Whether a name can be resolved at all: it is built in, or a server may know it."""
    return name in builtin.entries() or "/" in name


def unknown(name: str) -> VmctlError:
    """The error for a name that nobody knows, with near ones."""
    return UsageError(
        f"there is no box {name!r}{suggest(name, builtin.entries(), most=3)}",
        details=f"built in: {', '.join(builtin.entries())}",
        hint="vmctl box add --help",
    )


def _plain(address: str, wanted: OfferFilter) -> Choice:
    if wanted.provider:
        raise UsageError(f"--provider chooses from a catalogue, and {address} is none")
    return Choice(sources=(address,), version=wanted.constraint, arch=wanted.arch)


def _chosen(document: bytes, where: str, wanted: OfferFilter, *, origin: str, report: Report) -> Choice:
    offers = catalogue.read(document, where=where, report=report)
    offer = catalogue.choose(offers, wanted, where=where, report=report)
    named = {"name": offer.name} if box_names.is_name(offer.name) else {"label": box_names.label(offer.name)}
    return Choice(
        sources=(offer.url,), version=offer.version, arch=offer.arch or wanted.arch, checksum=offer.checksum,
        origin=origin, **named,
    )  # fmt: skip


def _document(address: str, access: Access, report: Report) -> bytes | None:
    """The catalogue that a path or URL holds; None when it holds something else."""
    if is_local(address):
        return _local(local_path(address))
    if urlsplit(address).path.lower().endswith(box_names.SUFFIXES):
        return None
    if urlsplit(address).path.endswith(".json") or access.content_type(address) == JSON:
        return access.text(address, header_for=address, accept=JSON, report=report)
    return None


def _local(path: Path) -> bytes | None:
    if not path.is_file() or path.stat().st_size > LONGEST_TEXT:
        return None
    with path.open("rb") as stream:
        if stream.read(64).lstrip()[:1] != b"{" and path.suffix != ".json":
            return None
    return path.read_bytes()


def _from_servers(name: str, access: Access, report: Report) -> tuple[bytes, str]:
    """The catalogue of ORG/NAME and where it was, from the first server that has it."""
    failures: list[Unavailable] = []
    for url in _places(name, access):
        try:
            document = access.text(url, accept=JSON, report=report)
        except Unavailable as error:
            failures.append(error)
            continue
        for failure in failures:
            if not failure.absent:
                report(Warned(text=f"{failure.brief}: {failure.details}"))
        return document, url
    raise _unserved(name, failures)


def _unserved(name: str, failures: Sequence[Unavailable]) -> VmctlError:
    """The error for a name that no server gave, with what could take its place; "not there" is not "not asked"."""
    known = failures and all(error.absent for error in failures)
    text = f"no server knows the box {name}" if known else f"no server that could be asked knows the box {name}"
    details = "\n".join(f"{error.brief}: {error.details}" for error in failures) or NOBODY
    if alias := aliases.proposed(name):
        hint = f"write `{alias.line}` in the Vmfile: {alias.what}; or `alias: true` beside it, or --alias"
        return VmctlError(text, details=details, hint=hint)
    hint = "vmctl box add URL --name NAME, or set VMCTL_BOX_SERVER (and VMCTL_BOX_TOKEN for private boxes)"
    return VmctlError(text, details=details, hint=hint)


def _places(name: str, access: Access) -> Iterator[str]:
    for server in access.servers:
        for place in PLACES:
            yield server.rstrip("/") + place.format(name=quote(name))
