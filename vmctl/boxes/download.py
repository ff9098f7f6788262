"""Fetching a URL into a file: resumed after any break, also one of vmctl itself; hashed on the way; constant memory.

The partial file and a note of which version of the resource it belongs to (ETag or Last-Modified) lie in
``downloads/``, named by the digest of the URL.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import urlsplit, urlunsplit

from vmctl import interrupt
from vmctl.boxes import space
from vmctl.boxes.checksum import Checksum, ChecksumMismatch, Hashing
from vmctl.boxes.polling import Stalled, pieces
from vmctl.boxes.web import LOG_IN, UNWELCOME, Access
from vmctl.errors import VmctlError
from vmctl.events import Progress, Report, Warned, ignore
from vmctl.layout import HomeLayout
from vmctl.store import files

if TYPE_CHECKING:
    import requests

CHUNK = 64 * 1024  # a break loses what is in the chunk at hand
CONNECT_TIMEOUT = 10.0
PATIENCE = 30.0
TRIES = 5
FIRST_PAUSE = 1.0
REPORT_EVERY = 0.2  # seconds
AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
OK, PARTIAL, RANGE_BEYOND_END = 200, 206, 416
AGAIN_HINT = "run the command again; it goes on from where this one ended"
CHECK = "check the address"
CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
STEP = "download"


class DownloadFailed(VmctlError):
    """A URL could not be fetched."""


class _TryAgain(Exception):
    """This try failed in a way that another may not."""


class _StartOver(_TryAgain):
    """What is there can not be continued."""


class _Refused(Exception):
    """The server answered, and will answer the same again."""

    def __init__(self, said: str, *, hint: str) -> None:
        super().__init__(said)
        self.hint = hint


@dataclass(frozen=True, kw_only=True, slots=True)
class Patience:
    """How long and how often to try; tests want less of both."""

    stall: float = PATIENCE
    tries: int = TRIES
    """Tries in a row that bring nothing new."""
    first_pause: float = FIRST_PAUSE


def without_password(url: str) -> str:
    """The URL as it may be shown and stored."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def fetch(
    url: str,
    home: HomeLayout,
    *,
    checksum: Checksum | None = None,
    access: Access | None = None,
    patience: Patience | None = None,
    report: Report = ignore,
) -> tuple[Path, Hashing]:
    """Fetch ``url``; the file (the caller moves or removes it) and its hashes.

    The caller holds a lock on the URL. ``access`` says how to talk to its server, whose header it may get.

    Raises:
        DownloadFailed: the server says no, or breaks off too often. What came is kept, for the next time.
        ChecksumMismatch: all came, but it is not what ``checksum`` promised; nothing is kept.
        NoSpace: the disk is full; nothing is kept.
        Interrupted: the user asked to stop; what came is kept.
    """
    files.make_directory(home.downloads)
    part = home.downloads / f"{hashlib.sha256(url.encode()).hexdigest()}.part"
    transfer = _Transfer(url, part, checksum, access=access or Access(), patience=patience or Patience(), report=report)
    try:
        with space.needed(home.downloads, f"to download {without_password(url)}"):
            transfer.run()
        transfer.hashing.verify(without_password(url))
    except (space.NoSpace, ChecksumMismatch):
        transfer.forget()
        raise
    transfer.note.unlink(missing_ok=True)
    return part, transfer.hashing


