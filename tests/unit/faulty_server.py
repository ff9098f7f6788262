"""A real web server that serves one file badly: it drops, stalls, lies, forgets what it served before."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class FaultyServer:
    """What to serve, and how; ``ranges`` are the Range headers that came (None: a request without)."""

    body: bytes = b""
    etag: str = '"1"'
    last_modified: str = ""
    statuses: list[int] = field(default_factory=list)
    """Answer the first requests with these."""
    drop_after: list[int] = field(default_factory=list)
    """Break the first answers off after so many bytes of their body."""
    stall_after: list[int] = field(default_factory=list)
    """Send no more than so many bytes of the first answers' bodies, and hang."""
    ignores_range: bool = False
    wrong_range: bool = False
    """Answer 206 with another part than the one that was asked for."""
    ignores_if_range: bool = False
    """Answer 206 even where the file is another one by now."""
    part_headers: dict[str, str] = field(default_factory=dict)
    """Headers of a 206 besides, or instead of, the right ones; "" = not sent."""
    headers: dict[str, str] = field(default_factory=dict)
    """Headers of each good answer besides the right ones."""
    retry_after: str = ""
    endless: bool = False
    """Send the body over and over, without a length."""
    claimed_length: int | None = None
    without_length: bool = False
    ranges: list[str | None] = field(default_factory=list)
    url: str = ""
    awake: threading.Event = field(default_factory=threading.Event)


@contextmanager
def faulty_server() -> Iterator[FaultyServer]:
    """A server on a port of its own."""
    serving = FaultyServer()

    class Handler(_Handler):
        state = serving

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        serving.url = f"http://127.0.0.1:{server.server_address[1]}/image.qcow2"
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield serving
        finally:
            serving.awake.set()
            server.shutdown()


class _Handler(BaseHTTPRequestHandler):
    state: FaultyServer

    def do_GET(self) -> None:
        state = self.state
        asked = self.headers.get("Range")
        state.ranges.append(asked)
        if state.statuses:
            self.send_response(state.statuses.pop(0))
            self.send_header("Content-Length", "0")
            if state.retry_after:
                self.send_header("Retry-After", state.retry_after)
            self.end_headers()
            return
        start = self._start(asked)
        if asked and start >= len(state.body):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(state.body)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self._send(start, partial=bool(start))

    def _start(self, asked: str | None) -> int:
        state = self.state
        same = state.ignores_if_range or self.headers.get("If-Range") in (state.etag, state.last_modified)
        return 0 if asked is None or state.ignores_range or not same else int(asked[6:].rstrip("-"))

    def _send(self, start: int, *, partial: bool) -> None:
        state = self.state
        if state.wrong_range and partial:
            start -= 1
        body = state.body[start:]
        self.send_response(206 if partial else 200)
        headers = {"ETag": state.etag, "Last-Modified": state.last_modified, **state.headers}
        if not (state.without_length or state.endless):
            headers["Content-Length"] = str(state.claimed_length or len(body))
        if partial:
            headers["Content-Range"] = f"bytes {start}-{len(state.body) - 1}/{len(state.body)}"
            headers |= state.part_headers
        for name, value in headers.items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        while state.endless and not state.awake.is_set():
            self.wfile.write(body)
        if state.drop_after:
            self.wfile.write(body[: state.drop_after.pop(0)])
            self.close_connection = True
        elif state.stall_after:
            self.wfile.write(body[: state.stall_after.pop(0)])
            self.wfile.flush()
            state.awake.wait(60)
        else:
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return
