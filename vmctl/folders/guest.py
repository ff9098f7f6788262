"""The project's folders in a running guest: mounts, first copies, and what the user is told of them.

The guest's half is one script, one round trip, with one answer for each folder.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct, field

from vmctl.driver import Features, Share
from vmctl.errors import VmctlError, shell_command
from vmctl.events import Notice, Output, Report, Warned
from vmctl.folders import rsync
from vmctl.folders.offer import tag
from vmctl.login import Login
from vmctl.spec import Folder, MachineSpec

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


def attach(
    connection: Connection,
    spec: MachineSpec,
    shares: Sequence[Share],
    *,
    features: Features,
    login: Login,
    report: Report,
    listing: bool = False,
) -> dict[str, str]:
    """Mount the folders that the hypervisor offers and copy the others; doing it again brings copies up to date.

    Args:
        connection: to the guest.
        spec: the machine.
        shares: what the hypervisor was told to offer when the machine started.
        features: of the machine's driver.
        login: for rsync.
        report: told what was copied, hidden or fell back.
        listing: also tell each file that was copied.

    Returns:
        How each guest path is shared: "virtiofs", "rsync"…

    Raises:
        VmctlError: a folder could not be mounted or copied.
        Unreachable, Interrupted.
    """
    offered = {share.tag: share for share in shares}
    folders = sorted(spec.folders, key=lambda folder: folder.guest.split("/"))
    wanted = [WantedFolder(folder=folder, share=offered.get(tag(folder))) for folder in folders]
    prepared = prepare(connection, wanted)
    for path in prepared.still_busy:
        report(Warned(machine=spec.name, text=f"{path} is no longer in the Vmfile but is still in use in the guest"))
    used = {}
    for one, answer in zip(wanted, prepared.answers, strict=True):
        kind = _result(spec.name, one, answer, features, report)
        used[one.folder.guest] = kind
        if kind == "rsync":
            sent = rsync.send(connection, one.folder, login, owner=prepared.owner)
            _tell_sent(spec.name, one.folder, sent, report, listing=listing)
    return used


def _result(machine: str, one: WantedFolder, answer: Answer, features: Features, report: Report) -> str:
    """How a folder is shared now, by what the guest said; errors and surprises are told."""
    path, words = one.folder.guest, answer.words
    if "failed" in words:
        raise VmctlError(
            f"{machine}: the folder {path} could not be shared", details=words["failed"], hint=f"vmctl reload {machine}"
        )
    if "norsync" in words:
        raise VmctlError(
            f"{machine}: the folder {path} cannot be copied: the guest has no rsync",
            hint=f"vmctl ssh {machine} -c 'sudo apt-get install -y rsync'",
        )
    if "hides" in words:
        report(
            Notice(machine=machine, text=f"{path} was not empty in the guest; the shared folder hides what was there")
        )
    if "unwritable" in words:
        report(
            Warned(
                machine=machine,
                text=f"the guest's login user cannot write to {path}",
                hint=shell_command("ls", "-ld", one.folder.host),
            )
        )
    if "mounted" in words and one.share is not None:
        if one.folder.exclude:
            text = f"{path} is live ({one.share.kind}), so its `exclude` has no effect; `type: rsync` would obey it"
            report(Notice(machine=machine, text=text))
        return one.share.kind
    _tell_fallback(machine, one, words.get("refused", ""), features, report)
    return "rsync"


def _tell_fallback(machine: str, one: WantedFolder, refused: str, features: Features, report: Report) -> None:
    if one.folder.kind == "rsync":
        return
    if one.share is None:
        reason = features.no_folders or "the hypervisor cannot share folders here"
    elif refused:
        reason = f"the guest cannot mount {one.share.kind}: {refused}"
    else:
        reason = f"the guest's kernel has no {one.share.kind}"
    if one.share is not None and one.folder.kind != "auto":
        raise VmctlError(
            f"{machine}: the folder {one.folder.guest} cannot be shared: {reason}",
            hint="write `type: auto` in the Vmfile to have it copied by rsync instead",
        )
    text = f"{one.folder.guest} is a copy ({reason}): `vmctl sync --watch {machine}` keeps it up to date"
    if one.share is None and features.folders_by:
        text += f"; to have it live: {features.folders_by}"
    report(Notice(machine=machine, text=text))


def _tell_sent(machine: str, folder: Folder, sent: rsync.Sent, report: Report, *, listing: bool) -> None:
    if listing:
        _tell_lines(machine, [*sent.changed, *(f"removed {name}" for name in sent.removed)], report)
    if sent.changed or sent.removed:
        report(Notice(machine=machine, text=f"{folder.guest}: {sent}"))
    if sent.skipped:
        text = f"{folder.guest}: not sent, because they are not regular files: {', '.join(sent.skipped)}"
        report(Notice(machine=machine, text=text))


def _tell_lines(machine: str, lines: Iterable[str], report: Report) -> None:
    for line in lines:
        report(Output(machine=machine, line=line, source="rsync"))
