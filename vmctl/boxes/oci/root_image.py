"""Root file systems out of container images: tar layers, laid above each other, as one image for Incus and LXD.

The image is written from the layers' own bytes. No file of theirs is ever made on this host, so owners, set-user-ID
bits and attributes need no rights here, and no path or link of a stranger's is followed.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

from vmctl import interrupt
from vmctl.box_facts import SEEDED_BY_VMCTL
from vmctl.boxes import compression, streams, tar_members
from vmctl.boxes.compression import DamagedStream
from vmctl.boxes.oci.root_tree import RootTree, TreeEntry
from vmctl.boxes.oci.window_layers import Senseless
from vmctl.boxes.space import Room

INITS = ("sbin/init", "usr/sbin/init", "init")
SEED, CLOUD_INIT = "usr/lib/vmctl/seed", "usr/bin/cloud-init"
METADATA = "metadata.yaml"
ROOT = "rootfs"


class RootImage:
    """One image in the making."""

    def __init__(self, layers: Sequence[Path], work: Path, room: Room) -> None:
        """Read the layers, the lowest first.

        Args:
            layers: files as they came, compressed or not.
            work: a directory for what is needed meanwhile.
            room: asked before anything is written.

        Raises:
            Senseless: they are damaged or hostile, or make no system that starts.
        """
        self.tree, self.work, self.room = RootTree(), work, room
        self._left = streams.LARGEST
        self.layers = [self._plain(path, number) for number, path in enumerate(layers)]
        for number, path in enumerate(self.layers):
            try:
                with path.open("rb") as stream:
                    self.tree.lay(number, tar_members.headers(stream))
            except DamagedStream as error:
                raise Senseless(f"a layer is damaged: {error}") from error
        if not any(map(self.tree.find, INITS)):
            raise Senseless("it is a container image of a program: it has neither a disk nor an init system")

    @property
    def seeding(self) -> str:
        """What in it reads a seed (``BoxInfo.seeding``); "" = nothing does."""
        if self.tree.find(SEED):
            return SEEDED_BY_VMCTL
        return "cloud-init" if self.tree.find(CLOUD_INIT) else ""

    def write(self, target: Path, *, name: str, arch: str) -> None:
        """Write the image."""
        metadata = {
            "architecture": arch, "creation_date": max((one.mtime for _, one in self.tree.walk()), default=0),
            "properties": {"description": name, "name": name},
        }  # fmt: skip
        with target.open("wb") as out, ExitStack() as stack:
            layers = [stack.enter_context(path.open("rb")) for path in self.layers]
            archive = stack.enter_context(tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT))
            text = json.dumps(metadata, sort_keys=True).encode()  # JSON is YAML
            _add(archive, METADATA, TreeEntry(kind=tarfile.REGTYPE, size=len(text), mode=0o644), io.BytesIO(text))
            _add(archive, ROOT, self.tree.root)
            known: dict[int, str] = {}
            for path, entry in self.tree.walk():
                interrupt.check()
                place = f"{ROOT}/{path}"
                first = known.setdefault(id(entry), place)
                if first == place:
                    self.room.take(entry.size)
                _add(archive, place, entry, _Part(layers[entry.layer], entry), first=first)

    def _plain(self, path: Path, number: int) -> Path:
        """A layer as a tar that is not compressed."""
        with path.open("rb") as stream:
            packed = compression.sniff(stream.read(compression.SNIFFED))
            if packed is None:
                return path
            stream.seek(0)
            target = self.work / f"layer-{number}.tar"
            try:
                with target.open("wb") as out:
                    data = compression.opened(stream, packed)
                    limit = min(self._left, streams.bound(path.stat().st_size))
                    self._left -= streams.copy(data.read, out, limit=limit, room=self.room)
            except (DamagedStream, streams.TooLong) as error:
                raise Senseless(f"a layer is damaged, or unpacks to too much: {error}") from error
        return target


class _Part:
    """The bytes of a file, out of its layer."""

    def __init__(self, stream: BinaryIO, entry: TreeEntry) -> None:
        self.stream, self.at, self.left = stream, entry.offset, entry.size

    def read(self, size: int) -> bytes:
        self.stream.seek(self.at)
        data = self.stream.read(min(size, self.left))
        self.at += len(data)
        self.left -= len(data)
        return data


def _add(
    archive: tarfile.TarFile, name: str, entry: TreeEntry, data: BinaryIO | _Part | None = None, *, first: str = ""
) -> None:
    member = tarfile.TarInfo(name)
    member.type, member.mode, member.uid, member.gid = entry.kind, entry.mode, entry.uid, entry.gid
    member.mtime, member.linkname, member.pax_headers = entry.mtime, entry.link, dict(entry.attributes)
    if first not in ("", name):
        member.type, member.linkname = tarfile.LNKTYPE, first
    elif entry.kind == tarfile.REGTYPE:
        member.size = entry.size
    archive.addfile(member, data if member.size else None)  # type: ignore[arg-type]  # only read() is called
