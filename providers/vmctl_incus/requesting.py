"""HTTP requests to one server, over its unix socket or over TLS to the very certificate that its clients pinned.

``http.client`` and no more: `vmctl status` asks the server each time, and the larger libraries take longer to load than
the server to answer.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlencode

from msgspec import Struct

from vmctl import interrupt, json_text
from vmctl.errors import Unreachable, VmctlError, in_words
from vmctl_incus import shapes

OLDEST_TLS = ssl.TLSVersion.TLSv1_2
TIMEOUT = 20.0
"""Seconds for an answer, or the next part of one; work that takes longer is done behind an operation."""
LARGEST = 64 * 1024**2
CHUNK = 1024**2
FAILURE = 400
"""The least status of HTTP, and the code of an operation, that tell of one."""
NOT_FOUND, PRECONDITION = 404, 412
BUSY = ("is busy running", "instance is currently being", "operation is already running")
"""What the server says of a thing that it works on already, and will be through with."""
Query = Mapping[str, str | int]


class Endpoint(Struct, frozen=True, kw_only=True):
    """Where a server listens."""

    url: str
    """"unix:///var/lib/incus/unix.socket" or "https://lab.example.org:8443"."""
    socket: Path | None = None
    """Its unix socket; None = TLS to ``host`` and ``port``."""
    host: str = ""
    port: int = 8443
    pinned: Path | None = None
    """The certificate (PEM) that the server must show; None = one that this host's authorities vouch for."""
    certificate: Path | None = None
    """The client's certificate and key (PEM)."""
    key: Path | None = None

    @property
    def is_local(self) -> bool:
        """Whether its loopback, and its files, are this host's."""
        return self.socket is not None


class ServerError(VmctlError):
    """The server refused or failed; ``code`` as in HTTP."""

    def __init__(self, brief: str, *, code: int, details: str = "", hint: str = "") -> None:
        super().__init__(brief, details=details, hint=hint)
        self.code = code

    @property
    def is_busy(self) -> bool:
        """Whether it works on the same thing already, and will be through with that."""
        text = f"{self.brief} {self.details}".lower()
        return any(words in text for words in BUSY)


class Silent(Unreachable):
    """The server did not answer in time."""


class Requester:
    """Requests to one server, in one of its projects."""

    def __init__(self, endpoint: Endpoint, project: str) -> None:
        self.endpoint = endpoint
        self.project = project

    def answered(
        self,
        method: str,
        path: str,
        *,
        query: Query,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        patience: float = 0,
    ) -> tuple[dict[str, Any], str]:
        """The answer to a request, and its ETag.

        Raises:
            ServerError: the server refused or failed.
            Unreachable: it did not answer, or with something else than an answer.
        """
        data = None if body is None else json.dumps(body).encode()
        words = {**(headers or {}), **({"Content-Type": "application/json"} if data is not None else {})}
        with self.response(method, path, data, words, query, patience=patience) as response:
            answer = parsed(response)
            if method == "GET" and (why := shapes.problem(path, answer.get("metadata"))):
                raise ValueError(f"not an answer of the API: {why}")
            return answer, response.headers.get("ETag", "")

    @contextmanager
    def response(
        self, method: str, path: str, body: Any, headers: Mapping[str, str], query: Query, *, patience: float = 0
    ) -> Iterator[http.client.HTTPResponse]:
        """The response to a request, to be read in this context; ``patience`` in seconds, 0 = the usual."""
        interrupt.check()
        patience = patience or TIMEOUT
        connection = _connect(self.endpoint, patience)
        query = {key: value for key, value in query.items() if value != ""}
        query = {"project": self.project, **query} if self.project != "default" else query
        target = f"{path}?{urlencode(query)}" if query else path
        try:
            connection.request(method, target, body=body, headers=dict(headers))
            yield connection.getresponse()
        except VmctlError:
            raise
        except TimeoutError as error:
            details = f"it did not answer {method} {path} within {patience:.0f} s"
            raise self._unreachable(details, Silent) from error
        except (OSError, ssl.SSLError, http.client.HTTPException, ValueError) as error:
            raise self._unreachable(f"{method} {path}: {error or type(error).__name__}") from error
        finally:
            connection.close()

    def _unreachable(self, details: str, kind: type[Unreachable] = Unreachable) -> Unreachable:
        hint = "systemctl status incus lxd" if self.endpoint.is_local else "incus remote list"
        return kind(f"{self.endpoint.url} could not be asked", details=details, hint=hint)


