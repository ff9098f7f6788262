"""One GET of a resource or of the rest of it (RFC 9110, range requests), where the rest must be of the same thing.

What a server sends is believed only as far as it agrees with itself: servers ignore ``Range`` or ``If-Range``, send
another part, or have a new file under the old name.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vmctl.boxes.web import AGAIN, LOG_IN, UNWELCOME, retry_after

if TYPE_CHECKING:
    import requests

CHUNK = 64 * 1024  # a break loses what is in the chunk at hand
CONNECT_TIMEOUT = 10.0
PATIENCE = 30.0
OK, PARTIAL, RANGE_BEYOND_END = 200, 206, 416
CHECK = "check the address"
LONGEST_SIZE = 18
"""Digits of a size; ``int`` refuses thousands, and no file is that long."""
CONTENT_RANGE = re.compile(r"bytes (?P<first>[0-9]{1,18})-(?P<last>[0-9]{1,18})/(?P<total>[0-9]{1,18}|\*)")
UNSATISFIED = re.compile(r"bytes \*/(?P<total>[0-9]{1,18})")
MULTIPART = "multipart/"


class TryAgain(Exception):
    """This try failed in a way that another may not; ``after`` = how many seconds the server asks to wait."""

    def __init__(self, text: str, *, after: float | None = None) -> None:
        super().__init__(f"{text} and asks to wait {after:.0f} s" if after else text)
        self.after = after


class StartOver(TryAgain):
    """What is there cannot be continued."""


class Refused(Exception):
    """The server answered, and will answer the same again."""

    def __init__(self, text: str, *, hint: str = CHECK) -> None:
        super().__init__(text)
        self.hint = hint


@dataclass(frozen=True, kw_only=True, slots=True)
class Resource:
    """Which content an answer is of; "" and None = the server does not say."""

    etag: str = ""
    modified: str = ""
    total: int | None = None
    """Bytes of the whole."""

    @classmethod
    def from_note(cls, note: Any) -> Resource:
        """What ``to_note`` wrote; nothing known where it makes no sense."""
        known = note if isinstance(note, dict) else {}
        etag, modified, total = known.get("etag"), known.get("modified"), known.get("total")
        return cls(
            etag=etag if isinstance(etag, str) else "",
            modified=modified if isinstance(modified, str) else "",
            total=total if isinstance(total, int) else None,
        )

    def to_note(self) -> dict[str, Any]:
        """As JSON."""
        return {"etag": self.etag, "modified": self.modified, "total": self.total}

    @property
    def validator(self) -> str:
        """What If-Range may hold: a strong ETag, else the time of change; "" = it cannot be resumed."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.modified

    def contradicts(self, other: Resource) -> bool:
        """Whether both say something, and not the same."""
        pairs = ((self.etag, other.etag), (self.modified, other.modified), (self.total, other.total))
        return any(one not in ("", None) and two not in ("", None) and one != two for one, two in pairs)


class RangeRequest:
    """One GET: asks for the rest where the server can tell that it is the rest of the same thing."""

    def __init__(self, session: requests.Session, url: str, offset: int, known: Resource) -> None:
        self.session = session
        self.url = url
        self.known = known
        self.offset = offset if known.validator else 0
        self.found = Resource()
        self.fresh: bool | None = True
        """Whether the answer starts at byte 0; None once the caller has taken note."""

    def read(self) -> Generator[bytes]:
        """The body as it was sent, piece by piece; runs in a thread of its own.

        A Content-Encoding is left alone: the checksum is about the file, and servers label files that are compressed.
        """
        import urllib3

        headers = {"Accept-Encoding": "identity"}
        if self.offset:
            headers |= {"Range": f"bytes={self.offset}-", "If-Range": self.known.validator}
        timeout = (CONNECT_TIMEOUT, PATIENCE)
        with self.session.get(self.url, headers=headers, stream=True, timeout=timeout) as response:
            if not self._understand(response):
                return
            try:
                yield from response.raw.stream(CHUNK, decode_content=False)
            except urllib3.exceptions.ReadTimeoutError as error:
                raise TryAgain("the server does not answer") from error
            except urllib3.exceptions.HTTPError as error:
                raise TryAgain("the connection broke off") from error

    def _understand(self, response: requests.Response) -> bool:
        """Take note of what the answer is; whether its body is wanted."""
        status = response.status_code
        answer = f"the server says {status} {response.reason}"
        if status in AGAIN:
            raise TryAgain(answer, after=retry_after(response))
        if status == RANGE_BEYOND_END:
            return self._beyond(response, answer)
        if status not in (OK, PARTIAL):
            raise Refused(answer, hint=LOG_IN if status in UNWELCOME else CHECK)
        if status == PARTIAL:
            self._partial(response)
        else:
            self.found = _resource(response, _size(response.headers.get("Content-Length", "")))
        return True

    def _beyond(self, response: requests.Response, answer: str) -> bool:
        """Nothing is left: what is there is the whole, if it is as long as the whole and nothing speaks against it."""
        end = UNSATISFIED.fullmatch(response.headers.get("Content-Range", ""))
        found = _resource(response, int(end["total"]) if end else None)
        if not self.offset or found.total != self.offset or self.known.contradicts(found):
            raise StartOver(answer)
        self.fresh, self.found = False, self.known
        return False

    def _partial(self, response: requests.Response) -> None:
        part = CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        kind = response.headers.get("Content-Type", "").lower()
        if part is None or int(part["first"]) != self.offset or kind.startswith(MULTIPART):
            raise StartOver("the server sent another part than the one that was asked for")
        length = _size(response.headers.get("Content-Length", ""))
        first, last = int(part["first"]), int(part["last"])
        total = None if part["total"] == "*" else int(part["total"])
        if last < first or (total is not None and last >= total) or length not in (None, last + 1 - first):
            raise StartOver("the server contradicts itself about how much it sends")
        found = _resource(response, total)
        if self.known.contradicts(found):
            raise StartOver("the file on the server has changed")
        self.fresh = not self.offset
        self.found = Resource(
            etag=found.etag or self.known.etag,
            modified=found.modified or self.known.modified,
            total=total if total is not None else self.known.total or last + 1,
        )


def _size(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= LONGEST_SIZE else None


def _resource(response: requests.Response, total: int | None) -> Resource:
    return Resource(
        etag=response.headers.get("ETag", ""), modified=response.headers.get("Last-Modified", ""), total=total
    )
