"""Carrying over, once, what vmctl kept in projects' directories until version 0.1: their guests could change it.

Only a project that this user's index of then names is carried over, from the directory that it names (or, where that
is gone, from the one that was moved). Everything is copied, nothing followed; the copy appears whole (a rename), and
only then is the original removed. What was killed on the way is done again, or finished, by the next command.

Not carried over: roles and collections (programs; they are installed again), files of runs, ssh_config (programs may
stand in it; written anew at each login), and the console and seed that a machine which was not off may still use:
they stay until it is started anew.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path

from msgspec import to_builtins

from vmctl import flock
from vmctl.errors import LockTimeout, VmctlError
from vmctl.events import Report, Warned
from vmctl.layout import MACHINE, PROJECT_DIRECTORY, HomeLayout, MachineLayout
from vmctl.store import claims, door, files, places
from vmctl.store.claims import Claim
from vmctl.store.places import ProjectPlace, Where

MACHINES = "machines"
SYNCED = "synced"
OF_PROJECT = ("history",)
OF_MACHINE = (
    "machine.json", "journal", "journal.1", "id_ed25519", "id_ed25519.pub", "host_ed25519", "host_ed25519.pub",
    "first_key", "first_password", "known_hosts", "provisioned.json", "seed.iso", "console.log",
)  # fmt: skip
STILL_USED = ("console.log", "seed.iso")
GONE = ("history", "runner", "galaxy", "lock", "lock.holder", "locks")
"""What else lies in the old place, and is removed from there."""
LARGEST = 64 * 1024**2  # bytes of one file; a console may be long, and its end is what tells


def is_due(here: Where, claim: Claim, home: HomeLayout) -> bool:
    """Whether a directory with a claim of old is to be carried over, or what was carried over is to be removed."""
    place = places.load(home, claim.id)
    if place is not None:
        return here.is_same(place)
    return _is_indexed(here, claim, home)


def _is_indexed(here: Where, claim: Claim, home: HomeLayout) -> bool:
    """Whether the index of old agrees: it names this directory, or one that is not the project any more."""
    known = _index(home).get(claim.id)
    if known is None or not places.ID.fullmatch(claim.id):
        return False
    there = places.where(Path(known))
    if there is not None and there.is_same(here):
        return True
    other = claims.read(Path(known)) if there is not None else None
    return other is None or other.id != claim.id


def over(here: Where, claim: Claim, home: HomeLayout, *, believed: bool = False) -> None:
    """Carry one project over; the lock of the projects is held, and ``is_due`` said yes (before the lock was had).

    ``believed``: the user said so instead.
    """
    old = Path(here.path, PROJECT_DIRECTORY)
    place = places.load(home, claim.id)
    if place is None:
        if not (places.ID.fullmatch(claim.id) and (believed or _is_indexed(here, claim, home))):
            return
        with _quiet(old):
            place = _copied(here, claim, home)
    elif not here.is_same(place):
        return
    _remove(old)
    claims.write(Path(here.path), Claim(place.id, place.claim))


def is_anything_due(home: HomeLayout) -> bool:
    """Whether projects of old are left that could be carried over."""
    return files.exists(home.old_index) and bool(_due(home))


def _due(home: HomeLayout) -> list[tuple[Where, Claim]]:
    found = []
    for project, root in _index(home).items():
        if not places.ID.fullmatch(project) or files.exists(home.projects / project):
            continue
        with contextlib.suppress(OSError):
            here, claim = places.where(Path(root)), claims.read(Path(root))
            if here and claim and claim.id == project and not claim.proof:
                found.append((here, claim))
    return found


def left(root: Path) -> list[str]:
    """Machines of which an older vmctl has left a record in a project's directory."""
    machines = root / PROJECT_DIRECTORY / MACHINES
    return [name for name in files.names(machines) if files.exists(machines / name / "machine.json")]


def indexed(claim: Claim, home: HomeLayout) -> str:
    """The directory that the index of old names for a project; "" = none."""
    return _index(home).get(claim.id, "")


