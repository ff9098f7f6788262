"""What a push brings into a repository: blobs, and the tags that lead to them.

A blob is found there, mounted from another repository, or sent in pieces. A note of the registry's upload session lies
in ``downloads/``, so that an upload goes on where a kill or a broken connection ended it. A tag leads to an index of
architectures, which several people may change at the same time.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urljoin, urlsplit, urlunsplit

from vmctl import interrupt
from vmctl.boxes.oci import artifact
from vmctl.boxes.oci.artifact import IndexEntry
from vmctl.boxes.oci.challenge import Denied
from vmctl.boxes.oci.reference import LATEST, TAG, Reference
from vmctl.boxes.oci.registry_client import ACCEPTED, CREATED, INDEX, Blob, Registry
from vmctl.boxes.oci.responses import TransferBroken
from vmctl.boxes.oci.transport import Absent, RegistryError
from vmctl.boxes.oci.window_layers import Senseless
from vmctl.boxes.retries import AGAIN_HINT, TRIES, Retries
from vmctl.errors import UsageError, VmctlError
from vmctl.layout import HomeLayout
from vmctl.store import files

if TYPE_CHECKING:
    import requests

PIECE = 8 * 1024**2
"""What is sent at once. One piece is under way at a time: some registries (docker-registry 2.8) drop the whole session
of a piece that breaks off, so that a kill costs one window, however many are being sent."""
SENT = 256 * 1024
RANGE = re.compile(r"(?:bytes=)?0-([0-9]{1,18})")
NO_CONTENT = 204
LONGEST_LOCATION = 16 * 1024


class Upload:
    """One blob, from a file, on its way into a repository."""

    def __init__(
        self, registry: Registry, home: HomeLayout, blob: Blob, path: Path, on_bytes: Callable[[int], None]
    ) -> None:
        self.registry, self.blob, self.path, self.on_bytes = registry, blob, path, on_bytes
        self.transport = registry.transport
        of = f"{self.transport.reference.registry}/{self.transport.reference.repository} {blob.digest}"
        self.note = home.downloads / f"oci-upload-{hashlib.sha256(of.encode()).hexdigest()[:40]}.json"
        self.location = ""
        self.offset = 0

    def run(self, *, sources: tuple[str, ...] = ()) -> bool:
        """Have the blob in the repository; whether bytes had to be sent.

        Args:
            sources: repositories of the same registry that may have it.

        Raises:
            RegistryError, Denied: the registry does not take it.
            Interrupted: the user asked to stop; it can go on later.
        """
        if self.registry.has(self.blob) or any(map(self._mounted, sources)):
            files.remove(self.note)
            return False
        retries = Retries()
        while True:
            try:
                self._attempt()
                break
            except TransferBroken as error:
                pause = retries.pause(self.offset, error.after)
                if pause is None:
                    raise self.transport.failed(str(error), hint=AGAIN_HINT) from error
                interrupt.sleep(pause)
                self.location = ""  # the session may be gone, or have more than was acknowledged: it is asked first
        files.remove(self.note)
        return True

    def _mounted(self, source: str) -> bool:
        url = f"{self.transport.url('blobs/uploads/')}?mount={quote(self.blob.digest)}&from={quote(source, safe='')}"
        try:
            with self.transport.call(
                "POST", url, headers={"Content-Length": "0"}, scope=f"push {source}",
                expected=frozenset({CREATED, ACCEPTED}),
            ) as response:  # fmt: skip
                if response.status_code == ACCEPTED:  # not there; an upload was begun instead
                    self._take(response)
                return response.status_code == CREATED
        except (Absent, Denied, RegistryError):
            return False

    def _attempt(self) -> None:
        """Send what is missing."""
        if not (self.location or self._resumed()):
            self._begin()
        while self.offset < self.blob.size:
            size = min(PIECE, self.blob.size - self.offset)
            headers = {
                "Content-Type": "application/octet-stream",
                "Content-Range": f"{self.offset}-{self.offset + size - 1}",
            }
            with self.transport.sending, self.transport.once(
                "PATCH", self.location, headers=headers, body=self._piece(size), scope="push",
                expected=frozenset({ACCEPTED, CREATED, NO_CONTENT}),
            ) as response:  # fmt: skip
                self._take(response)
            self.offset += size
            self.on_bytes(size)
        with self.transport.once(
            "PUT", self._closing(), headers={"Content-Length": "0"}, scope="push", expected=frozenset({CREATED}),
        ):  # fmt: skip
            pass

    def _begin(self) -> None:
        with self.transport.once(
            "POST", self.transport.url("blobs/uploads/"), headers={"Content-Length": "0"}, scope="push",
            expected=frozenset({ACCEPTED}),
        ) as response:  # fmt: skip
            self._take(response)
        self.offset = 0

    def _resumed(self) -> bool:
        """Whether the registry still has the session of the note, and how far it came."""
        try:
            note = files.read_json(self.note)
        except VmctlError:  # damaged: as good as none
            note = None
        location = note.get("location") if isinstance(note, dict) else None
        if not isinstance(location, str) or not location:
            return False
        try:
            with self.transport.once(
                "GET", location, headers={}, scope="push", expected=frozenset({NO_CONTENT})
            ) as response:
                found = RANGE.fullmatch(response.headers.get("Range", ""))
                reached = int(found[1]) + 1 if found else 0
                self._take(response, known=location)
        except (RegistryError, Denied):
            return False
        if reached == 1:  # registries say "0-0" of nothing, too
            return False
        self.offset = reached
        return reached <= self.blob.size

    def _take(self, response: requests.Response, *, known: str = "") -> None:
        """Note where the session goes on."""
        location = response.headers.get("Location", "") or known
        if not location or len(location) > LONGEST_LOCATION:
            raise self.transport.failed("the registry does not say where to send the data")
        self.location = urljoin(response.url, location)
        files.write_json(self.note, {"location": self.location})

    def _closing(self) -> str:
        parts = urlsplit(self.location)
        query = f"{parts.query}&" if parts.query else ""
        return urlunsplit(parts._replace(query=f"{query}digest={quote(self.blob.digest, safe='')}"))

    def _piece(self, size: int) -> Callable[[], _Piece]:
        return lambda: _Piece(self.path, self.offset, size)


class _Piece:
    """A part of a file, for the body of a request; it has a length, so that it is sent with one."""

    def __init__(self, path: Path, offset: int, size: int) -> None:
        self.path, self.offset, self.size = path, offset, size

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[bytes]:
        left = self.size
        with files.open_to_read(self.path) as stream:
            stream.seek(self.offset)
            while left and (data := stream.read(min(SENT, left))):
                yield data
                left -= len(data)


def tags_for(reference: Reference, version: str) -> tuple[str, ...]:
    """The tags that a pushed box gets.

    Raises:
        UsageError: the version cannot be one.
    """
    if reference.tag:
        return (reference.tag,)
    if not TAG.fullmatch(version):
        raise UsageError(f"the version {version} is not a tag", hint="write oci://REGISTRY/REPOSITORY:TAG")
    return tuple(dict.fromkeys((version, LATEST)))


def tagged(registry: Registry, tag: str) -> tuple[IndexEntry, ...]:
    """The architectures that a tag has by now.

    Raises:
        UsageError: it leads to something that is not a box.
    """
    try:
        document = registry.manifest(tag)
    except Absent:
        return ()
    try:
        parsed = artifact.parsed(document.data)
        if artifact.is_box(parsed):
            return artifact.entries(parsed) if artifact.is_index(parsed, document.kind) else ()
    except Senseless:
        pass
    raise UsageError(
        f"the tag {tag} of {registry.transport.reference.repository} is not a box, and is not replaced",
        hint="push to another tag or repository",
    )


def publish_tag(registry: Registry, tag: str, mine: IndexEntry) -> None:
    """Let the tag lead to the box, beside the other architectures' that it has; somebody may do the same right now."""
    for _ in range(TRIES):
        others = [one for one in tagged(registry, tag) if one.arch != mine.arch]
        registry.put_manifest(tag, artifact.index_bytes([*others, mine]), INDEX)
        there = tagged(registry, tag)
        kept = {one.arch for one in others} <= {one.arch for one in there}
        if kept and any(one.arch == mine.arch for one in there):
            return
    raise RegistryError(f"the tag {tag} keeps being changed by somebody else", hint="push again when they are through")
