"""virtiofs shares: whether this connection can do them safely, and the programs that see to it."""

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
from vmctl_libvirt import confined_virtiofsd
from vmctl_libvirt.libvirt_connection import Abilities

VIRTIOFSD = (Path("/usr/libexec/virtiofsd"), Path("/usr/lib/virtiofsd"), Path("/usr/lib/qemu/virtiofsd"))
"""Where distributions put it, best first; libvirt itself finds it by its own description files."""
APPARMOR = Path("/sys/module/apparmor/parameters/enabled")
PROFILES = (Path("/etc/apparmor.d/local/usr.sbin.libvirtd"), Path("/etc/apparmor.d/local/usr.sbin.virtqemud"))
"""Where an administrator adds to what libvirt's daemons may do."""
DEFAULT_USER = 1000
"""Who shall own root's folder in a guest whose login user's number is not known."""


@dataclass(frozen=True, kw_only=True)
class SharedFolder:
    """One virtiofs device."""

    tag: str
    host: str
    binary: str
    """The program to run in place of virtiofsd."""


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
            raise VmctlError(f"cannot share {share.host}", details=str(error), hint=f"ls -ld {share.host}") from error
        host = (status.st_uid, status.st_gid)
        unknown = (DEFAULT_USER, DEFAULT_USER) if status.st_uid == 0 else host
        return cls(host=host, guest=share.owner or unknown)


def program_directory(home: Path) -> Path:
    """Where the small programs are that libvirt runs in place of virtiofsd."""
    return home / "libvirt"


def kinds(abilities: Abilities, directory: Path, programs: Sequence[Path] = VIRTIOFSD) -> tuple[FolderKind, ...]:
    """What a share may be on this connection, with programs of ours in ``directory``.

    A remote host cannot see the project's folder, and in session mode virtiofsd runs as the user alone, to whom
    the files of nobody but the guest's root would belong. Without our program a guest's root would be the host's.
    """
    if not abilities.runs_guests or not abilities.is_local or abilities.is_session:
        return ()
    return ("virtiofs",) if find(programs) and may_run(directory) else ()


def find(programs: Sequence[Path] = VIRTIOFSD) -> Path | None:
    """The virtiofsd of this host."""
    return next((program for program in programs if program.exists()), None)


def may_run(directory: Path, apparmor: Path = APPARMOR, profiles: Sequence[Path] = PROFILES) -> bool:
    """Whether libvirtd may run programs in there: AppArmor's profile allows the usual places, and what is added."""
    try:
        confined = apparmor.read_text(encoding="ascii").strip() == "Y"
    except OSError:
        return True
    return not confined or any(f"{directory}/" in _text(profile) for profile in profiles)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def foreign_owner(folder: Path) -> int | None:
    """Whose a folder is, where that is neither the user who runs vmctl nor anybody, for root runs it; else None.

    virtiofsd is root's, and acts for the folder's owner: it would give the guest more than its user has here.
    """
    owner, user = folder.stat().st_uid, os.geteuid()
    return None if user in (0, owner) else owner


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
