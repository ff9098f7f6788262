"""The keys of the top level alone, described as in ``keys``; and faults of keys that stand where they may not."""

from __future__ import annotations

from collections.abc import Mapping

from vmctl import spec
from vmctl.registry import BUILT_IN
from vmctl.vmfile import project_test_keys, remote_keys, trigger_keys
from vmctl.vmfile.box_refs import BOX, NAME
from vmctl.vmfile.described_key import Key, each
from vmctl.vmfile.faults import Faults, unknown_key
from vmctl.vmfile.keys import LARGEST_DISK, MACHINE, size_between
from vmctl.vmfile.kinds import duration, text, whole
from vmctl.vmfile.nodes import Table
from vmctl.vmfile.project_test_keys import TEST_KEYS
from vmctl.vmfile.provider_names import is_provider
from vmctl.vmfile.remote_keys import REMOTES
from vmctl.vmfile.structures import Field, FreeMap, MapOf, TableOf
from vmctl.vmfile.trigger_keys import Triggers

MOST_AT_ONCE = 256
LONGEST_AGE = 10 * 365 * 24 * 3600

TOP_ONLY: dict[str, Key] = {
    "vars": Key(
        FreeMap(),
        "Values for expressions; --set and VMCTL_VAR_name override them.",
        default={},
        write=dict,
        more="See [below](#expressions).",
    ),
    "box_aliases": Key(
        MapOf(BOX, NAME.pattern, "expected the name of a box, without a version"),
        "Boxes that are used in place of named ones: NAME: BOX; the project's stand above the user's own.",
        default={},
        write=None,
        holds="mapping of NAME to a box",
        more="For instance `generic/debian12: debian-12`, `team/web: oci://registry.example.org/team/web`. See "
        "[boxes.md](boxes.md#names-whose-server-has-gone).",
    ),
    "cache": Key(
        TableOf(
            {
                "size": Field(size_between(0, LARGEST_DISK), "Bytes on disk; 0: none.", default="20GiB"),
                "age": Field(duration(60, LONGEST_AGE), "How long what nothing uses is kept.", default="720h"),
            },
            lambda values, _table, _at: spec.Cache(**values),
        ),
        "In your own Vmfile: how many layers of provisioned machines are kept.",
        where="user",
        write=None,
        more="`size` (default `20GiB`; `0` = none) and `age` (default `720h`); see [cache.md](cache.md).",
    ),
    "remotes": Key(
        REMOTES,
        "Real servers by target, for the same provisioners: `vmctl provision --target NAME`.",
        where="project",
        write=lambda several: {one.name: remote_keys.write(one) for one in several},
        holds="mapping of targets",
        otherwise="`{}`",
        more="See [below](#remotes).",
    ),
    "message": Key(text(), "What `vmctl up` says at the end.", where="project"),
    "parallel": Key(
        whole(1, MOST_AT_ONCE),
        "How many machines are worked on at the same time; default: what the host can take.",
        otherwise="what the host can take",
        more="See [below](#how-many-at-the-same-time).",
    ),
    "triggers": Key(
        Triggers(),
        "What runs before or after commands do their work on machines.",
        default=[],
        where="project",
        write=each(trigger_keys.write),
        holds="list",
        more="See [below](#triggers).",
    ),
    "test": Key(
        TEST_KEYS,
        "What `vmctl test` does.",
        where="project",
        write=project_test_keys.write,
        more="See [below](#test).",
    ),
}
"""Keys that may stand at the top level only."""

EXPANDING = ("count", "for_each")
ONE_MACHINE = "belongs to a machine, below `machines:`"
TOP_LEVEL = "belongs to the top level"
USERS = "belongs to your own Vmfile (~/.config/vmctl/Vmfile), not to a project's"
PROJECT = "belongs to a project's Vmfile, not to the user's own"


def check_top(top: Table, faults: Faults) -> None:
    """Record a fault for each key of a project's top level that is unknown, or belongs elsewhere."""
    misplaced = {**dict.fromkeys(EXPANDING, ONE_MACHINE), **_misplaced("user", USERS)}
    _check(top, (*MACHINE, *TOP_ONLY, "machines"), faults, misplaced=misplaced)


def check_user(user: Table, faults: Faults) -> None:
    """As ``check_top``, for the user's own Vmfile."""
    misplaced = {**dict.fromkeys(EXPANDING, ONE_MACHINE), "machines": PROJECT, **_misplaced("project", PROJECT)}
    _check(user, (*MACHINE, *TOP_ONLY, "machines"), faults, misplaced=misplaced)


def _misplaced(where: str, message: str) -> dict[str, str]:
    """The keys that make sense in one kind of Vmfile only, with what to say of them in the other."""
    return {key: message for key, one in {**MACHINE, **TOP_ONLY}.items() if one.where == where}


def check_machine(table: Table, faults: Faults) -> None:
    """As ``check_top``, for a machine."""
    misplaced = dict.fromkeys((*TOP_ONLY, "machines"), TOP_LEVEL)
    _check(table, (*MACHINE, *EXPANDING), faults, misplaced=misplaced)


def _check(table: Table, known: tuple[str, ...], faults: Faults, *, misplaced: Mapping[str, str]) -> None:
    for key, entry in table.entries.items():
        message = misplaced.get(key, "")
        if not message and key not in known and not is_provider(key):
            message = unknown_key(key, (*known, *BUILT_IN))
        if message:
            faults.add(entry.key.place, entry.key.path, message)
