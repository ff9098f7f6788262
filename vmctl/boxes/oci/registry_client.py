"""What vmctl asks of a registry's repository: manifests and blobs (OCI distribution specification).

Whatever comes is believed only after its digest was computed; nothing is read beyond the size that was announced.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

from msgspec import Struct

from vmctl import interrupt
from vmctl.boxes import space
from vmctl.boxes.oci.reference import DIGEST
from vmctl.boxes.oci.responses import TransferBroken, pieces_of
from vmctl.boxes.oci.transport import Absent, RegistryError, Transport
from vmctl.boxes.polling import Stalled, pieces
from vmctl.boxes.retries import AGAIN_HINT, Retries
from vmctl.store import door, files

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
KINDS = (MANIFEST, INDEX, DOCKER_MANIFEST, DOCKER_INDEX)
LONGEST_MANIFEST = 4 * 1024**2
"""What registries take, and all that vmctl reads."""
CHUNK = 1024**2
PATIENCE = 60.0
RANGE = re.compile(r"bytes ([0-9]{1,18})-[0-9]{1,18}/(?:[0-9]{1,18}|\*)")
ASK = "ask whoever runs the registry"
OK, CREATED, ACCEPTED, PARTIAL, NOT_SATISFIABLE = 200, 201, 202, 206, 416
READ = frozenset({OK, PARTIAL, NOT_SATISFIABLE})


class Document(Struct, frozen=True, kw_only=True):
    """A manifest as the registry keeps it."""

    data: bytes
    kind: str
    """Its media type."""
    digest: str


class Blob(Struct, frozen=True, kw_only=True):
    """What a manifest says of a blob."""

    digest: str
    size: int


class Lying(RegistryError):
    """A registry sends something else than what was asked for."""


def digest_of(data: bytes) -> str:
    """As registries write it."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class Registry:
    """One repository of a registry; several threads may use it."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport

    @property
    def reference(self) -> str:
        """For messages."""
        return str(self.transport.reference)

    def manifest(self, target: str) -> Document:
        """The manifest or index of a tag or digest.

        Raises:
            Absent: there is none.
            RegistryError, Denied: it cannot be had, or is not what it should be.
        """
        headers = {"Accept": ", ".join(KINDS)}
        with self.transport.call("GET", self._manifest_url(target), headers=headers) as response:
            data = self._limited(lambda: pieces_of(response, CHUNK), LONGEST_MANIFEST, "the manifest")
            kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
            named = response.headers.get("Docker-Content-Digest", "")
        digest = digest_of(data)
        if digest != (target if DIGEST.fullmatch(target) else named if DIGEST.fullmatch(named) else digest):
            raise self._lies(f"the manifest {target} has the digest {digest}")
        return Document(data=data, kind=kind, digest=digest)

    def put_manifest(self, target: str, data: bytes, kind: str) -> str:
        """Give a tag (or a digest) its manifest; the digest."""
        headers = {"Content-Type": kind}
        self.transport.call(
            "PUT",
            self._manifest_url(target),
            headers=headers,
            body=lambda: data,
            scope="push",
            expected=frozenset({CREATED, OK, ACCEPTED}),
        ).close()
        return digest_of(data)

    def has(self, blob: Blob) -> bool:
        """Whether the registry has a blob of that digest and size."""
        try:
            with self.transport.call("HEAD", self.transport.url(f"blobs/{blob.digest}"), scope="push") as response:
                # Some say no length. Such a one is believed: who pulls the blob computes its digest anyway.
                return response.headers.get("Content-Length", str(blob.size)) == str(blob.size)
        except Absent:
            return False

    def read(self, blob: Blob, most: int, what: str) -> bytes:
        """A small blob, in memory.

        Raises:
            RegistryError: it cannot be had, is longer than ``most``, or something else.
        """
        if blob.size > most:
            raise self._lies(f"{what} has {blob.size} bytes, and may have {most}")
        with self.transport.call("GET", self.transport.url(f"blobs/{blob.digest}")) as response:
            data = self._limited(lambda: pieces_of(response, CHUNK), blob.size, what)
        if digest_of(data) != blob.digest:
            raise self._lies(f"{what} has the digest {digest_of(data)}, not {blob.digest}")
        return data

    def fetch(self, blob: Blob, path: Path, *, on_bytes: Callable[[int], None], room: Callable[[int], None]) -> None:
        """Have a blob in a file; what an earlier try left there is continued.

        Args:
            blob: which.
            path: the file; it holds the whole blob at the end, or the beginning when something fails.
            on_bytes: gets the number of bytes that came.
            room: asked before so many bytes are written.

        Raises:
            Lying: what came is not the blob; nothing is kept.
            RegistryError: it cannot be had now; what came is kept.
            Interrupted: the user asked to stop; what came is kept.
        """
        fetching = _Fetching(self.transport, blob, path, on_bytes, room)
        try:
            fetching.run()
        except Lying:
            files.remove(path)
            raise

    def _manifest_url(self, target: str) -> str:
        return self.transport.url(f"manifests/{quote(target, safe=':')}")

    def _limited(self, source: Callable[[], Iterator[bytes]], most: int, what: str) -> bytes:
        parts: list[bytes] = []
        try:
            for data in pieces(source, patience=PATIENCE):
                parts.append(data)
                if sum(map(len, parts)) > most:
                    raise self._lies(f"{what} is longer than {most} bytes")
        except (TransferBroken, Stalled) as error:
            raise self.transport.failed(f"{what}: {error}", hint=AGAIN_HINT) from error
        return b"".join(parts)

    def _lies(self, details: str) -> Lying:
        return Lying(f"{self.reference} is not what it should be", details=details, hint=ASK)


class _Fetching:
    """One blob on its way into a file."""

    def __init__(
        self, transport: Transport, blob: Blob, path: Path, on_bytes: Callable[[int], None], room: Callable[[int], None]
    ) -> None:
        self.transport, self.blob, self.path = transport, blob, path
        self.on_bytes, self.room = on_bytes, room
        self.hash = hashlib.sha256()
        self.size = 0
        self.taken_up = False

    def run(self) -> None:
        """Try until all is there and is what it should be."""
        self._take_up()
        retries = Retries(self.size)
        while self.size < self.blob.size:
            try:
                self._attempt()
            except (TransferBroken, Stalled) as error:
                pause = retries.pause(self.size, getattr(error, "after", None))
                if pause is None:
                    raise self.transport.failed(f"{error} ({self.size} bytes are kept)", hint=AGAIN_HINT) from error
                interrupt.sleep(pause)
        # What another vmctl left may be no beginning of this blob: that gets one try from the start. A whole blob that
        # is wrong is the registry's fault, and asking again would bring the same.
        if f"sha256:{self.hash.hexdigest()}" != self.blob.digest:
            if not self.taken_up:
                raise self._lies(f"the blob {self.blob.digest} hashes to {self.hash.hexdigest()}")
            self._start_over()
            self.run()

    def _take_up(self) -> None:
        self.taken_up = False
        if not files.exists(self.path) or files.size(self.path) > self.blob.size:
            self._start_over()
            return
        with files.open_to_read(self.path) as stream:
            while data := stream.read(CHUNK):
                interrupt.check()
                self._note(data)
        self.taken_up = self.size > 0

    def _start_over(self) -> None:
        files.remove(self.path)
        self.hash, self.size = hashlib.sha256(), 0

    def _note(self, data: bytes) -> None:
        self.hash.update(data)
        self.size += len(data)

    def _attempt(self) -> None:
        headers = {"Range": f"bytes={self.size}-"} if self.size else {}
        url = self.transport.url(f"blobs/{self.blob.digest}")
        with self.transport.once("GET", url, headers=headers, expected=READ) as response:
            # A registry may know no ranges and send the whole, or refuse this one (416): then from the start.
            if response.status_code != PARTIAL or not self._continues(response.headers.get("Content-Range", "")):
                self._start_over()
            if response.status_code != OK and not self.size:
                raise TransferBroken("the registry sent another part than the one that was asked for")
            with space.needed(self.path.parent, f"to pull {self.transport.reference}"), self._opened() as target:
                for data in pieces(lambda: pieces_of(response, CHUNK), patience=PATIENCE):
                    if self.size + len(data) > self.blob.size:
                        raise self._lies(f"the blob {self.blob.digest} is longer than {self.blob.size} bytes")
                    self.room(len(data))
                    target.write(data)
                    self._note(data)
                    self.on_bytes(len(data))
        if self.size < self.blob.size:
            raise TransferBroken(f"it broke off after {self.size} of {self.blob.size} bytes")

    def _opened(self) -> BinaryIO:
        return os.fdopen(door.open_file(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, make=True), "ab")

    def _continues(self, content_range: str) -> bool:
        found = RANGE.fullmatch(content_range)
        return found is not None and int(found[1]) == self.size

    def _lies(self, details: str) -> Lying:
        return Lying(f"{self.transport.reference} is not what it should be", details=details, hint=ASK)
