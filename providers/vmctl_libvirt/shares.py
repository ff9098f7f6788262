"""virtiofs shares: whether this connection can do them safely, the programs that see to it, and notes of them."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgspec import Struct, structs

from vmctl.driver import Definition, Features, Share
from vmctl.errors import VmctlError, in_words
from vmctl.spec import Folder, FolderKind
from vmctl_libvirt import confined_virtiofsd, rootless, share_locks, xml_text
from vmctl_libvirt.libvirt_connection import Abilities
from vmctl_libvirt.libvirt_errors import is_code, library
from vmctl_libvirt.rootless import Obstacle

VIRTIOFSD = (Path("/usr/libexec/virtiofsd"), Path("/usr/lib/virtiofsd"), Path("/usr/lib/qemu/virtiofsd"))
"""Where distributions put it, best first; libvirt itself finds it by its own description files."""
APPARMOR = Path("/sys/module/apparmor/parameters/enabled")
PROFILES = (Path("/etc/apparmor.d/local/usr.sbin.libvirtd"), Path("/etc/apparmor.d/local/usr.sbin.virtqemud"))
"""Where an administrator adds to what libvirt's daemons may do."""
OTHERS = "give that folder `type: rsync`, and the others are live"
ALLOW = "echo '{}/* PUx,' | sudo tee -a /etc/apparmor.d/local/usr.sbin.libvirtd    # docs/libvirt.md has the rest"
DEFAULT_USER = 1000
"""Who shall own root's folder in a guest whose login user's number is not known."""
NOTES_NAMESPACE = "urn:x-vmctl:shares:1"
NOTES_PREFIX = "vmctlshares"
READ_ONLY = "ro"


@dataclass(frozen=True, kw_only=True)
class SharedFolder:
    """One virtiofs device."""

    tag: str
    host: str
    binary: str = ""
    """The program for libvirt to run in place of virtiofsd; "" = vmctl runs it, behind ``socket``."""
    socket: str = ""
    guest: tuple[int, int] = (0, 0)
    """User and group in the guest that the user's files here belong to; for ``socket`` alone, as the next."""
    read_only: bool = False


@dataclass(frozen=True, kw_only=True)
class Owners:
    """User and group of a folder on the host, and whom they shall be in the guest."""

    host: tuple[int, int]
    guest: tuple[int, int]

    @classmethod
    def of(cls, share: Share) -> Owners:
        """Those of a share.

        Raises:
            VmctlError: the folder cannot be looked at.
        """
        try:
            status = share.host.stat()
        except OSError as error:
            raise VmctlError(
                f"cannot share {share.host}", details=in_words(error), hint=f"ls -ld {shlex.quote(str(share.host))}"
            ) from error
        host = (status.st_uid, status.st_gid)
        unknown = (DEFAULT_USER, DEFAULT_USER) if status.st_uid == 0 else host
        return cls(host=host, guest=share.owner or unknown)


def program_directory(home: Path) -> Path:
    """Where the small programs are that libvirt runs in place of virtiofsd."""
    return home / "libvirt"


class ShareKinds(Struct, frozen=True):
    """What a share may be."""

    kinds: tuple[FolderKind, ...] = ()
    why_not: str = ""
    """Why there is nothing."""
    remedy: str = ""
    """A command that would change that."""


def offer(abilities: Abilities, home: Path, programs: Sequence[Path] = VIRTIOFSD) -> ShareKinds:
    """What a share may be on this connection, with programs and sockets of ours below ``home``.

    A remote host cannot see the project's folder. Without our program a guest's root would be the host's.
    """
    if not abilities.runs_guests or not abilities.is_local:
        return ShareKinds(why_not=f"{abilities.uri} does not see the folders of this host")
    if abilities.is_session:
        found = rootless.obstacle(home, find(programs))
    else:
        found = _obstacle(program_directory(home), programs)
    return ShareKinds(why_not=found.reason, remedy=found.remedy) if found else ShareKinds(("virtiofs",))


def _obstacle(directory: Path, programs: Sequence[Path]) -> Obstacle | None:
    if not find(programs):
        return Obstacle("there is no virtiofsd", rootless.INSTALL)
    if not may_run(directory):
        return Obstacle("AppArmor lets libvirtd run no program of vmctl's", ALLOW.format(directory))
    return None


def foreign(folders: Sequence[Folder]) -> str:
    """Why the folders cannot be live in session mode, whose virtiofsd has this user's rights; "" = they can."""
    own = (os.geteuid(), os.getegid())
    for folder in folders:
        if folder.kind != "rsync" and folder.host.exists():
            status = folder.host.stat()
            for kind, number, ours in zip(("user", "group"), (status.st_uid, status.st_gid), own, strict=True):
                if number != ours:
                    return f"{folder.host} belongs to {kind} {number}, not to yours ({ours})"
    return ""


