"""Which project a directory is. The host's own records say so; what lies in the directory is only compared with them.

A directory is the project that the host has recorded for it (same device, inode and path), however it is spelled and
whatever its ``.vmctl`` says. One that the host does not know is a project only if its claim proves it *and* the
recorded directory is no longer there: then the project was moved. Otherwise it is a copy, and becomes a project of
its own.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import uuid
from collections.abc import Iterator
from pathlib import Path

from msgspec import structs

from vmctl.errors import UsageError, WrongState, shell_command
from vmctl.events import Notice, Report, ignore
from vmctl.layout import HomeLayout
from vmctl.store import carry, claims, files, locks, places
from vmctl.store.claims import Claim
from vmctl.store.places import ProjectPlace, Where


def find(root: Path, home: HomeLayout, *, report: Report = ignore) -> ProjectPlace | None:
    """The project that a directory is; None before its first `up`.

    State that an older vmctl kept in the directory is carried over first, once.
    """
    here = places.where(root)
    if here is None:
        return None
    claim = claims.read(root)
    if claim is not None and not claim.proof and carry.is_due(here, claim, home):
        with _locked(home, report):
            carry.over(here, claim, home)
    return _find(here, claim, home)


def _find(here: Where, claim: Claim | None, home: HomeLayout) -> ProjectPlace | None:
    claimed = places.load(home, claim.id) if claim else None
    if claimed is not None and (claim is None or claim.proof != claimed.claim):
        claimed = None
    if claimed is not None and here.is_same(claimed):
        return claimed  # as it was, or renamed
    for place in places.everywhere(home):
        if here.is_same(place) and place.is_there:
            return place  # whatever it claims
    return claimed if claimed is not None and _has_moved(claimed, here) else None


def _has_moved(place: ProjectPlace, here: Where) -> bool:
    """Whether the recorded directory is gone, so that ``here``, which proves that it knew the project, is it now."""
    if place.is_there or _is_beside(place, here):
        return False
    there = claims.read(Path(place.root))
    return here.path == place.root or there is None or (there.id, there.proof) != (place.id, place.claim)


def _is_beside(place: ProjectPlace, here: Where) -> bool:
    """Whether the recorded directory was only renamed, next to where it was or to where its copy is."""
    for parent in {Path(place.root).parent, Path(here.path).parent}:
        with contextlib.suppress(OSError), os.scandir(parent) as entries:
            for entry in entries:
                if entry.inode() == place.inode and (found := places.where(parent / entry.name)):
                    return found.is_same(place)
    return False


def ensure(root: Path, home: HomeLayout, *, wanted: str | None = None, report: Report = ignore) -> ProjectPlace:
    """The project that a directory is; made one now if it is none. The record and the claim are brought up to date.

    Args:
        root: the directory.
        home: vmctl's data directory.
        wanted: the id that a new project gets.
        report: told of waiting, and of a copy that becomes a project of its own.
    """
    with _locked(home, report):
        here = places.where(root)
        if here is None:
            raise UsageError(f"there is no directory {root}")
        place = find_locked(here, home)
        if place is None:
            _refuse_unknown(here, home)
            _tell_of_copy(here, home, report)
            place = _new(here, wanted or uuid.uuid4().hex)
            places.save(home, place)
        elif not here.is_same(place) or not place.is_there:
            place = _moved(place, here, home)
        with contextlib.suppress(PermissionError):  # of use after a move alone
            claims.write(Path(here.path), Claim(place.id, place.claim))
        return place


def adopt(root: Path, home: HomeLayout, *, report: Report = ignore) -> ProjectPlace:
    """Make a directory the project that it was, because the user says so.

    It is the one that its ``.vmctl`` proves to have been, else the one that was last seen at its path. An id without
    the proof is not believed here either: a stranger's repository may name any, and would get that project's machines.

    Raises:
        UsageError: it is one already, or none that this host knows.
    """
    with _locked(home, report):
        here = places.where(root)
        if here is None:
            raise UsageError(f"there is no directory {root}")
        present = find_locked(here, home)
        if present and places.names_machines(home, present):
            raise UsageError(f"{here.path} has machines of its own", hint="vmctl status")
        place = _former(root, here, present, home)
        if place is None:
            raise UsageError(f"{here.path} is not a project that was known before", hint="vmctl list")
        if present is not None:
            files.remove_tree(home.projects / present.id)  # which has no machines
        place = _moved(place, here, home)
        claims.write(Path(here.path), Claim(place.id, place.claim))
        return place


def _former(root: Path, here: Where, present: ProjectPlace | None, home: HomeLayout) -> ProjectPlace | None:
    """The project that a directory was before the ``present`` one; None = nothing says which."""
    proven = _proven(root, here, home)
    if proven is not None and (present is None or proven.id != present.id):
        return proven
    seen_there = [one for one in at(root, home) if present is None or one.id != present.id]
    return seen_there[0] if len(seen_there) == 1 else None


def _proven(root: Path, here: Where, home: HomeLayout) -> ProjectPlace | None:
    """The project that a directory's ``.vmctl`` proves it to have been."""
    claim = claims.read(root)
    if claim is None:
        return None
    place = places.load(home, claim.id)
    if place is None and not claim.proof:  # an older vmctl made it, which knew no proofs; the user vouches for it now
        carry.over(here, claim, home, believed=True)
        return places.load(home, claim.id)
    return place if place is not None and claim.proof == place.claim else None


