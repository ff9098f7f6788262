"""Who vmctl is to web servers, and whom it trusts: certificates, tokens, headers; and small texts fetched that way.

A secret belongs to the host that it was given for. It is sent there and nowhere else, whatever a redirect says.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from vmctl.boxes.polling import Stalled, pieces
from vmctl.errors import UsageError, VmctlError

if TYPE_CHECKING:
    import requests

DEFAULT_SERVERS = "https://vagrantcloud.com"
SERVERS_VARIABLE = "VMCTL_BOX_SERVER"
TOKEN_VARIABLE = "VMCTL_BOX_TOKEN"  # noqa: S105  the name of a variable
HEADER_VARIABLE = "VMCTL_BOX_HEADER"
TIMEOUT = 30.0
CHUNK = 64 * 1024
LONGEST_TEXT = 20 * 1024**2
NOT_FOUND = 404
UNWELCOME = frozenset({401, 403, 407})
LOG_IN = f"put the server's login into ~/.netrc, or set {TOKEN_VARIABLE} or {HEADER_VARIABLE} (docs/boxes.md)"


class Unavailable(VmctlError):
    """A text could not be fetched; ``absent`` = the server says that there is none."""

    def __init__(self, url: str, reason: str, *, absent: bool = False, hint: str = "") -> None:
        super().__init__(f"{url} could not be read", details=reason, hint=hint or f"curl -fLI '{url}'")
        self.absent = absent


@dataclass(frozen=True, kw_only=True, slots=True)
class Access:
    """How to talk to servers."""

    insecure: bool = False
    """Take any certificate."""
    ca: Path | None = None
    """A file or directory of certificates to trust instead of the system's."""
    servers: tuple[str, ...] = (DEFAULT_SERVERS,)
    """Catalogue servers for ORG/NAME, in the order in which they are asked."""
    token: str = ""
    """For the catalogue servers only."""
    header: tuple[str, str] | None = None
    """Name and value, for the host of the address that the user gave."""

    @classmethod
    def from_environment(cls, *, insecure: bool = False, ca: Path | None = None) -> Access:
        """What the environment and the command line say.

        Raises:
            UsageError: ``VMCTL_BOX_HEADER`` is no header, or a server no URL.
        """
        servers = tuple(os.environ.get(SERVERS_VARIABLE, DEFAULT_SERVERS).replace(",", " ").split())
        for server in servers:
            if urlsplit(server).scheme not in ("http", "https") or not urlsplit(server).hostname:
                raise UsageError(f"{SERVERS_VARIABLE}: {server!r} is no URL", hint=f"unset {SERVERS_VARIABLE}")
        return cls(
            insecure=insecure, ca=ca, servers=servers, token=os.environ.get(TOKEN_VARIABLE, ""),
            header=_header(os.environ.get(HEADER_VARIABLE, "")),
        )  # fmt: skip

    def session(self, *, header_for: str = "") -> requests.Session:
        """A session that carries each secret to its own host; ~/.netrc counts as well.

        Args:
            header_for: the address that the user gave; its host gets ``header``.
        """
        secrets: dict[str, dict[str, str]] = {}
        if self.token:
            for server in self.servers:
                secrets[_origin(server)] = {"Authorization": f"Bearer {self.token}"}
        if self.header and header_for:
            secrets.setdefault(_origin(header_for), {})[self.header[0]] = self.header[1]
        session = _session(secrets)
        session.verify = False if self.insecure else str(self.ca) if self.ca else True
        return session

    def content_type(self, url: str) -> str:
        """What the server says that an address holds ("application/json"); "" when it does not say, or answer."""
        import requests

        try:
            with self.session(header_for=url) as session:
                answer = session.head(url, timeout=TIMEOUT, allow_redirects=True)
        except requests.RequestException:
            return ""  # the download that follows tells what is wrong
        return answer.headers.get("Content-Type", "").partition(";")[0].strip().lower() if answer.ok else ""

    def text(self, url: str, *, header_for: str = "", accept: str = "*/*") -> bytes:
        """A small document, for example a catalogue or a list of checksums.

        Raises:
            Unavailable: it can not be had, or is longer than a document of that kind can be.
            Interrupted: the user asked to stop.
        """
        import requests

        try:
            with self.session(header_for=header_for) as session:
                return b"".join(pieces(lambda: _read(session, url, accept), patience=TIMEOUT))
        except (requests.RequestException, Stalled) as error:
            raise Unavailable(without_secrets(url), str(getattr(error, "brief", error))) from error


def without_secrets(url: str) -> str:
    """The URL without user and password, for messages."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _read(session: requests.Session, url: str, accept: str) -> Generator[bytes, None, None]:
    with session.get(url, headers={"Accept": accept}, stream=True, timeout=TIMEOUT) as response:
        if not response.ok:
            reason = f"the server says {response.status_code} {response.reason}"
            raise Unavailable(
                without_secrets(url),
                reason,
                absent=response.status_code == NOT_FOUND,
                hint=LOG_IN if response.status_code in UNWELCOME else "",
            )
        total = 0
        for data in response.iter_content(CHUNK):
            total += len(data)
            if total > LONGEST_TEXT:
                raise Unavailable(without_secrets(url), f"it is longer than {LONGEST_TEXT} bytes")
            yield data


def _session(secrets: Mapping[str, Mapping[str, str]]) -> requests.Session:
    """A session that decides for each request, redirects too, which secrets go along."""
    import requests

    class Session(requests.Session):
        def send(self, request: requests.PreparedRequest, **options: object) -> requests.Response:
            for headers in secrets.values():
                for name, value in headers.items():
                    if request.headers.get(name) == value:
                        del request.headers[name]
            request.headers.update(secrets.get(_origin(request.url or ""), {}))
            return super().send(request, **options)  # type: ignore[arg-type]  # requests' own options

    return Session()


def _origin(url: str) -> str:
    """Scheme, host and port, as written: who a secret was given to."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2].lower()}"


def _header(text: str) -> tuple[str, str] | None:
    if not text:
        return None
    name, colon, value = text.partition(":")
    if not colon or not name.strip() or not value.strip() or "\n" in text or "\r" in text:
        raise UsageError(f"{HEADER_VARIABLE} is no header", hint=f"export {HEADER_VARIABLE}='Authorization: Bearer …'")
    return name.strip(), value.strip()
