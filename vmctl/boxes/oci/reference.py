"""Addresses of boxes in registries: ``oci://REGISTRY/REPOSITORY[:TAG][@sha256:DIGEST]``."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

from msgspec import Struct, structs

from vmctl.errors import UsageError

SCHEME = "oci://"
LATEST = "latest"
HOST = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
REPOSITORY = re.compile(rf"{PART}(?:/{PART})*")
"""As the distribution specification has it (``<name>``)."""
TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
LONGEST = 255
LOGIN = "docker login REGISTRY, podman login REGISTRY, or set VMCTL_REGISTRY_AUTH (docs/boxes.md)"
DOCKER_HUB = "docker.io"
DOCKER_HUB_API = "registry-1.docker.io"


def is_oci(address: str) -> bool:
    """Whether an address is one of a registry."""
    return address[: len(SCHEME)].lower() == SCHEME


class Reference(Struct, frozen=True, kw_only=True):
    """One image in a registry, or (without tag and digest) the tag ``latest``."""

    registry: str
    """HOST[:PORT], as written."""
    repository: str
    tag: str = ""
    digest: str = ""
    """Which very manifest; "" = what the tag leads to now."""

    @classmethod
    def parse(cls, address: str) -> Reference:
        """Read an address.

        Raises:
            UsageError: it is none.
        """
        if "@" in address[len(SCHEME) :].partition("/")[0]:
            raise UsageError("an address of a registry holds no login", hint=LOGIN)
        rest, at, digest = address[len(SCHEME) :].partition("@")
        registry, slash, path = rest.partition("/")
        repository, colon, tag = path.partition(":")
        if registry == DOCKER_HUB and "/" not in repository:
            repository = f"library/{repository}"
        problem = (
            _problem(registry, slash, repository)
            or (colon and not TAG.fullmatch(tag) and f"{tag!r} is not a tag")
            or (at and not DIGEST.fullmatch(digest) and f"{digest!r} is not a digest (sha256: and 64 hex digits)")
        )
        if not is_oci(address) or problem:
            hint = "write oci://REGISTRY/REPOSITORY[:TAG] or oci://REGISTRY/REPOSITORY@sha256:DIGEST"
            raise UsageError(f"invalid address {address!r}", details=problem or "", hint=hint)
        return cls(registry=registry.lower(), repository=repository, tag=tag, digest=digest)

    def __str__(self) -> str:
        named = f"{SCHEME}{self.registry}/{self.repository}"
        return f"{named}@{self.digest}" if self.digest else f"{named}:{self.tag or LATEST}"

    @property
    def target(self) -> str:
        """What to ask the registry for: a digest or a tag."""
        return self.digest or self.tag or LATEST

    @property
    def host(self) -> str:
        """HOST[:PORT] that answers the registry's API."""
        return DOCKER_HUB_API if self.registry == DOCKER_HUB else self.registry

    @property
    def is_loopback(self) -> bool:
        """Whether the registry is on this very host, so that nobody else can listen."""
        return is_loopback(self.registry)

    def tagged(self, tag: str) -> Reference:
        """The same repository's ``tag``."""
        return structs.replace(self, tag=tag, digest="")

    def pinned(self, digest: str) -> Reference:
        """The same repository's very manifest."""
        return structs.replace(self, tag="", digest=digest)


def is_loopback(host: str) -> bool:
    """Whether HOST[:PORT] is this host's loopback."""
    name = re.sub(r":[0-9]+$", "", host)
    if name.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False


def is_safe(url: str, *, loopback: bool = True) -> bool:
    """Whether nobody on the way can read or change what goes there: https, or http to this very host.

    What a backslash makes two hosts of, by who reads it, is not.

    Args:
        url: of a server.
        loopback: whether http will do at all.
    """
    try:
        parts = urlsplit(url)
        local = loopback and parts.scheme == "http" and is_loopback(parts.netloc)
        return bool(parts.hostname) and (parts.scheme == "https" or local) and not {"@", "\\"} & set(parts.netloc)
    except ValueError:
        return False


def _problem(registry: str, slash: str, repository: str) -> str:
    if not HOST.fullmatch(registry):
        return f"{registry!r} is not a host"
    if not slash or len(repository) > LONGEST or not REPOSITORY.fullmatch(repository):
        return f"{repository!r} is not a repository: lower-case words, joined by /"
    return ""
