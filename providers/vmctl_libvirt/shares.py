"""virtiofs shares: whether this connection can do them, and how host and guest owners map."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vmctl.driver import Share
from vmctl.errors import VmctlError
from vmctl.spec import FolderKind
from vmctl_libvirt import mapped_virtiofsd
from vmctl_libvirt.connection import Abilities

VIRTIOFSD = (Path("/usr/libexec/virtiofsd"), Path("/usr/lib/virtiofsd"), Path("/usr/lib/qemu/virtiofsd"))
"""Where distributions put it, best first; libvirt itself finds it by its own description files."""
APPARMOR = Path("/sys/module/apparmor/parameters/enabled")
UNMAPPABLE = "{host}: its files belong to uid {owner} on this host, so the guest's user {user} may not write to them"


@dataclass(frozen=True, kw_only=True)
class SharedFolder:
    """One virtiofs device."""

    tag: str
    host: str
    binary: str = ""
    """The program to run in place of virtiofsd; "" = the virtiofsd that libvirt finds."""


@dataclass(frozen=True, kw_only=True)
class Owners:
    """User and group of a folder on the host, and whom they shall be in the guest."""

    host: tuple[int, int]
    guest: tuple[int, int]

    @classmethod
    def of(cls, share: Share) -> Owners:
        """Those of a share.

        Raises:
            VmctlError: the folder can not be looked at.
        """
        try:
            status = share.host.stat()
        except OSError as error:
            raise VmctlError(f"can not share {share.host}", details=str(error), hint=f"ls -ld {share.host}") from error
        host = (status.st_uid, status.st_gid)
        return cls(host=host, guest=share.owner or host)

    @property
    def differ(self) -> bool:
        """Whether the user in the guest would not own the files."""
        return self.host[0] != self.guest[0]


def kinds(abilities: Abilities, programs: Sequence[Path] = VIRTIOFSD) -> tuple[FolderKind, ...]:
    """What a share may be on this connection.

    A remote host can not see the project's folder, and in session mode virtiofsd runs as the user alone, to whom
    the files of nobody but the guest's root would belong.
    """
    if not abilities.runs_guests or not abilities.is_local or abilities.is_session:
        return ()
    return ("virtiofs",) if find(programs) else ()


def find(programs: Sequence[Path] = VIRTIOFSD) -> Path | None:
    """The virtiofsd of this host."""
    return next((program for program in programs if program.exists()), None)


def can_map(apparmor: Path = APPARMOR) -> bool:
    """Whether libvirtd may run a program of ours: AppArmor's profile for it allows only the usual places."""
    try:
        return apparmor.read_text(encoding="ascii").strip() != "Y"
    except OSError:
        return True


def unmappable(shares: Sequence[Share]) -> list[str]:
    """What to tell the user of shares whose owners can not be mapped here."""
    if can_map():
        return []
    pairs = [(share, Owners.of(share)) for share in shares if not share.read_only]
    return [
        UNMAPPABLE.format(host=share.host, owner=owners.host[0], user=owners.guest[0])
        for share, owners in pairs
        if owners.differ
    ]


def shared_folders(shares: Sequence[Share], programs: Path) -> tuple[SharedFolder, ...]:
    """The devices for a machine's shares.

    Args:
        shares: as the core wants them.
        programs: directory for the small programs that run virtiofsd with other owners.
    """
    return tuple(
        SharedFolder(tag=share.tag, host=str(share.host), binary=_binary(Owners.of(share), programs))
        for share in shares
    )


def _binary(owners: Owners, programs: Path) -> str:
    virtiofsd = find()
    if not owners.differ or virtiofsd is None or not can_map():
        return ""
    users, groups = (f"{guest}:{host}" for guest, host in zip(owners.guest, owners.host, strict=True))
    path = programs / f"virtiofsd-{users}-{groups}".replace(":", "-")
    argv = [sys.executable, "-IS", mapped_virtiofsd.__file__, users, groups, str(virtiofsd)]
    _write_program(path, f'#!/bin/sh\nexec {shlex.join(argv)} "$@"\n')
    return str(path)


def _write_program(path: Path, text: str) -> None:
    """Atomically, for another machine's virtiofsd may be starting from it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(text, encoding="utf-8")
    draft.chmod(0o755)
    draft.replace(path)