def features(offered: Features, folders: Sequence[Folder], abilities: Abilities) -> Features:
    """What a connection can do for the machine with these folders."""
    if abilities.is_session and offered.folders and (why := foreign(folders)):
        return structs.replace(offered, folders=(), no_folders=why, folders_by=OTHERS)
    return offered


def find(programs: Sequence[Path] = VIRTIOFSD) -> Path | None:
    """The virtiofsd of this host."""
    return next((program for program in programs if program.exists()), None)


def may_run(directory: Path, apparmor: Path = APPARMOR, profiles: Sequence[Path] = PROFILES) -> bool:
    """Whether libvirtd may run programs in there: AppArmor's profile allows the usual places, and what is added."""
    try:
        confined = apparmor.read_text(encoding="ascii").strip() == "Y"
    except OSError:
        return True
    return not confined or any(f"{directory}/" in rootless.text_of(profile) for profile in profiles)


def foreign_owner(folder: Path) -> int | None:
    """Whose a folder is, where that is neither the user who runs vmctl nor anybody, for root runs it; else None.

    virtiofsd is root's, and acts for the folder's owner: it would give the guest more than its user has here.
    """
    owner, user = folder.stat().st_uid, os.geteuid()
    return None if user in (0, owner) else owner


def rootless_folders(definition: Definition, home: Path) -> tuple[SharedFolder, ...]:
    """The devices for a machine's shares in session mode."""
    return tuple(
        SharedFolder(
            tag=share.tag,
            host=str(share.host),
            socket=str(share_locks.socket_path(home, definition.name, share.tag)),
            guest=Owners.of(share).guest,
            read_only=share.read_only,
        )
        for share in definition.shares
    )


def shared_folders(shares: Sequence[Share], programs: Path) -> tuple[SharedFolder, ...]:
    """The devices for a machine's shares.

    Args:
        shares: as the core wants them.
        programs: ``program_directory``.
    """
    return tuple(
        SharedFolder(tag=share.tag, host=str(share.host), binary=_binary(share, Owners.of(share), programs))
        for share in shares
    )


def _binary(share: Share, owners: Owners, programs: Path) -> str:
    virtiofsd = find()
    if virtiofsd is None:
        raise VmctlError(f"cannot share {share.host}: there is no virtiofsd", hint="use `type: rsync`")
    users, groups = (f"{guest}:{host}" for guest, host in zip(owners.guest, owners.host, strict=True))
    mode = "ro" if share.read_only else "rw"
    path = programs / f"virtiofsd-{users}-{groups}-{mode}".replace(":", "-")
    argv = [sys.executable, "-IS", confined_virtiofsd.__file__, users, groups, mode, str(virtiofsd)]
    _write_program(path, f'#!/bin/sh\nexec {shlex.join(argv)} "$@"\n')
    return str(path)


def _write_program(path: Path, text: str) -> None:
    """Atomically, for another machine's virtiofsd may be starting from it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(text, encoding="utf-8")
    draft.chmod(0o755)
    draft.replace(path)


def note_attributes(folder: SharedFolder) -> dict[str, str]:
    """The attributes of a share's element, for the template."""
    return {
        "tag": folder.tag,
        "host": folder.host,
        "socket": folder.socket,
        "uid": str(folder.guest[0]),
        "gid": str(folder.guest[1]),
        "mode": READ_ONLY if folder.read_only else "rw",
    }


def read_notes(domain: Any) -> tuple[SharedFolder, ...]:
    """The shares that a domain's metadata note, as its next start will have them: libvirt knows their sockets alone."""
    libvirt = library()
    try:
        text = domain.metadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, NOTES_NAMESPACE, libvirt.VIR_DOMAIN_AFFECT_CONFIG)
    except libvirt.libvirtError as error:
        if is_code(error, "VIR_ERR_NO_DOMAIN_METADATA"):
            return ()
        raise
    return parse_notes(text)


def parse_notes(text: str) -> tuple[SharedFolder, ...]:
    """The shares in an element as libvirt returns it."""
    return tuple(
        SharedFolder(
            tag=found.get("tag", ""),
            host=found.get("host", ""),
            socket=found.get("socket", ""),
            guest=(int(found.get("uid", "")), int(found.get("gid", ""))),
            read_only=found.get("mode") == READ_ONLY,
        )
        for found in xml_text.parse(text)
    )