def is_absent(error: VmctlError) -> bool:
    """Whether the server says that there is no such thing."""
    return isinstance(error, ServerError) and error.code == NOT_FOUND


def parsed(response: http.client.HTTPResponse) -> dict[str, Any]:
    """The JSON of an answer.

    Raises:
        ServerError: it tells of an error.
        ValueError: it is none.
    """
    data = response.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise ValueError("the answer is too large")
    try:
        answer = json_text.loads(data)
    except ValueError as error:
        raise ValueError(f"HTTP {response.status}, and not JSON: {error}") from error
    if not isinstance(answer, dict):
        raise ValueError(f"HTTP {response.status}, and not an answer of the API")  # noqa: TRY004  a stranger's text
    if answer.get("type") == "error" or response.status >= FAILURE:
        code = answer.get("error_code")
        raise ServerError(str(answer.get("error") or f"HTTP {response.status}"),
                          code=code if isinstance(code, int) else response.status)  # fmt: skip
    return answer


class Interruptible:
    """A file that ends being read when the user asks to stop."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def read(self, _size: int = -1) -> bytes:
        """The next part; http.client's own are small."""
        interrupt.check()
        return self._stream.read(CHUNK)


class _UnixConnection(http.client.HTTPConnection):
    """A connection to a unix socket."""

    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket."""
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            made.settimeout(self.timeout)
            made.connect(str(self._path))
        except BaseException:
            made.close()
            raise
        self.sock = made


class _PinnedConnection(http.client.HTTPSConnection):
    """A connection to whoever has one certificate: nothing is sent before the server showed it."""

    def __init__(self, endpoint: Endpoint, context: ssl.SSLContext, pinned: bytes, timeout: float) -> None:
        super().__init__(endpoint.host, endpoint.port, timeout=timeout, context=context)
        self._pinned = pinned
        self._url = endpoint.url

    def connect(self) -> None:
        """Connect, and see whom to.

        Raises:
            Unreachable: it is another server, or one that got a new certificate.
        """
        super().connect()
        assert isinstance(self.sock, ssl.SSLSocket)  # noqa: S101  for the type checker
        if self.sock.getpeercert(binary_form=True) != self._pinned:
            self.close()
            raise Unreachable(
                f"{self._url} shows another certificate than the one that its remote was added with",
                details="Either the server was set up anew, or somebody else answers in its place.",
                hint="incus remote list    # compare fingerprints with the server's administrator",
            )


def _connect(endpoint: Endpoint, timeout: float) -> http.client.HTTPConnection:
    """A connection to the server; opened by its first request."""
    if endpoint.socket is not None:
        return _UnixConnection(endpoint.socket, timeout)
    context = _context(endpoint)
    if endpoint.pinned is None:
        return http.client.HTTPSConnection(endpoint.host, endpoint.port, timeout=timeout, context=context)
    return _PinnedConnection(endpoint, context, _der(endpoint.pinned), timeout)


def _context(endpoint: Endpoint) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.minimum_version = OLDEST_TLS
    if endpoint.pinned is not None:  # the server's own, which says nothing of who it is and need say nothing
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if endpoint.certificate is not None and endpoint.key is not None:
        try:
            context.load_cert_chain(endpoint.certificate, endpoint.key, password="")
        except (OSError, ssl.SSLError) as error:
            raise VmctlError(
                f"{endpoint.key} cannot be used to log in to {endpoint.url}", details=in_words(error)
            ) from error
    return context


def _der(path: Path) -> bytes:
    try:
        return ssl.PEM_cert_to_DER_cert(path.read_text(encoding="ascii").strip())
    except (OSError, ValueError) as error:
        raise VmctlError(f"{path} is not a certificate", details=str(error), hint="incus remote list") from error
