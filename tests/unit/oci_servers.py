"""Real parts around `oci://`: Debian's docker-registry, a token server, certificates, and a wire that breaks."""

from __future__ import annotations

import base64
import datetime as dt
import ipaddress
import json
import os
import re
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.x509.oid import NameOID

from tests.unit.box_images import MIB
from vmctl import process

USER, PASSWORD = "robot", "correct horse"
HTPASSWD = "robot:$2y$04$8j4GZVzAdlRf2HIVKUWVfeGU5fp6TbNyCQ3.TVwa3hYdc.wzERPqi"
LISTENING = re.compile(r"listening on 127\.0\.0\.1:([0-9]+)")


@dataclass
class Registry:
    """A docker-registry that runs."""

    port: int
    root: Path

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def at(self, repository: str) -> str:
        """An address of ours."""
        return f"oci://{self.host}/{repository}"

    @property
    def uploads(self) -> list[Path]:
        """Upload sessions that were not finished."""
        return list(self.root.glob("**/_uploads/*"))


@contextmanager
def docker_registry(
    root: Path, *, auth: dict[str, Any] | None = None, tls: dict[str, str] | None = None
) -> Iterator[Registry]:
    """A registry that keeps its data below ``root``."""
    root.mkdir(parents=True, exist_ok=True)
    config = {
        "version": "0.1",
        "log": {"level": "info"},
        "storage": {"filesystem": {"rootdirectory": str(root / "data")}, "delete": {"enabled": True}},
        "http": {"addr": "127.0.0.1:0", "secret": "of the test", **({"tls": tls} if tls else {})},
        **({"auth": auth} if auth else {}),
    }
    (root / "config.yml").write_text(json.dumps(config))  # JSON is YAML
    program = process.find("docker-registry")
    with (root / "log").open("wb") as log:
        child = subprocess.Popen([program, "serve", root / "config.yml"], stderr=log, stdout=log)
        try:
            yield Registry(_port(root / "log", child), root)
        finally:
            child.terminate()
            child.wait(10)


def _port(log: Path, child: subprocess.Popen[bytes]) -> int:
    from vmctl.wait import Deadline, until

    found = until(
        lambda: LISTENING.search(log.read_text()) or (child.poll() is not None and "ended"),
        Deadline.after(20), "docker-registry to listen",
    )  # fmt: skip
    assert isinstance(found, re.Match), log.read_text()
    return int(found[1])