def waits(project: str, root: str, home: HomeLayout) -> bool:
    """Whether a project is still to be carried over, from where it was."""
    claim = claims.read(Path(root))
    return claim is not None and claim.id == project and project in _index(home)


def all_over(home: HomeLayout, report: Report) -> None:
    """Carry over all projects of old; one that cannot be is told of, and must not hide the others."""
    for here, claim in _due(home):
        try:
            over(here, claim, home)
        except (VmctlError, OSError) as error:
            report(Warned(text=f"the project {here.path} cannot be read: {error}"))


def _index(home: HomeLayout) -> Mapping[str, str]:
    data = files.read_json(home.old_index)
    if data is None:
        return {}
    if not isinstance(data, Mapping) or not all(isinstance(root, str) for root in data.values()):
        raise files.damaged(home.old_index, "it is not an index of projects")
    return data


def _copied(here: Where, claim: Claim, home: HomeLayout) -> ProjectPlace:
    """Copy beside the place where it will be, then rename: there is all of it, or nothing."""
    part = home.projects / f".{claim.id}"
    files.remove_tree(part)
    old = Path(here.path, PROJECT_DIRECTORY)
    for name in OF_PROJECT:
        _copy(old / name, part / name)
    for machine in filter(MACHINE.fullmatch, files.names(old / MACHINES)):
        _copy_machine(old / MACHINES / machine, MachineLayout(part / MACHINES / machine))
    place = ProjectPlace(
        id=claim.id, claim=secrets.token_hex(16), root=here.path, device=here.device, inode=here.inode,
        generation=here.generation,
    )  # fmt: skip
    files.write_json(part / "place.json", to_builtins(place))
    files.rename(part, claim.id)
    return place


def _copy_machine(old: Path, new: MachineLayout) -> None:
    files.make_directory(new.root)
    for name in OF_MACHINE:
        _copy(old / name, new.root / name)
    for name in files.names(old / SYNCED):
        _copy(old / SYNCED / name, new.synced / name)


def _copy(old: Path, new: Path) -> None:
    """Copy a plain file, of a long one the end; what is none (a link, a directory) was not vmctl's, and stays."""
    try:
        stream = files.open_to_read(old)
    except (FileNotFoundError, IsADirectoryError, door.ForeignFile):
        return
    with stream:
        found = os.fstat(stream.fileno())
        stream.seek(max(0, found.st_size - LARGEST))
        files.write(new, stream.read(LARGEST), mode=0o644 if new.suffix == ".pub" else files.PRIVATE_FILE)


def _remove(old: Path) -> None:
    """Remove what was copied, but for what a machine that is not off may still use."""
    for machine in files.names(old / MACHINES):
        directory = old / MACHINES / machine
        for name in files.names(directory):
            if name not in STILL_USED:
                _remove_any(directory / name)
    for name in GONE:
        _remove_any(old / name)
    forget_media(old)


def _remove_any(path: Path) -> None:
    files.remove_tree(path)
    with contextlib.suppress(IsADirectoryError):
        files.remove(path)


def forget_media(old: Path, machine: str | None = None) -> None:
    """Remove console and seed of one machine that uses them no longer, and the directories that are empty then."""
    for name in files.names(old / MACHINES) if machine is None else (machine,):
        if machine is not None:
            for left in STILL_USED:
                files.remove(old / MACHINES / name / left)
        files.remove_empty(old / MACHINES / name)
    files.remove_empty(old / MACHINES)


@contextlib.contextmanager
def _quiet(old: Path) -> Iterator[None]:
    """Nobody of an older vmctl works in the project meanwhile.

    Raises:
        LockTimeout: somebody does.
    """
    with contextlib.ExitStack() as stack:
        for name in files.names(old / "locks"):
            with contextlib.suppress(FileNotFoundError, IsADirectoryError, door.ForeignFile):
                handle = door.open_file(old / "locks" / name, os.O_RDWR)
                stack.callback(os.close, handle)
                if not flock.take(handle):
                    raise LockTimeout(
                        f"an older vmctl is at work in {old.parent}", hint="wait for it to end, then run it again"
                    )
        yield
