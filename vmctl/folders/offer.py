"""Which folders the hypervisor is to offer, and as whose; decided before the machine starts."""

from __future__ import annotations

import hashlib

from vmctl.driver import Features, Share
from vmctl.errors import UsageError
from vmctl.folders import own_files
from vmctl.spec import Folder, FolderKind, MachineSpec

ORDINARY = range(1000, 60000)  # uids of people, by Debian's and most others' rules
DEFAULT_UID = 1000
TAG_LENGTH = 12  # hex digits


def login_uid(spec: MachineSpec) -> int:
    """The uid that the guest's login user should have, so that files need no mapping where that can be.

    It is that of the person who owns the first writable folder. A folder that root (or the system) owns says nothing
    of the kind; its owner is mapped to the login user then (``Share.owner``).
    """
    owners = (folder.host.stat().st_uid for folder in spec.folders if not folder.read_only and folder.host.exists())
    return next((uid for uid in owners if uid in ORDINARY), DEFAULT_UID)


def shares(spec: MachineSpec, features: Features, *, user_uid: int | None) -> tuple[Share, ...]:
    """What the hypervisor offers to the guest: every folder that can be live.

    Args:
        spec: the machine.
        features: what its driver can share.
        user_uid: the login user's uid in the guest; None = not known, so nothing is mapped.

    Raises:
        UsageError: a folder wants a kind that is not to be had, or would show vmctl's own files.
    """
    own_files.check(spec)
    kinds = ((folder, _kind(folder, spec, features)) for folder in spec.folders)
    return tuple(
        Share(
            tag=tag(folder),
            host=folder.host,
            kind=kind,
            read_only=folder.read_only,
            owner=_owner(folder, user_uid),
        )
        for folder, kind in kinds
        if kind != "rsync"
    )


def tag(folder: Folder) -> str:
    """The name that the hypervisor offers a folder under: stable, and one for each guest path (18 bytes)."""
    return f"vmctl-{hashlib.sha256(folder.guest.encode()).hexdigest()[:TAG_LENGTH]}"


def _kind(folder: Folder, spec: MachineSpec, features: Features) -> FolderKind:
    if folder.kind == "rsync" or folder.kind in features.folders:
        return folder.kind
    if folder.kind == "auto":
        return features.folders[0] if features.folders else "rsync"
    offered = " and ".join([*features.folders, "rsync"])
    why = f": {features.no_folders}" if features.no_folders else ""
    raise UsageError(
        f"{spec.name}: the folder {folder.guest} cannot be shared by {folder.kind} here{why}",
        details=f"Here, folders can be shared by {offered}.",
        hint=features.folders_by or "write `type: auto` (or leave it out) to get the best that host and guest can",
    )


def _owner(folder: Folder, user_uid: int | None) -> tuple[int, int] | None:
    if user_uid is None or not folder.host.exists() or folder.host.stat().st_uid == user_uid:
        return None
    return (user_uid, user_uid)