def htpasswd(root: Path) -> dict[str, Any]:
    """Basic authentication of ``USER``."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "htpasswd").write_text(HTPASSWD + "\n")
    return {"htpasswd": {"realm": "test", "path": str(root / "htpasswd")}}


@dataclass
class Authority:
    """A certificate authority of the test's own."""

    root: Path
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def path(self) -> Path:
        return self.root / "ca.pem"

    def issue(self, name: str) -> tuple[Path, Path]:
        """Certificate and key of a server on 127.0.0.1."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        made = _builder(subject, self.certificate.subject, key).add_extension(address, critical=False)
        certificate = made.sign(self.key, hashes.SHA256())
        paths = self.root / f"{name}.pem", self.root / f"{name}.key"
        paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        paths[1].write_bytes(_private(key))
        return paths


def authority(root: Path) -> Authority:
    """A new one."""
    root.mkdir(parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    made = _builder(name, name, key).add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    certificate = made.sign(key, hashes.SHA256())
    (root / "ca.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return Authority(root, key, certificate)


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
    )


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


@dataclass
class TokenServer:
    """Gives tokens as Docker's do; ``USER`` may push, anybody may pull from ``public/…``."""

    authority: Authority
    url: str = ""
    asked: list[tuple[dict[str, list[str]], str]] = field(default_factory=list)
    """Query and Authorization header of each request."""
    lifetime: float = 300

    @property
    def auth(self) -> dict[str, Any]:
        """For the registry's configuration."""
        return {
            "token": {
                "realm": self.url,
                "service": "test",
                "issuer": "issuer",
                "rootcertbundle": str(self.authority.path),
            }
        }

    def answer(self, query: dict[str, list[str]], authorization: str) -> tuple[int, dict[str, Any]]:
        """What a request gets."""
        self.asked.append((query, authorization))
        known = authorization == "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if authorization and not known:
            return 401, {"errors": [{"code": "UNAUTHORIZED", "message": "who are you"}]}
        access = [_granted(scope, known=known) for scope in query.get("scope", [])]
        return 200, {"token": self._token(access), "expires_in": self.lifetime}

    def _token(self, access: list[dict[str, Any]]) -> str:
        now = int(time.time())
        der = self.authority.certificate.public_bytes(serialization.Encoding.DER)
        header = {"typ": "JWT", "alg": "ES256", "x5c": [base64.b64encode(der).decode()]}
        claims = {
            "iss": "issuer", "sub": "x", "aud": "test", "exp": now + int(self.lifetime), "nbf": now - 10, "iat": now,
            "jti": "1", "access": access,
        }  # fmt: skip
        signed = ".".join(_base64(json.dumps(one).encode()) for one in (header, claims))
        r, s = decode_dss_signature(self.authority.key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{signed}.{_base64(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _granted(scope: str, *, known: bool) -> dict[str, Any]:
    kind, name, actions = scope.split(":")
    allowed = actions.split(",") if known else ["pull"] if name.startswith("public/") else []
    return {"type": kind, "name": name, "actions": [one for one in actions.split(",") if one in allowed]}


@contextmanager
def token_server(root: Path) -> Iterator[TokenServer]:
    """A token server on a port of its own."""
    serving = TokenServer(authority(root))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = serving.answer(parse_qs(urlsplit(self.path).query), self.headers.get("Authorization", ""))
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            return

    with served(Handler) as port:
        serving.url = f"http://127.0.0.1:{port}/token"
        yield serving


@contextmanager
def served(handler: type[BaseHTTPRequestHandler]) -> Iterator[int]:
    """A web server on a port of its own; the port."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@dataclass
class Wire:
    """A TCP connection to a registry that breaks, or where somebody pulls a plug, after so many bytes."""

    target: int
    port: int = 0
    sent: int = 0
    """Bytes that went to the registry."""
    came: int = 0
    cut_after: list[int] = field(default_factory=list)
    """Break all connections when so many more bytes, in either direction, went by; one number for each break."""
    at_cut: Callable[[], object] = lambda: None
    _pairs: list[socket.socket] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def passed(self, size: int, *, up: bool) -> bool:
        """Count; whether the wire still holds."""
        with self._lock:
            self.sent += size if up else 0
            self.came += 0 if up else size
            if not self.cut_after:
                return True
            self.cut_after[0] -= size
            if self.cut_after[0] > 0:
                return True
            self.cut_after.pop(0)
        self.at_cut()
        self.hang_up()
        return False

    def hang_up(self) -> None:
        """Break all connections."""
        with self._lock:
            broken, self._pairs = self._pairs, []
        for one in broken:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def join(self, one: socket.socket) -> None:
        """Two ends, pumped in both directions."""
        other = socket.create_connection(("127.0.0.1", self.target))
        with self._lock:
            self._pairs += [one, other]
        pumps = [
            threading.Thread(target=self._pump, args=ends, kwargs={"up": up}, daemon=True)
            for ends, up in (((one, other), True), ((other, one), False))
        ]

        def close() -> None:
            for pump in pumps:
                pump.start()
            for pump in pumps:
                pump.join()
            one.close()
            other.close()

        threading.Thread(target=close, daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, *, up: bool) -> None:
        with suppress(OSError):
            while data := source.recv(32 * 1024):
                if not self.passed(len(data), up=up):
                    break
                sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@contextmanager
def wire(target: int) -> Iterator[Wire]:
    """A wire to a port of this host."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            server.setsockopt(socket.SOL_SOCKET, option, 16 * 1024)  # what waits there is lost with the connection
        made = Wire(target, server.getsockname()[1])

        def accept() -> None:
            with suppress(OSError):
                while True:
                    made.join(server.accept()[0])

        threading.Thread(target=accept, daemon=True).start()
        yield made
        server.shutdown(socket.SHUT_RDWR)
        made.hang_up()


def disk(*, windows: int = 4, size: int = MIB, holes: tuple[int, ...] = (1,)) -> bytes:
    """A raw disk that boots nothing: windows of noise, some of zeros."""
    noise = [os.urandom(size) if number not in holes else bytes(size) for number in range(windows)]
    noise[0] = b"boot".ljust(510, b"\0") + b"\x55\xaa" + noise[0][512:]
    return b"".join(noise)
