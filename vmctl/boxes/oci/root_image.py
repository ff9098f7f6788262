"""Root file systems out of container images: tar layers, laid above each other, as one image for Incus and LXD.

Layers are laid as the OCI image specification has it: ``.wh.NAME`` takes NAME of the layers below away, and
``.wh..wh..opq`` all that they have in its directory. The image is written from the layers' own bytes. No file of
theirs is ever made on this host, so owners, set-user-ID bits and attributes need no rights here, and no path or link
of a stranger's is followed.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

from msgspec import Struct, field

from vmctl import interrupt
from vmctl.box_facts import SEEDED_BY_VMCTL
from vmctl.boxes import archive_members, compression, streams
from vmctl.boxes.compression import DamagedStream
from vmctl.boxes.oci.window_layers import Senseless
from vmctl.boxes.space import Room

WHITEOUT, OPAQUE = ".wh.", ".wh..wh..opq"
DIRECTORY_MODE = 0o755
XATTR = "SCHILY.xattr."
MOST_ENTRIES = 500_000
LONGEST_PATH = 4096
MOST_NAMES = 64 * 1024**2
"""Bytes of all paths, links and attributes."""
KEPT = (tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.FIFOTYPE)
DEVICES = (tarfile.CHRTYPE, tarfile.BLKTYPE)
TreePath = tuple[str, ...]
INITS = ("sbin/init", "usr/sbin/init", "init")
SEED, CLOUD_INIT = "usr/lib/vmctl/seed", "usr/bin/cloud-init"
METADATA = "metadata.yaml"
ROOT = "rootfs"


class TreeEntry(Struct):
    """A file, directory, symbolic link or pipe. Several paths with one entry are hard links of each other."""

    kind: bytes = tarfile.DIRTYPE
    layer: int = 0
    """Which layer has its data."""
    offset: int = 0
    """Where in that layer."""
    size: int = 0
    mode: int = DIRECTORY_MODE
    uid: int = 0
    gid: int = 0
    mtime: int = 0
    link: str = ""
    """Where a symbolic link leads."""
    attributes: Mapping[str, str] = field(default_factory=dict)
    """Extended ones, as pax has them."""
    children: dict[str, TreeEntry] | None = None
    """Of a directory."""


class RootTree:
    """What the layers so far make."""

    def __init__(self) -> None:
        self._top: dict[str, TreeEntry] = {}
        self.root = TreeEntry(children=self._top)
        self._count = self._names = 0

    def lay(self, layer: int, members: Iterable[tarfile.TarInfo]) -> None:
        """Lay a layer above those that are there.

        Raises:
            Senseless: it is hostile, or has more than any system needs.
        """
        above: list[tuple[TreePath, tarfile.TarInfo]] = []
        for member in members:
            path = self._path(member)
            if path and path[-1].startswith(WHITEOUT):
                self._hide(path)
            else:
                above.append((path, member))
        for path, member in above:
            self._put(path, member, layer)

    def find(self, path: str) -> TreeEntry | None:
        """What is at a path; links are not followed."""
        found: TreeEntry | None = self.root
        for part in path.split("/"):
            found = found.children.get(part) if found and found.children else None
        return found

    def walk(self) -> Iterator[tuple[str, TreeEntry]]:
        """All paths in order, directories before what is in them; without the root."""
        waiting = [("", self.root)]
        while waiting:
            name, entry = waiting.pop()
            if name:
                yield name, entry
            inside = sorted((entry.children or {}).items(), reverse=True)
            waiting += [(f"{name}/{child}" if name else child, one) for child, one in inside]

    def _path(self, member: tarfile.TarInfo) -> TreePath:
        name = member.name
        parts = tuple(part for part in name.split("/") if part not in ("", "."))
        self._count += 1
        self._names += len(name) + len(member.linkname) + sum(map(len, member.pax_headers.values()))
        if self._count > MOST_ENTRIES or self._names > MOST_NAMES:
            raise Senseless(f"it has more than {MOST_ENTRIES} files, or too long names")
        if name.startswith("/") or ".." in parts or "\0" in name or len(name) > LONGEST_PATH:
            raise Senseless(f"member {name[:200]!r} leads out of the root file system")
        return parts

    def _hide(self, path: TreePath) -> None:
        *parents, last = path
        inside = self._inside(tuple(parents), make=False)
        if last == OPAQUE:
            inside.clear()
        elif (name := last.removeprefix(WHITEOUT)) in ("", ".", ".."):
            raise Senseless(f"member {'/'.join(path)[:200]!r} hides nothing that could be there")
        else:
            inside.pop(name, None)

    def _put(self, path: TreePath, member: tarfile.TarInfo, layer: int) -> None:
        if member.type in DEVICES and path[:1] == ("dev",):
            return  # a container has its own
        new = self._entry(member, layer)
        if not path:
            if new.children is None:
                raise Senseless("its root is not a directory")
            new.children = self._top
            self.root = new
            return
        inside = self._inside(path[:-1], make=True)
        old = inside.get(path[-1])
        if new.children is not None and old is not None and old.children is not None:
            new.children = old.children
        inside[path[-1]] = new

    def _inside(self, path: TreePath, *, make: bool) -> dict[str, TreeEntry]:
        """What is in a directory; one that is not there is empty, and there from then on if ``make``."""
        inside = self._top
        for part in path:
            entry = inside.get(part) or TreeEntry(children={})
            if entry.children is None:
                raise Senseless(f"{'/'.join(path)[:200]!r} lies below something that is not a directory")
            if make:
                inside[part] = entry
            inside = entry.children
        return inside

    def _entry(self, member: tarfile.TarInfo, layer: int) -> TreeEntry:
        if member.islnk():
            return self._linked(member)
        kind = tarfile.REGTYPE if member.isreg() else member.type
        if kind not in KEPT:
            raise Senseless(f"member {member.name[:200]!r} is a device, or of a kind that no system needs")
        if not 0 <= member.uid < 2**31 or not 0 <= member.gid < 2**31 or member.size < 0:
            raise Senseless(f"member {member.name[:200]!r} has an owner or size that makes no sense")
        if kind == tarfile.SYMTYPE and (not member.linkname or len(member.linkname) > LONGEST_PATH):
            raise Senseless(f"member {member.name[:200]!r} is a link to nothing")
        attributes = {key: value for key, value in member.pax_headers.items() if key.startswith(XATTR)}
        return TreeEntry(
            kind=kind, layer=layer, offset=member.offset_data, size=member.size if kind == tarfile.REGTYPE else 0,
            mode=member.mode & 0o7777, uid=member.uid, gid=member.gid, mtime=max(0, int(member.mtime)),
            link=member.linkname if kind == tarfile.SYMTYPE else "", attributes=attributes,
            children={} if kind == tarfile.DIRTYPE else None,
        )  # fmt: skip

    def _linked(self, member: tarfile.TarInfo) -> TreeEntry:
        """The entry that a hard link shares."""
        parts = [part for part in member.linkname.split("/") if part not in ("", ".")]
        found = self.find("/".join(parts)) if parts and ".." not in parts else None
        if found is None or found.children is not None:
            raise Senseless(f"member {member.name[:200]!r} is a link to what is not there")
        return found


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
                    self.tree.lay(number, archive_members.headers(stream))
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
