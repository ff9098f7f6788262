"""Fetching a URL into a file: resumed after any break, also one of vmctl itself; hashed on the way; constant memory.

The partial file and a note of which content it belongs to (ETag, Last-Modified, size) lie in ``downloads/``, named by
the digest of the URL.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import urlsplit

from vmctl import interrupt
from vmctl.boxes import space, web_failure
from vmctl.boxes.address import without_login
from vmctl.boxes.checksum import Checksum, ChecksumMismatch, Hashing
from vmctl.boxes.polling import Stalled, pieces
from vmctl.boxes.range_request import CHECK, CHUNK, PATIENCE, RangeRequest, Refused, Resource, StartOver, TryAgain
from vmctl.boxes.retries import AGAIN_HINT, TRIES, Retries
from vmctl.boxes.web import Access
from vmctl.errors import VmctlError
from vmctl.events import Progress, Report, Warned, ignore
from vmctl.layout import HomeLayout
from vmctl.store import files

if TYPE_CHECKING:
    import requests

FIRST_PAUSE = 1.0
REPORT_EVERY = 0.2  # seconds
STEP = "download"


class DownloadFailed(VmctlError):
    """A URL could not be fetched."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Patience:
    """How long and how often to try; tests want less of both."""

    stall: float = PATIENCE
    tries: int = TRIES
    """Tries in a row that bring nothing new."""
    first_pause: float = FIRST_PAUSE


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
        with space.needed(home.downloads, f"to download {without_login(url)}"):
            transfer.run()
            transfer.verify()
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
        self.known = Resource()
        self.room = space.Room(path.parent, f"to download {without_login(url)}")
        self._taken_up = False
        self._reported = 0.0

    @property
    def total(self) -> int | None:
        """Bytes of the whole; None = nobody says."""
        return self.known.total

    def forget(self) -> None:
        """Leave nothing behind."""
        self.path.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)

    def run(self) -> None:
        """Try until all is there."""
        import requests

        self._take_up()
        retries = Retries(self.hashing.size, tries=self.patience.tries, first_pause=self.patience.first_pause)
        with self.access.session(header_for=self.url, report=self.report) as session:
            while True:
                try:
                    self._attempt(session)
                    break
                except (Refused, requests.exceptions.InvalidURL, requests.TooManyRedirects) as error:
                    raise self._failed(str(error), hint=getattr(error, "hint", CHECK)) from error
                except (TryAgain, Stalled, requests.RequestException) as error:
                    pause = retries.pause(self.hashing.size, getattr(error, "after", None))
                    if isinstance(error, StartOver):
                        self._start_over()
                    if pause is None:
                        raise self._failed(web_failure.reason(error)) from error
                    host, why = urlsplit(self.url).hostname, web_failure.reason(error)
                    self.report(Warned(text=f"{host}: {why}; trying again"))
                    interrupt.sleep(pause)
        self._tell(last=True)

    def verify(self) -> None:
        """Compare with the checksum; what was put together over several commands gets a second chance as a whole.

        Raises:
            ChecksumMismatch: it is not what was promised.
        """
        try:
            self.hashing.verify(without_login(self.url))
        except ChecksumMismatch:
            if not self._taken_up:
                raise
            self.report(Warned(text=f"what was kept of {without_login(self.url)} cannot be used; downloading it again"))
            self._start_over()
            self.run()
            self.hashing.verify(without_login(self.url))

    def _take_up(self) -> None:
        """Go on from what an earlier command left, if the note says what it belongs to."""
        self._taken_up = False
        try:
            self.known = Resource.from_note(files.read_json(self.note))
        except VmctlError:  # damaged: as good as none
            self.known = Resource()
        if not self.known.validator or not self.path.exists():
            self.forget()
            return
        self._taken_up = self.path.stat().st_size > 0
        with self.path.open("rb") as stream:
            while data := stream.read(CHUNK):
                interrupt.check()
                self.hashing.update(data)

    def _start_over(self) -> None:
        self.forget()
        self.known, self.hashing = Resource(), Hashing(self.checksum)

    def _attempt(self, session: requests.Session) -> None:
        """One request, from where the last one ended."""
        source = RangeRequest(session, self.url, self.hashing.size, self.known)
        with self.path.open("ab") as target:
            for data in pieces(source.read, patience=self.patience.stall):
                if source.fresh is not None:
                    self._begin(source, target)
                self.room.take(len(data))
                target.write(data)
                self.hashing.update(data)
                self._tell()
        if source.fresh is not None:  # not one byte came
            with self.path.open("ab") as target:
                self._begin(source, target)
        if self.total is not None and self.hashing.size < self.total:
            raise TryAgain(f"it broke off after {self.hashing.size} of {self.total} bytes")

    def _begin(self, source: RangeRequest, target: BinaryIO) -> None:
        """Settle, at the first byte, whether it continues what is there or starts anew."""
        if source.fresh and self.hashing.size:
            target.truncate(0)
            self.hashing = Hashing(self.checksum)
        source.fresh = None
        self.known = source.found
        if self.total is not None:
            space.require(self.path.parent, self.total - self.hashing.size, f"to download {without_login(self.url)}")
        if self.known.validator:
            files.write_json(self.note, self.known.to_note())
        else:
            self.note.unlink(missing_ok=True)

    def _tell(self, *, last: bool = False) -> None:
        now = time.monotonic()
        if last or now - self._reported >= REPORT_EVERY:
            self._reported = now
            self.report(Progress(step=STEP, done=self.hashing.size, total=self.total))

    def _failed(self, reason: str, *, hint: str = AGAIN_HINT) -> DownloadFailed:
        if not self.hashing.size:
            self.forget()
        return DownloadFailed(
            f"{without_login(self.url)} could not be downloaded",
            details=f"{reason} ({self.hashing.size} bytes are kept)" if self.note.exists() else reason,
            hint=hint,
        )
