"""Reading what VBoxManage prints, and its words for what a machine is doing. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from vmctl.driver import State

UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
PROPERTY = re.compile(r'^(?:"((?:[^"\\]|\\.)*)"|([^="]+))=(.*)$')
LISTED = re.compile(rf'^"(.*)" \{{({UUID})\}}$')
LONG_NAME = re.compile(r"^Name: {2,}")
LONG_UUID = re.compile(rf"^UUID: +({UUID})$")
LONG_STATE = re.compile(r"^State: +(.*?)(?: \(since (.*)\))?$")
LONG_INACCESSIBLE = re.compile(r"^Name: +<inaccessible!?>$")
EXTRADATA = re.compile(r"^Key: (.*?), Value: (.*)$")
RULE_FIELDS = 6
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


@dataclass(frozen=True)
class Shown:
    """A machine's state in a long listing: VirtualBox's word for it, and since when (its own time format)."""

    word: str
    since: str


@dataclass(frozen=True)
class Rule:
    """A port forwarding rule of a NAT NIC."""

    name: str
    protocol: str
    host_ip: str
    host: int
    guest: int


def properties(text: str) -> dict[str, str]:
    r"""Keys and values of ``--machinereadable`` output; the first value of a key counts.

    Values may span lines (a description). Newer versions write quotes inside as ``\"``, older ones as they are, so
    a value ends at the last quote of a line that is not escaped.
    """
    found: dict[str, str] = {}
    lines = iter(text.splitlines())
    for line in lines:
        match = PROPERTY.match(line)
        if match is None:
            continue
        key = _unescaped(match[1]) if match[1] is not None else match[2]
        found.setdefault(key, _value(match[3], lines))
    return found


def _value(first: str, rest: Iterator[str]) -> str:
    if not first.startswith('"'):
        return first
    value = first[1:]
    while not _is_closed(value):
        more = next(rest, None)
        if more is None:
            return _unescaped(value)
        value += "\n" + more
    return _unescaped(value[:-1])


def _is_closed(value: str) -> bool:
    bare = value.rstrip('"')
    if bare == value:
        return False
    backslashes = len(bare) - len(bare.rstrip("\\"))
    return backslashes % 2 == 0 or len(value) - len(bare) > 1


def _unescaped(value: str) -> str:
    return re.sub(r'\\(["\\])', r"\1", value)


def listed(text: str) -> dict[str, str]:
    """``list vms``: name by UUID."""
    return {match[2]: match[1] for match in map(LISTED.match, text.splitlines()) if match}


def long_states(text: str) -> dict[str, Shown]:
    """``list --long vms``: state by UUID. Machines whose entry is not understood are left out."""
    found: dict[str, Shown] = {}
    uuid, inaccessible = "", False
    for line in text.splitlines():
        if LONG_NAME.match(line):
            uuid, inaccessible = "", bool(LONG_INACCESSIBLE.match(line))
        elif not uuid and (match := LONG_UUID.match(line)):
            uuid = match[1]
            if inaccessible:
                found.setdefault(uuid, Shown(INACCESSIBLE, ""))
        elif uuid and uuid not in found and (match := LONG_STATE.match(line)):
            found[uuid] = Shown(match[1].strip(), match[2] or "")
    return found


def extradata(text: str) -> dict[str, str]:
    """``getextradata … enumerate``: value by key."""
    return {match[1]: match[2] for match in map(EXTRADATA.match, text.splitlines()) if match}


def rules(shown: Mapping[str, str]) -> Iterator[Rule]:
    """NIC 1's forwarding rules (vmctl makes none on others), from ``showvminfo``'s properties."""
    for key, value in shown.items():
        if re.fullmatch(r"Forwarding\(\d+\)", key):
            parts = value.rsplit(",", RULE_FIELDS - 1)
            if len(parts) == RULE_FIELDS and parts[3].isdigit() and parts[5].isdigit():
                yield Rule(parts[0], parts[1], parts[2], int(parts[3]), int(parts[5]))


def shares(shown: Mapping[str, str]) -> tuple[str, ...]:
    """Names of the machine's permanent shared folders."""
    return tuple(value for key, value in shown.items() if re.fullmatch(r"SharedFolderNameMachineMapping\d+", key))


def records(text: str) -> Iterator[dict[str, str]]:
    """The blank-line separated ``Key: value`` records of ``list hdds``, ``list hostonlyifs`` and the like."""
    for block in re.split(r"\n\s*\n", text):
        record: dict[str, str] = {}
        for line in block.splitlines():
            key, colon, value = line.partition(":")
            if colon and not line.startswith((" ", "\t")):
                record.setdefault(key.strip(), value.strip())
        if record:
            yield record


def state(word: str) -> State:
    """The state that a word means; UNKNOWN for words that a newer VirtualBox may bring."""
    return STATES.get(letters(word), State.UNKNOWN)


def is_known_state(word: str) -> bool:
    """Whether the word is one of ``STATES``, or names a machine whose files cannot be read."""
    return letters(word) in STATES or word == INACCESSIBLE


def letters(word: str) -> str:
    """The word without blanks, hyphens and case."""
    return re.sub(r"[^a-z]", "", word.lower())
