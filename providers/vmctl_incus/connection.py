"""HTTP to one server: over its unix socket, or over TLS to the very certificate that its clients pinned.

``http.client`` and no more: `vmctl status` asks the server each time, and the larger libraries take longer to load than
the server to answer.
"""

from __future__ import annotations

import http.client
import socket
import ssl
from pathlib import Path

from msgspec import Struct

from vmctl.errors import Unreachable, VmctlError

OLDEST_TLS = ssl.TLSVersion.TLSv1_2


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


class UnixConnection(http.client.HTTPConnection):
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


class PinnedConnection(http.client.HTTPSConnection):
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


def connect(endpoint: Endpoint, timeout: float) -> http.client.HTTPConnection:
    """A connection to the server; opened by its first request."""
    if endpoint.socket is not None:
        return UnixConnection(endpoint.socket, timeout)
    context = _context(endpoint)
    if endpoint.pinned is None:
        return http.client.HTTPSConnection(endpoint.host, endpoint.port, timeout=timeout, context=context)
    return PinnedConnection(endpoint, context, _der(endpoint.pinned), timeout)


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
                f"{endpoint.key} cannot be used to log in to {endpoint.url}", details=str(error)
            ) from error
    return context


def _der(path: Path) -> bytes:
    try:
        return ssl.PEM_cert_to_DER_cert(path.read_text(encoding="ascii").strip())
    except (OSError, ValueError) as error:
        raise VmctlError(f"{path} is not a certificate", details=str(error), hint="incus remote list") from error