class _Transfer:
    """One URL on its way into one file."""

    def __init__(
        self, url: str, path: Path, checksum: Checksum | None, *, access: Access, patience: Patience, report: Report
    ) -> None:
        self.url = url
        self.path = path
        self.note = path.with_suffix(".json")
        self.checksum = checksum
        self.access = access
        self.patience = patience
        self.report = report
        self.hashing = Hashing(checksum)
        self.total: int | None = None
        self._reported = 0.0

    def forget(self) -> None:
        """Leave nothing behind."""
        self.path.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)

    def run(self) -> None:
        """Try until all is there."""
        import requests

        self._take_up()
        failures = 0
        pause = self.patience.first_pause
        with self.access.session(header_for=self.url) as session:
            while True:
                before = self.hashing.size
                try:
                    self._attempt(session)
                    break
                except (_Refused, requests.exceptions.InvalidURL, requests.TooManyRedirects) as error:
                    raise self._failed(str(error), hint=getattr(error, "hint", CHECK)) from error
                except (_TryAgain, Stalled, requests.RequestException) as error:
                    if isinstance(error, _StartOver):
                        self._start_over()
                    failures = 1 if self.hashing.size > before else failures + 1
                    pause = self.patience.first_pause if failures == 1 else pause * 2
                    if failures >= self.patience.tries:
                        raise self._failed(_reason(error)) from error
                    self.report(Warned(text=f"{urlsplit(self.url).hostname}: {_reason(error)}; trying again"))
                    interrupt.sleep(pause)
        self._tell(last=True)

    def _take_up(self) -> None:
        """Go on from what an earlier command left, if the note says what it belongs to."""
        if not self.note.exists() or not self.path.exists():
            self.forget()
            return
        with self.path.open("rb") as stream:
            while data := stream.read(CHUNK):
                interrupt.check()
                self.hashing.update(data)

    def _start_over(self) -> None:
        self.forget()
        self.hashing = Hashing(self.checksum)

    def _attempt(self, session: requests.Session) -> None:
        """One request, from where the last one ended."""
        source = _Request(session, self.url, self.hashing.size, self._validator())
        with self.path.open("ab") as target:
            for data in pieces(source.read, patience=self.patience.stall):
                if source.fresh is not None:
                    self._begin(source, target)
                target.write(data)
                self.hashing.update(data)
                self._tell()
        if source.fresh is not None:  # not one byte came
            with self.path.open("ab") as target:
                self._begin(source, target)
        if self.total is not None and self.hashing.size < self.total:
            raise _TryAgain(f"it broke off after {self.hashing.size} of {self.total} bytes")

    def _begin(self, source: _Request, target: BinaryIO) -> None:
        """Settle, at the first byte, whether it continues what is there or starts anew."""
        if source.fresh and self.hashing.size:
            target.truncate(0)
            self.hashing = Hashing(self.checksum)
        source.fresh = None
        self.total = source.total
        if self.total is not None:
            space.require(self.path.parent, self.total - self.hashing.size, f"to download {without_password(self.url)}")
        if source.validator:
            files.write_json(self.note, {"validator": source.validator})
        else:
            self.note.unlink(missing_ok=True)

    def _validator(self) -> str:
        note = files.read_json(self.note)
        return str(note.get("validator", "")) if isinstance(note, dict) else ""

    def _tell(self, *, last: bool = False) -> None:
        now = time.monotonic()
        if last or now - self._reported >= REPORT_EVERY:
            self._reported = now
            self.report(Progress(step=STEP, done=self.hashing.size, total=self.total))

    def _failed(self, reason: str, *, hint: str = AGAIN_HINT) -> DownloadFailed:
        if not self.hashing.size:
            self.forget()
        return DownloadFailed(
            f"{without_password(self.url)} could not be downloaded",
            details=f"{reason} ({self.hashing.size} bytes are kept)" if self.note.exists() else reason,
            hint=hint,
        )


class _Request:
    """One GET: asks for the rest where the server can tell that it is the rest of the same thing."""

    def __init__(self, session: requests.Session, url: str, offset: int, validator: str) -> None:
        self.session = session
        self.url = url
        self.offset = offset if validator else 0
        self.validator = validator
        self.total: int | None = None
        self.fresh: bool | None = True
        """Whether the answer starts at byte 0; None once the caller has taken note."""

    def read(self) -> Generator[bytes]:
        """The body, piece by piece; runs in a thread of its own."""
        headers = {"Accept-Encoding": "identity"}
        if self.offset:
            headers |= {"Range": f"bytes={self.offset}-", "If-Range": self.validator}
        timeout = (CONNECT_TIMEOUT, PATIENCE)
        with self.session.get(self.url, headers=headers, stream=True, timeout=timeout) as response:
            if self._understand(response):
                yield from response.iter_content(CHUNK)

    def _understand(self, response: requests.Response) -> bool:
        """Take note of what the answer is; whether its body is wanted."""
        status = response.status_code
        if status in AGAIN:
            raise _TryAgain(f"the server says {status} {response.reason}")
        if status == RANGE_BEYOND_END:
            if response.headers.get("Content-Range") != f"bytes */{self.offset}":
                raise _StartOver(f"the server says {status} {response.reason}")
            self.fresh, self.total = False, self.offset  # all was there already
            return False
        if status not in (OK, PARTIAL):
            hint = LOG_IN if status in UNWELCOME else CHECK
            raise _Refused(f"the server says {status} {response.reason}", hint=hint)
        self.validator = _validator(response)
        length = response.headers.get("Content-Length", "")
        if status == OK:
            self.total = int(length) if length.isdigit() else None
            return True
        found = CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if found is None or int(found[1]) != self.offset:
            raise _StartOver("the server sent another part than the one that was asked for")
        self.fresh = False
        self.total = int(found[3]) if found[3].isdigit() else int(found[2]) + 1
        return True


def _reason(error: Exception) -> str:
    """What went wrong, without the libraries' layers around it."""
    import requests

    if isinstance(error, requests.Timeout):
        return "the server does not answer"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection broke off"
    if isinstance(error, requests.ConnectionError):
        cause: BaseException = error
        while isinstance(inner := (cause.args[0] if cause.args else None) or cause.__cause__, BaseException):
            cause = getattr(inner, "reason", None) or inner
        return f"the connection failed: {cause}"
    return str(getattr(error, "brief", error))


def _validator(response: requests.Response) -> str:
    """What If-Range may hold: a strong ETag, else the time of change; "" = it can not be resumed."""
    etag: str = response.headers.get("ETag", "")
    return etag if etag and not etag.startswith("W/") else response.headers.get("Last-Modified", "")
