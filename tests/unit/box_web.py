"""A real web server for tests: says what it is told to say, and remembers what it was asked."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Web:
    """``pages``: path → (status, headers, body). ``asked``: (path, headers) of each request."""

    port: int = 0
    pages: dict[str, tuple[int, dict[str, str], bytes]] = field(default_factory=dict)
    asked: list[tuple[str, Message]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def put(self, path: str, body: bytes, status: int = 200, *, kind: str = "", **headers: str) -> str:
        """Serve something, of the content type ``kind``; its URL."""
        self.pages[path] = (status, headers | ({"Content-Type": kind} if kind else {}), body)
        return self.url + path

    def redirect(self, path: str, target: str) -> str:
        """Send clients elsewhere."""
        return self.put(path, b"", 302, Location=target)


@contextmanager
def web_server() -> Iterator[Web]:
    """A server on a port of its own."""
    web = Web()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            web.asked.append((self.path, self.headers))
            status, headers, body = web.pages.get(self.path, (404, {}, b"no such page"))
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def do_HEAD(self) -> None:
            status, headers, _ = web.pages.get(self.path, (404, {}, b""))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        web.port = server.server_address[1]
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield web
        server.shutdown()
