"""A root file system out of the layers of a container image, as paths alone: nothing is unpacked on this host.

Layers are laid above each other as the OCI image specification has it: ``.wh.NAME`` takes NAME of the layers below
away, ``.wh..wh..opq`` all that they have in its directory.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterable, Iterator, Mapping

from msgspec import Struct, field

from vmctl.boxes.oci.window_layers import Senseless

WHITEOUT, OPAQUE = ".wh.", ".wh..wh..opq"
DIRECTORY_MODE = 0o755
XATTR = "SCHILY.xattr."
MOST_ENTRIES = 500_000
LONGEST_PATH = 4096
MOST_NAMES = 64 * 1024**2
"""Bytes of all paths, links and attributes."""
KEPT = (tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.FIFOTYPE)
DEVICES = (tarfile.CHRTYPE, tarfile.BLKTYPE)
Path = tuple[str, ...]


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
        above: list[tuple[Path, tarfile.TarInfo]] = []
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

    def _path(self, member: tarfile.TarInfo) -> Path:
        name = member.name
        parts = tuple(part for part in name.split("/") if part not in ("", "."))
        self._count += 1
        self._names += len(name) + len(member.linkname) + sum(map(len, member.pax_headers.values()))
        if self._count > MOST_ENTRIES or self._names > MOST_NAMES:
            raise Senseless(f"it has more than {MOST_ENTRIES} files, or too long names")
        if name.startswith("/") or ".." in parts or "\0" in name or len(name) > LONGEST_PATH:
            raise Senseless(f"member {name[:200]!r} leads out of the root file system")
        return parts

    def _hide(self, path: Path) -> None:
        *parents, last = path
        inside = self._inside(tuple(parents), make=False)
        if last == OPAQUE:
            inside.clear()
        elif (name := last.removeprefix(WHITEOUT)) in ("", ".", ".."):
            raise Senseless(f"member {'/'.join(path)[:200]!r} hides nothing that could be there")
        else:
            inside.pop(name, None)

    def _put(self, path: Path, member: tarfile.TarInfo, layer: int) -> None:
        if member.type in DEVICES and path[:1] == ("dev",):
            return  # a container has its own
        new = self._entry(member, layer)
        if not path:
            if new.children is None:
                raise Senseless("its root is no directory")
            new.children = self._top
            self.root = new
            return
        inside = self._inside(path[:-1], make=True)
        old = inside.get(path[-1])
        if new.children is not None and old is not None and old.children is not None:
            new.children = old.children
        inside[path[-1]] = new

    def _inside(self, path: Path, *, make: bool) -> dict[str, TreeEntry]:
        """What is in a directory; one that is not there is empty, and there from then on if ``make``."""
        inside = self._top
        for part in path:
            entry = inside.get(part) or TreeEntry(children={})
            if entry.children is None:
                raise Senseless(f"{'/'.join(path)[:200]!r} lies below something that is no directory")
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
