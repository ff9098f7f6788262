"""Vagrant's catalogues: a JSON document that lists a box's versions, each for several providers and architectures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vmctl import json_text
from vmctl.boxes import address, box_names
from vmctl.boxes.checksum import Checksum
from vmctl.boxes.versions import Constraint, Version
from vmctl.errors import UsageError, VmctlError
from vmctl.events import Report, Warned, ignore

PREFERRED = ("libvirt", "virtualbox")
"""Whose boxes vmctl takes, best first: any disk image can be converted, but libvirt's is used as it is."""
UNKNOWN = "unknown"
FAULTS_SHOWN = 5


class BadCatalogue(VmctlError):
    """A catalogue is damaged."""

    def __init__(self, where: str, details: str) -> None:
        super().__init__(
            f"{where} is not a usable catalogue of boxes", details=details, hint="vmctl box add URL-OF-THE-BOX-ITSELF"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Offer:
    """One box that a catalogue offers: one version, for one provider and architecture."""

    name: str
    version: str
    provider: str
    url: str
    arch: str | None = None
    """None: the catalogue does not say, or says that nobody knows."""
    default: bool = False
    """Whether this is the one to take where the architecture is not known."""
    names_arch: bool = False
    """Whether the catalogue is one that tells architectures at all."""
    checksum: Checksum | None = None
    fault: str = ""
    """Why it cannot be had; "" = it can."""


class _Unusable(Exception):
    """A version or provider makes no sense; the others may."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OfferFilter:
    """What to choose. "" and None = anything."""

    constraint: str = ""
    provider: str = ""
    arch: str = ""
    """Exactly this architecture; "" = ``host``'s, with Vagrant's fallback."""
    host: str = "x86_64"


def read(data: bytes, *, where: str, report: Report = ignore) -> list[Offer]:
    """All that a catalogue offers, newest first.

    Args:
        data: the JSON document.
        where: its URL or path, for errors and for relative addresses in it.
        report: told of what in it makes no sense and is left out.

    Raises:
        BadCatalogue: it is damaged as a whole.
    """
    try:
        document = json_text.loads(data)
    except ValueError as error:
        raise BadCatalogue(where, f"it is not valid JSON: {error}") from error
    top = _object(document, where, "the document")
    name = _text(top, "name", where)
    found: list[Offer] = []
    faults: list[str] = []
    for entry in _list(top, "versions", where):
        try:
            found += _version(name, entry, where)
        except _Unusable as error:
            faults.append(str(error))
    if faults and not found:
        raise BadCatalogue(where, "\n".join(faults[:FAULTS_SHOWN]))
    for fault in faults[:FAULTS_SHOWN]:
        report(Warned(text=f"{where}: {fault}; left out"))
    return sorted(found, key=lambda offer: Version(offer.version), reverse=True)


def choose(offers: Sequence[Offer], wanted: OfferFilter, *, where: str, report: Report = ignore) -> Offer:
    """The newest offer that satisfies everything and can be had.

    Args:
        offers: what the catalogue offers, newest first.
        wanted: what it must satisfy.
        where: the catalogue, for messages.
        report: told of one that would have been chosen, but makes no sense.

    Raises:
        UsageError: there is none; the message says what there is.
    """
    allowed = Constraint.parse(wanted.constraint)
    fitting = [offer for offer in offers if allowed.allows(Version(offer.version))]
    providers = (wanted.provider,) if wanted.provider else PREFERRED
    for version in dict.fromkeys(offer.version for offer in fitting):
        for provider in providers:
            same = [offer for offer in fitting if (offer.version, offer.provider) == (version, provider)]
            found = _of_arch(same, wanted)
            if found and not found.fault:
                return found
            if found:
                report(Warned(text=f"{where}: left out {_summary(found)}"))
    raise UsageError(
        f"{where} offers no box for {_described(wanted, providers)}",
        details="it offers " + ("; ".join(dict.fromkeys(_summary(offer) for offer in offers)) or "nothing"),
        hint="vmctl box add --help    # --version, --provider and --arch choose",
    )


def _of_arch(offers: Sequence[Offer], wanted: OfferFilter) -> Offer | None:
    """Vagrant's rule: the exact one; a catalogue that tells none has one for all; "unknown" if that is the default."""
    exact = box_names.architecture(wanted.arch or wanted.host)
    for offer in offers:
        if offer.arch == exact or not offer.names_arch:
            return offer
    if wanted.arch:
        return None
    return next((offer for offer in offers if offer.arch is None and offer.default), None)


def _described(wanted: OfferFilter, providers: Sequence[str]) -> str:
    version = f" version {wanted.constraint}" if wanted.constraint else ""
    return f"{' or '.join(providers)} on {wanted.arch or wanted.host}{version}"


def _summary(offer: Offer) -> str:
    summary = f"{offer.version} ({offer.provider}, {offer.arch or UNKNOWN})"
    return f"{summary}: unusable, {offer.fault}" if offer.fault else summary


def _version(name: str, entry: Any, where: str) -> list[Offer]:
    if not isinstance(entry, dict):
        raise _Unusable(f"a version in it is not a JSON object but {str(entry)[:40]!r}")
    version = entry.get("version")
    try:
        Version(version.strip() if isinstance(version, str) else "")
    except UsageError:
        raise _Unusable(f"invalid version {str(version)[:40]!r}") from None
    providers = entry.get("providers")
    if not isinstance(providers, list):
        raise _Unusable(f"version {version}: 'providers' must be a list, not {str(providers)[:40]!r}")
    return [_provider(name, str(version).strip(), one, where) for one in providers]


def _provider(name: str, version: str, entry: Any, where: str) -> Offer:
    provider: Mapping[str, Any] = entry if isinstance(entry, dict) else {}
    arch = provider.get("architecture")
    url, checksum, fault = "", None, ""
    try:
        url = address.beside(where, _entry_text(provider, "url"))
        checksum = _checksum(provider)
    except (_Unusable, UsageError) as error:
        fault = str(getattr(error, "brief", error))
    word = provider.get("name")
    return Offer(
        name=name,
        version=version,
        provider=word.strip() if isinstance(word, str) else "",
        url=url,
        arch=box_names.architecture(str(arch)) if arch and arch != UNKNOWN else None,
        default=provider.get("default_architecture") is True,
        names_arch="architecture" in provider,
        checksum=checksum,
        fault=fault,
    )


def _checksum(provider: Mapping[str, Any]) -> Checksum | None:
    kind, value = provider.get("checksum_type"), provider.get("checksum")
    if not value:
        return None
    if not isinstance(value, str) or not isinstance(kind, str | None):
        raise _Unusable(f"invalid checksum {str(value)[:40]!r} of the kind {str(kind)[:40]!r}")
    return Checksum.parse(value, kind=kind or "") if value.strip() else None


def _entry_text(entry: Mapping[str, Any], key: str) -> str:
    value = entry.get(key)
    if not isinstance(value, str) or not value.strip():
        raise _Unusable(f"{key!r} must be text, not {str(value)[:40]!r}")
    return value.strip()


def _object(value: Any, where: str, what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise BadCatalogue(where, f"{what} in it is not a JSON object")
    return value


def _text(entry: Mapping[str, Any], key: str, where: str) -> str:
    value = entry.get(key)
    if not isinstance(value, str) or not value.strip():
        raise BadCatalogue(where, f"{key!r} must be text, not {value!r}")
    return value.strip()


def _list(entry: Mapping[str, Any], key: str, where: str) -> list[Any]:
    value = entry.get(key)
    if not isinstance(value, list):
        raise BadCatalogue(where, f"{key!r} must be a list, not {value!r}")
    return value
