"""Live folders: directories of the host as disks of the container.

Host and container count users differently. Where the kernel can mount a directory with other owners (id-mapped mounts,
or shiftfs), a file of uid 1000 here is one of uid 1000 there, both ways, and of all others as well. Elsewhere, single
uids are let through (``raw.idmap``), for which /etc/subuid must give them to root.

No mapping makes one uid here another one there for a single folder. A writable folder of root's (or of anybody else
than the login user's number) would be read-only to the login user, so it is not offered, and copied instead.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from vmctl.driver import Definition, Share
from vmctl.errors import UsageError
from vmctl.spec import FolderKind, MachineSpec
from vmctl_incus import identity
from vmctl_incus.api import Api

KIND: FolderKind = "bind"
PLACE = "/var/lib/vmctl/folders"
"""Where a container has its folders, by tag, before vmctl binds them to where the Vmfile wants them."""
SUBORDINATE = {"uid": Path("/etc/subuid"), "gid": Path("/etc/subgid")}


def can_shift(api: Api) -> bool:
    """Whether the server's kernel can mount with other owners."""
    features = api.environment.get("kernel_features")
    known = features if isinstance(features, Mapping) else {}
    return any(str(known.get(name)).lower() == "true" for name in ("idmapped_mounts", "shiftfs"))


def kinds(spec: MachineSpec) -> tuple[FolderKind, ...]:
    """How folders of a machine on this host can be shared."""
    writable = [folder.host for folder in spec.folders if not folder.read_only and folder.host.exists()]
    owners = {path.stat().st_uid for path in writable}
    return (KIND,) if len(owners) <= 1 and 0 not in owners else ()


def devices(definition: Definition, api: Api) -> dict[str, dict[str, str]]:
    """The disks that show a machine's folders, by name."""
    shift = {"shift": "true"} if can_shift(api) else {}
    return {share.tag: _device(share) | shift for share in definition.shares}


def _device(share: Share) -> dict[str, str]:
    read_only = {"readonly": "true"} if share.read_only else {}
    return {"type": "disk", "source": str(share.host), "path": f"{PLACE}/{share.tag}", **read_only}


def idmap(definition: Definition, api: Api) -> str:
    """``raw.idmap``: the uids and gids to let through; "" = none need be."""
    if can_shift(api):
        return ""
    return "\n".join(_lines(share.host for share in definition.shares))


def faults(definition: Definition, api: Api) -> Iterator[str]:
    """Why the folders of a machine cannot be shared."""
    for share in definition.shares:
        if not share.host.is_dir():
            yield f"{share.host}: no such directory"
        elif share.owner is not None and not share.read_only:
            yield (
                f"{share.host} belongs to uid {share.host.stat().st_uid}, which would not be the login user's in a"
                " container; use `type: rsync`"
            )
    for line in idmap(definition, api).splitlines():
        kind, number = _words(line)
        if not _is_given(kind, number):
            yield (
                f"the kernel cannot map owners here, and {SUBORDINATE[kind]} does not let {kind} {number} through"
                f" (echo root:{number}:1 | sudo tee -a {SUBORDINATE[kind]})"
            )


def without_shift(found: Mapping[str, Any]) -> dict[str, Any]:
    """Configuration and devices of an instance whose folders' file system cannot be mounted with other owners.

    Raises:
        UsageError: the host lets no single uids through either.
    """
    devices = {name: dict(one) for name, one in found["devices"].items()}
    sources = [Path(one["source"]) for one in devices.values() if one.pop("shift", "") == "true"]
    lines = _lines(sources)
    refused = [line for line in lines if not _is_given(*_words(line))]
    if refused:
        files = (SUBORDINATE[kind] for kind, _ in map(_words, refused))
        commands = (f"echo root:{number}:1 | sudo tee -a {SUBORDINATE[kind]}" for kind, number in map(_words, refused))
        raise UsageError(
            f"the file system of {sources[0]} cannot be mounted with other owners, so its folders cannot be live",
            details=f"It would work if {' and '.join(map(str, files))} let the owner's numbers through.",
            hint="; ".join(commands) + "    # or write `type: rsync`",
        )
    mapped = {"raw.idmap": "\n".join(lines), identity.UNSHIFTED: "true"} if sources else {}
    return {"devices": devices, "config": {**found["config"], **mapped}}


class Memory(Struct, frozen=True):
    """Which file systems of this host its server could not mount with other owners: it need not try in vain again.

    A try costs a start of the machine, and giving all its files other owners twice.
    """

    api: Api
    path: Path
    """One line for each: its id, and which kernel and server that was."""

    def holds(self, devices: Mapping[str, Mapping[str, str]]) -> bool:
        """Whether folders of an instance to be are on such a one."""
        wanted = {self._line(source) for source in _shifted(devices)}
        return bool(wanted) and not wanted.isdisjoint(self._known())

    def add(self, devices: Mapping[str, Mapping[str, str]]) -> None:
        """Remember those of an instance that could not be started."""
        if new := {self._line(source) for source in _shifted(devices)} - self._known():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as stream:
                stream.write("".join(f"{line}\n" for line in sorted(new)))

    def _known(self) -> set[str]:
        try:
            return set(self.path.read_text(encoding="utf-8", errors="replace").splitlines())
        except OSError:
            return set()

    def _line(self, source: Path) -> str:
        environment = self.api.environment
        server = " ".join(str(environment.get(key)) for key in ("kernel_version", "server", "server_version"))
        return f"{os.statvfs(source).f_fsid:x} {server}"


def _shifted(devices: Mapping[str, Mapping[str, str]]) -> list[Path]:
    """The folders that are to be mounted with other owners."""
    found = (Path(one["source"]) for one in devices.values() if one.get("shift") == "true")
    return [path for path in found if path.exists()]


def _lines(sources: Iterable[Path]) -> list[str]:
    stats = [path.stat() for path in sources if path.exists()]
    uids, gids = sorted({one.st_uid for one in stats} - {0}), sorted({one.st_gid for one in stats} - {0})
    return [*(f"uid {uid} {uid}" for uid in uids), *(f"gid {gid} {gid}" for gid in gids)]


def _words(line: str) -> tuple[str, int]:
    kind, number, _ = line.split()
    return kind, int(number)


def _is_given(kind: str, number: int) -> bool:
    try:
        rows: list[Any] = [line.split(":") for line in SUBORDINATE[kind].read_text(encoding="utf-8").splitlines()]
        return any(
            who in ("root", "0") and int(start) <= number < int(start) + int(count) for who, start, count in rows
        )
    except (OSError, ValueError):
        return True  # it is the server that refuses, in its own words
