"""VirtualBox's words for what a machine is doing."""

from __future__ import annotations

import re

from vmctl.driver import State

INACCESSIBLE = "inaccessible"

STATES = {
    "poweredoff": State.STOPPED,
    "poweroff": State.STOPPED,
    "teleported": State.STOPPED,
    "saved": State.SAVED,
    "abortedsaved": State.SAVED,
    "aborted": State.CRASHED,
    "gurumeditation": State.CRASHED,
    "stuck": State.CRASHED,
    "running": State.RUNNING,
    "livesnapshotting": State.RUNNING,
    "onlinesnapshotting": State.RUNNING,
    "deletingsnapshotlive": State.RUNNING,
    "teleporting": State.RUNNING,
    "paused": State.PAUSED,
    "deletingsnapshotlivepaused": State.PAUSED,
    "deletingsnapshotpaused": State.PAUSED,
    "teleportingpausedvm": State.PAUSED,
    "starting": State.STARTING,
    "restoring": State.STARTING,
    "settingup": State.STARTING,
    "teleportingin": State.STARTING,
    "teleportingincoming": State.STARTING,
    "stopping": State.STOPPING,
    "saving": State.STOPPING,
    "snapshotting": State.STOPPING,
    "offlinesnapshotting": State.STOPPING,
    "deletingsnapshot": State.STOPPING,
    "restoringsnapshot": State.STOPPING,
}
"""By the letters of the word alone: the long and the short listing differ in blanks and hyphens."""

DEAD = frozenset({"gurumeditation", "stuck"})
"""The machine's process is still there, but nothing runs in it: only cutting the power helps."""


def state(word: str) -> State:
    """The state that a word means; UNKNOWN for words that a newer VirtualBox may bring."""
    return STATES.get(letters(word), State.UNKNOWN)


def is_known(word: str) -> bool:
    """Whether the word is one of those above, or names a machine whose files cannot be read."""
    return letters(word) in STATES or word == INACCESSIBLE


def letters(word: str) -> str:
    """The word without blanks, hyphens and case."""
    return re.sub(r"[^a-z]", "", word.lower())