def _moved(place: ProjectPlace, here: Where, home: HomeLayout) -> ProjectPlace:
    place = structs.replace(place, root=here.path, device=here.device, inode=here.inode, generation=here.generation)
    places.save(home, place)
    return place


def find_locked(here: Where, home: HomeLayout) -> ProjectPlace | None:
    """As ``find``, for who holds the lock."""
    claim = claims.read(Path(here.path))
    if claim is not None and not claim.proof and carry.is_due(here, claim, home):
        carry.over(here, claim, home)
    return _find(here, claim, home)


def _new(here: Where, project: str) -> ProjectPlace:
    return ProjectPlace(
        id=project, claim=secrets.token_hex(16), root=here.path, device=here.device, inode=here.inode,
        generation=here.generation,
    )  # fmt: skip


def _refuse_unknown(here: Where, home: HomeLayout) -> None:
    """Refuse to make a project of a directory with the machines of one whose records this user does not have.

    Raises:
        WrongState: it has them. They may be a stranger's, so nobody believes them without being told to.
    """
    claim, machines = claims.read(Path(here.path)), carry.left(Path(here.path))
    if claim is None or claim.proof or not machines or places.load(home, claim.id):
        return
    if original := carry.indexed(claim, home):
        raise WrongState(
            f"{here.path} is a copy of {original}, which an older vmctl made",
            details="Two directories cannot own the same machines.",
            hint=shell_command("vmctl", "-C", original, "status") + "    # then the copy can be a project of its own",
        )
    raise WrongState(
        f"{here.path}/.vmctl has machines that vmctl has no record of: {', '.join(machines)}",
        details="An older vmctl made them with another data directory, or the files came from elsewhere.",
        hint="vmctl adopt    # takes them over; only if you made them",
    )


def _tell_of_copy(here: Where, home: HomeLayout, report: Report) -> None:
    claim = claims.read(Path(here.path))
    if claim is None:
        return
    original = places.load(home, claim.id)
    whose = f"a copy of {original.root}" if original else "from another host, or was another user's"
    report(Notice(text=f"{here.path} is {whose}; it is a project of its own now, with machines of its own"))


@contextlib.contextmanager
def _locked(home: HomeLayout, report: Report) -> Iterator[None]:
    with locks.hold(home.locks / "projects", "the records of projects", report=report):
        yield


def at(root: Path, home: HomeLayout) -> list[ProjectPlace]:
    """The projects that were last seen at this path, whatever directory is there now."""
    path = os.path.realpath(root)
    return [place for place in places.everywhere(home) if place.root == path]


def known(home: HomeLayout, *, report: Report = ignore) -> list[ProjectPlace]:
    """All projects of this user, those of an older vmctl included: they are carried over first, where that can be."""
    if carry.is_anything_due(home):
        with _locked(home, report):
            carry.all_over(home, report)
    return list(places.everywhere(home, report))


def forget(project: str, home: HomeLayout) -> None:
    """Remove all that vmctl keeps of a project (its last machine is gone)."""
    with _locked(home, ignore):
        if places.ID.fullmatch(project):
            files.remove_tree(home.projects / project)
