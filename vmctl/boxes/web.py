"""Who vmctl is to web servers, and whom it trusts: certificates, tokens, headers; and small texts fetched that way.

A secret belongs to the host that it was given for. It is sent there and nowhere else, whatever a redirect says.
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from vmctl import interrupt
from vmctl.boxes import compression, web_failure
from vmctl.boxes.address import is_web, without_login
from vmctl.boxes.polling import Stalled, pieces
from vmctl.errors import UsageError, VmctlError, shell_command
from vmctl.events import Report, Warned, ignore

if TYPE_CHECKING:
    import requests

HOSTED = "https://vagrantcloud.com"
HOSTED_ENDS = 1798761600.0
"""2027-01-01T00:00Z; from then on only who names it in ``SERVERS_VARIABLE`` has it asked."""
SERVERS_VARIABLE = "VMCTL_BOX_SERVER"
TOKEN_VARIABLE = "VMCTL_BOX_TOKEN"  # noqa: S105  the name of a variable
HEADER_VARIABLE = "VMCTL_BOX_HEADER"
TIMEOUT = 30.0
CHUNK = 64 * 1024
LONGEST_TEXT = 20 * 1024**2
NOT_FOUND = 404
AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
TEXT_TRIES = 3
LONGEST_WAIT = 30.0  # seconds that a server may ask to wait before a text is asked for again
DEADLINE = 300.0  # seconds for a whole text, however steadily it drips
GZIP = ("gzip", "x-gzip")
UNWELCOME = frozenset({401, 403, 407})
LOG_IN = f"put the server's login into ~/.netrc, or set {TOKEN_VARIABLE} or {HEADER_VARIABLE} (docs/boxes.md)"


def default_servers() -> tuple[str, ...]:
    """Who is asked where nobody says anything: none that is known to be gone."""
    return (HOSTED,) if time.time() < HOSTED_ENDS else ()


class Unavailable(VmctlError):
    """A text could not be fetched; ``absent`` = the server says that there is none."""

    def __init__(self, url: str, reason: str, *, absent: bool = False, hint: str = "") -> None:
        super().__init__(f"{url} could not be read", details=reason, hint=hint or shell_command("curl", "-fLI", url))
        self.absent = absent


@dataclass(frozen=True, kw_only=True, slots=True)
class Access:
    """How to talk to servers."""

    insecure: bool = False
    """Take any certificate."""
    ca: Path | None = None
    """A file or directory of certificates to trust instead of the system's."""
    servers: tuple[str, ...] = field(default_factory=default_servers)
    """Catalogue servers for ORG/NAME, in the order in which they are asked."""
    token: str = ""
    """For the catalogue servers only."""
    header: tuple[str, str] | None = None
    """Name and value, for the host of the address that the user gave."""

    @classmethod
    def from_environment(cls, *, insecure: bool = False, ca: Path | None = None) -> Access:
        """What the environment and the command line say.

        Raises:
            UsageError: ``VMCTL_BOX_HEADER`` is not a header, or a server no URL.
        """
        setting = os.environ.get(SERVERS_VARIABLE)
        servers = default_servers() if setting is None else tuple(setting.replace(",", " ").split())
        for server in servers:
            if urlsplit(server).scheme not in ("http", "https") or not urlsplit(server).hostname:
                raise UsageError(f"{SERVERS_VARIABLE}: invalid URL {server!r}", hint=f"unset {SERVERS_VARIABLE}")
        return cls(
            insecure=insecure, ca=ca, servers=servers, token=os.environ.get(TOKEN_VARIABLE, ""),
            header=_header(os.environ.get(HEADER_VARIABLE, "")),
        )  # fmt: skip

    def session(self, *, header_for: str = "", report: Report = ignore) -> requests.Session:
        """A session that carries each secret to its own host; ~/.netrc counts as well. It stays on the web.

        Args:
            header_for: the address that the user gave; its host gets ``header``.
            report: told when https leads to http.
        """
        secrets: dict[str, dict[str, str]] = {}
        if self.token:
            for server in self.servers:
                secrets[_origin(server)] = {"Authorization": f"Bearer {self.token}"}
        if self.header and header_for:
            secrets.setdefault(_origin(header_for), {})[self.header[0]] = self.header[1]
        session = _session(secrets, report)
        session.verify = False if self.insecure else str(self.ca) if self.ca else True
        return session

    def content_type(self, url: str) -> str:
        """What the server says that an address holds ("application/json"); "" when it does not say, or answer."""
        import requests

        def kind() -> Iterator[bytes]:
            with self.session(header_for=url) as session:
                answer = session.head(url, timeout=TIMEOUT, allow_redirects=True)
            yield answer.headers.get("Content-Type", "").encode() if answer.ok else b""

        try:
            content = b"".join(pieces(kind, patience=TIMEOUT)).decode()
        except (requests.RequestException, Stalled):
            return ""  # the download that follows tells what is wrong
        return content.partition(";")[0].strip().lower()

    def text(self, url: str, *, header_for: str = "", accept: str = "*/*", report: Report = ignore) -> bytes:
        """A small document, for example a catalogue or a list of checksums; decompressed, if it was sent as gzip.

        A server in trouble is asked again, after the time that it asks for (Retry-After) if that is short.

        Raises:
            Unavailable: it cannot be had, or is longer than a document of that kind can be.
            Interrupted: the user asked to stop.
        """
        import requests

        try:
            with self.session(header_for=header_for, report=report) as session:
                for _ in range(TEXT_TRIES - 1):
                    try:
                        return _text(session, url, accept)
                    except _Busy as busy:
                        if busy.after > LONGEST_WAIT:
                            raise
                        interrupt.sleep(busy.after)
                return _text(session, url, accept)
        except (requests.RequestException, Stalled) as error:
            raise Unavailable(without_login(url), web_failure.reason(error)) from error


