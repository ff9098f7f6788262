"""Vagrant's catalogues: a JSON document that lists a box's versions, each for several providers and architectures."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin

from vmctl.boxes import names
from vmctl.boxes.checksum import Checksum
from vmctl.boxes.versions import Constraint, Version
from vmctl.errors import UsageError, VmctlError

ALGORITHMS = {"md5": 32, "sha1": 40, "sha256": 64, "sha384": 96, "sha512": 128}
"""Hex digits of each kind of checksum that a catalogue may give."""
PREFERRED = ("libvirt", "virtualbox")
"""Whose boxes vmctl takes, best first: any disk image can be converted, but libvirt's is used as it is."""
UNKNOWN = "unknown"


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
    says_arch: bool = False
    """Whether the catalogue is one that tells architectures at all."""
    checksum: Checksum | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """What to choose. "" and None = anything."""

    constraint: str = ""
    provider: str = ""
    arch: str = ""
    """Exactly this architecture; "" = ``host``'s, with Vagrant's fallback."""
    host: str = "x86_64"


def is_catalogue(data: bytes) -> bool:
    """Whether a document looks like a catalogue (a box never does)."""
    return data.lstrip()[:1] == b"{" and b'"versions"' in data


def read(data: bytes, *, where: str) -> list[Offer]:
    """All that a catalogue offers, newest first.

    Args:
        data: the JSON document.
        where: its URL or path, for errors and for relative addresses in it.

    Raises:
        BadCatalogue: it is damaged.
    """
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadCatalogue(where, f"it is not valid JSON: {error}") from error
    top = _object(document, where, "the document")
    name = _text(top, "name", where)
    versions = _list(top, "versions", where)
    found = [offer for entry in versions for offer in _version(name, _object(entry, where, "a version"), where)]
    return sorted(found, key=lambda offer: Version(offer.version), reverse=True)


def choose(offers: Sequence[Offer], wanted: Wanted, *, where: str) -> Offer:
    """The newest offer that satisfies everything.

    Raises:
        UsageError: there is none; the message says what there is.
    """
    allowed = Constraint.parse(wanted.constraint)
    fitting = [offer for offer in offers if allowed.allows(Version(offer.version))]
    providers = (wanted.provider,) if wanted.provider else PREFERRED
    for version in dict.fromkeys(offer.version for offer in fitting):
        for provider in providers:
            same = [offer for offer in fitting if (offer.version, offer.provider) == (version, provider)]
            if found := _of_arch(same, wanted):
                return found
    raise UsageError(
        f"{where} offers no box for {_described(wanted, providers)}",
        details="it offers " + ("; ".join(dict.fromkeys(_summary(offer) for offer in offers)) or "nothing"),
        hint="choose with --version, --provider and --arch",
    )


def _of_arch(offers: Sequence[Offer], wanted: Wanted) -> Offer | None:
    """Vagrant's rule: the exact one; a catalogue that tells none has one for all; "unknown" if that is the default."""
    exact = names.architecture(wanted.arch or wanted.host)
    for offer in offers:
        if offer.arch == exact or not offer.says_arch:
            return offer
    if wanted.arch:
        return None
    return next((offer for offer in offers if offer.arch is None and offer.default), None)


def _described(wanted: Wanted, providers: Sequence[str]) -> str:
    version = f" version {wanted.constraint}" if wanted.constraint else ""
    return f"{' or '.join(providers)} on {wanted.arch or wanted.host}{version}"


def _summary(offer: Offer) -> str:
    return f"{offer.version} ({offer.provider}, {offer.arch or UNKNOWN})"


def _version(name: str, entry: Mapping[str, Any], where: str) -> Iterator[Offer]:
    version = _text(entry, "version", where)
    try:
        Version(version)
    except UsageError as error:
        raise BadCatalogue(where, f"versions: {error.brief}") from error
    for one in _list(entry, "providers", where):
        provider = _object(one, where, f"a provider of version {version}")
        arch = provider.get("architecture")
        yield Offer(
            name=name,
            version=version,
            provider=_text(provider, "name", where),
            url=urljoin(where, _text(provider, "url", where)),
            arch=names.architecture(str(arch)) if arch and arch != UNKNOWN else None,
            default=provider.get("default_architecture") is True,
            says_arch="architecture" in provider,
            checksum=_checksum(provider, where),
        )


def _checksum(provider: Mapping[str, Any], where: str) -> Checksum | None:
    kind, value = provider.get("checksum_type"), provider.get("checksum")
    if not kind and not value:
        return None
    algorithm = str(kind or "").lower().replace("-", "")
    digits = str(value or "").strip().lower()
    if len(digits) != ALGORITHMS.get(algorithm, -1) or set(digits) - set("0123456789abcdef"):
        raise BadCatalogue(where, f"{value!r} is no checksum of the kind {kind!r}")
    return Checksum(algorithm, digits)


def _object(value: Any, where: str, what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise BadCatalogue(where, f"{what} in it is no JSON object")
    return value


def _text(entry: Mapping[str, Any], key: str, where: str) -> str:
    value = entry.get(key)
    if not isinstance(value, str) or not value.strip():
        raise BadCatalogue(where, f"{key!r} must be a text, not {value!r}")
    return value.strip()


def _list(entry: Mapping[str, Any], key: str, where: str) -> list[Any]:
    value = entry.get(key)
    if not isinstance(value, list):
        raise BadCatalogue(where, f"{key!r} must be a list, not {value!r}")
    return value
