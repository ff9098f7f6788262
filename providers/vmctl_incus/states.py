"""The server's words for what an instance is doing."""

from __future__ import annotations

from vmctl.driver import State

STATES = {
    "stopped": State.STOPPED,
    "running": State.RUNNING,
    "ready": State.RUNNING,
    "started": State.RUNNING,
    "thawed": State.RUNNING,
    "starting": State.STARTING,
    "stopping": State.STOPPING,
    "aborting": State.STOPPING,
    "freezing": State.PAUSED,
    "frozen": State.PAUSED,
}


def state(word: str) -> State:
    """The state that a word means; UNKNOWN for "Error", which also stands for members of a cluster that are away."""
    return STATES.get(word.lower(), State.UNKNOWN)
