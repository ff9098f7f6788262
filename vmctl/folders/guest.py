"""The guest's half of sharing folders: one script, one round trip, one answer for each folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct, field

from vmctl.driver import Share
from vmctl.errors import VmctlError
from vmctl.spec import Folder

if TYPE_CHECKING:
    from vmctl.ssh import Connection

SCRIPT = Path(__file__).with_name("guest.sh")
BINDS = "/var/lib/vmctl/folders"
"""Where containers have their folders, by tag (``vmctl_incus.folders.PLACE``)."""
TIMEOUT = 120.0
OPTIONS: Mapping[str, tuple[str, ...]] = {"9p": ("trans=virtio", "version=9p2000.L", "msize=262144", "access=any")}


class WantedFolder(Struct, frozen=True, kw_only=True):
    """A folder and what the hypervisor offers for it; no share = rsync."""

    folder: Folder
    share: Share | None = None


class Answer(Struct, kw_only=True):
    """What the guest made of one folder: words of the script (mounted, copy, hides…) with their texts."""

    words: dict[str, str] = field(default_factory=dict)


class Prepared(Struct, frozen=True, kw_only=True):
    """The guest's answer: one for each folder, in the order asked."""

    owner: tuple[int, int]
    """uid and gid of the login user."""
    answers: tuple[Answer, ...]
    still_busy: tuple[str, ...]
    """Folders that were dropped from the Vmfile but could not be unmounted."""


def prepare(connection: Connection, wanted: Sequence[WantedFolder]) -> Prepared:
    """Mount what is offered, make directories for what is copied, unmount what is no longer wanted.

    ``wanted`` must hold parents before what lies in them.

    Raises:
        VmctlError: the script itself failed.
        Unreachable, Interrupted: as for ``Connection.run``.
    """
    words = [word for one in wanted for word in _arguments(one)]
    script = SCRIPT.read_text(encoding="utf-8")
    completed = connection.run(
        ["sh", "-s", "--", connection.login.user, *words], input=script, sudo=True, deadline=TIMEOUT
    )
    return _parse(completed.stdout, len(wanted), completed.stderr)


def _arguments(one: WantedFolder) -> tuple[str, ...]:
    share, guest = one.share, one.folder.guest
    if share is None:
        return ("rsync", "-", guest, "-", "-")
    if share.kind == "bind":  # its hypervisor mounted it, read-only where it is to be
        return ("bind", f"{BINDS}/{share.tag}", guest, fstab_field(guest), "bind,nofail")
    options = ("ro" if share.read_only else "rw", "nofail", *OPTIONS.get(share.kind, ()))
    return (share.kind, share.tag, guest, fstab_field(guest), ",".join(options))


def fstab_field(path: str) -> str:
    """A path as fstab and /proc/mounts write it."""
    return "".join(f"\\{ord(character):03o}" if character in " \t\n\\" else character for character in path)


def _parse(text: str, count: int, errors: str) -> Prepared:
    answers = tuple(Answer() for _ in range(count))
    owner, busy = None, []
    for line in text.splitlines():
        word, number, detail = line.split("\t", 2)
        if word == "user":
            uid, _, gid = detail.partition(":")
            owner = (int(uid), int(gid))
        elif word == "busy":
            busy.append(detail)
        else:
            answers[int(number)].words[word] = detail
    if owner is None:
        raise VmctlError("the guest could not be asked to share folders", details=errors or text)
    return Prepared(owner=owner, answers=answers, still_busy=tuple(busy))