def retry_after(response: requests.Response) -> float | None:
    """How many seconds the server asks to wait (RFC 9110, Retry-After); None = it does not say, or makes no sense."""
    import urllib3

    try:
        return urllib3.Retry().get_retry_after(response.raw)
    except (urllib3.exceptions.HTTPError, ValueError, OverflowError):
        return None


class _Busy(Unavailable):
    """The server may have the text later: in ``after`` seconds, if it says so."""

    def __init__(self, url: str, reason: str, *, after: float) -> None:
        super().__init__(url, reason)
        self.after = after


def _text(session: requests.Session, url: str, accept: str) -> bytes:
    deadline = time.monotonic() + DEADLINE
    parts: list[bytes] = []
    for data in pieces(lambda: _read(session, url, accept), patience=TIMEOUT):
        parts.append(data)
        if time.monotonic() > deadline:
            raise Unavailable(without_login(url), f"it takes longer than {DEADLINE:.0f} s")
    data = b"".join(parts)
    kind = compression.sniff(data[: compression.SNIFFED])
    return _decompressed(data, kind, without_login(url)) if kind and kind.name == "gzip" else data


def _decompressed(data: bytes, kind: compression.Compression, url: str) -> bytes:
    """The content of a text that was sent as gzip, whether or not the server says so (no text begins like that)."""
    try:
        text = compression.opened(io.BytesIO(data), kind).read(LONGEST_TEXT + 1)
    except compression.DamagedStream as error:
        raise Unavailable(url, str(error)) from error
    if len(text) > LONGEST_TEXT:
        raise Unavailable(url, f"it is longer than {LONGEST_TEXT} bytes")
    return text


def _read(session: requests.Session, url: str, accept: str) -> Generator[bytes, None, None]:
    headers = {"Accept": accept, "Accept-Encoding": "gzip"}
    with session.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        if not response.ok:
            raise _unavailable(response, url)
        encoded = response.headers.get("Content-Encoding", "").strip().lower() not in ("", "identity", *GZIP)
        total = 0
        for data in response.iter_content(CHUNK) if encoded else _as_sent(response):
            total += len(data)
            if total > LONGEST_TEXT:
                raise Unavailable(without_login(url), f"it is longer than {LONGEST_TEXT} bytes")
            yield data


def _as_sent(response: requests.Response) -> Iterator[bytes]:
    import requests
    import urllib3

    try:
        yield from response.raw.stream(CHUNK, decode_content=False)
    except urllib3.exceptions.HTTPError as error:
        raise requests.ConnectionError(f"the connection broke off: {error}") from error


def _unavailable(response: requests.Response, url: str) -> Unavailable:
    status = response.status_code
    reason = f"the server says {status} {response.reason}"
    if status in AGAIN:
        return _Busy(without_login(url), reason, after=retry_after(response) or 0.0)
    hint = LOG_IN if status in UNWELCOME else ""
    return Unavailable(without_login(url), reason, absent=status == NOT_FOUND, hint=hint)


def _session(secrets: Mapping[str, Mapping[str, str]], report: Report) -> requests.Session:
    """A session that decides for each request, redirects too, whether it may go there and which secrets go along."""
    import requests

    class WebSession(requests.Session):
        came_from = ""

        def send(self, request: requests.PreparedRequest, **options: object) -> requests.Response:
            self._stay_on_the_web(request.url or "")
            for headers in secrets.values():
                for name, value in headers.items():
                    if request.headers.get(name) == value:
                        del request.headers[name]
            request.headers.update(secrets.get(_origin(request.url or ""), {}))
            return super().send(request, **options)  # type: ignore[arg-type]  # requests' own options

        def _stay_on_the_web(self, url: str) -> None:
            if not is_web(url):
                text = f"it leads to {without_login(url)}; what is on the web may only lead to http and https URLs"
                raise requests.exceptions.InvalidURL(text)
            if self.came_from.startswith("https:") and url.startswith("http:"):
                text = f"{without_login(self.came_from)} leads to {without_login(url)}, which others can change"
                report(Warned(text=f"{text} on its way"))
            self.came_from = url

    return WebSession()


def _origin(url: str) -> str:
    """Scheme, host and port, as written: who a secret was given to."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2].lower()}"


def _header(text: str) -> tuple[str, str] | None:
    if not text:
        return None
    name, colon, value = text.partition(":")
    if not colon or not name.strip() or not value.strip() or "\n" in text or "\r" in text:
        raise UsageError(
            f"{HEADER_VARIABLE} is not a header", hint=f"export {HEADER_VARIABLE}='Authorization: Bearer …'"
        )
    return name.strip(), value.strip()
