"""The keys of the top level alone, described as in ``keys``; and faults of keys that stand where they may not.

How ``test:`` is written is here as well; ``remotes:`` and ``triggers:`` have modules of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vmctl import spec
from vmctl.registry import BUILT_IN
from vmctl.spec import ProjectTest, Verifier
from vmctl.vmfile import remote_keys, trigger_keys
from vmctl.vmfile.box_refs import BOX, NAME
from vmctl.vmfile.described_key import Key, each
from vmctl.vmfile.faults import Faults, unknown_key
from vmctl.vmfile.host_paths import EXISTING, FILE, PATH_SCHEMA, parse_existing
from vmctl.vmfile.keys import LARGEST_DISK, MACHINE, size_between
from vmctl.vmfile.kinds import Kind, One, duration, flag, text, whole
from vmctl.vmfile.nodes import Source, Table
from vmctl.vmfile.provider_keys import is_provider
from vmctl.vmfile.reading import Reading
from vmctl.vmfile.remote_keys import REMOTES
from vmctl.vmfile.structures import Either, Field, FreeMap, MapOf, OneOrMore, TableOf
from vmctl.vmfile.trigger_keys import Triggers

PLAYBOOKS = (".yml", ".yaml")
VERIFIERS = ("playbook", "pytest", "script")


def write_test(test: ProjectTest) -> dict[str, Any] | None:
    """What `vmctl test` does, as a Vmfile would write it; None for what it does anyway."""
    if test == ProjectTest():
        return None
    verify = [{kind: str(path) for kind in VERIFIERS if (path := getattr(one, kind))} for one in test.verify]
    return {
        "idempotence": test.idempotence,
        "reboot": test.reboot,
        **({"verify": verify} if verify else {}),
        **({"boxes": [str(box) for box in test.boxes]} if test.boxes else {}),
    }


def _short_verifier(value: Any, source: Source) -> Verifier:
    path = parse_existing(value, source)
    if path.suffix in PLAYBOOKS:
        return Verifier(name=path.stem, playbook=path)
    if path.suffix == ".py" or path.is_dir():
        return Verifier(name=path.stem, pytest=path)
    return Verifier(name=path.stem, script=path)


def _long_verifier(values: dict[str, Any], _table: Table, _at: Reading) -> Verifier:
    (path,) = values.values()
    return Verifier(name=path.stem, **values)


VERIFIER: Kind = Either(
    One("a path on the host", _short_verifier, PATH_SCHEMA),
    TableOf(
        {
            "playbook": Field(FILE, "A playbook; it runs over all machines, with the groups of the others."),
            "pytest": Field(EXISTING, "Tests for pytest, a file or a directory; pytest-testinfra works as well."),
            "script": Field(FILE, "A script that runs in every machine, as the login user."),
        },
        _long_verifier,
        exactly_one=VERIFIERS,
    ),
    "a path, or a mapping",
)

TEST_KEYS = TableOf(
    {
        "verify": Field(OneOrMore(VERIFIER), "What asks whether the machines do their work.", default=[]),
        "idempotence": Field(flag(), "Whether provisioning again must change nothing.", default=True),
        "reboot": Field(flag(), "Whether machines are restarted before they are asked.", default=True),
        "boxes": Field(OneOrMore(BOX), "Boxes to test with, one after the other; default: those of the machines."),
    },
    lambda values, _table, _at: ProjectTest(**values),
)


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
        write=write_test,
        more="See [below](#test).",
    ),
}
"""Keys that may stand at the top level only."""

EXPANDING = ("count", "for_each")
ONE_MACHINE = "belongs to a machine, below `machines:`"
TOP_LEVEL = "belongs to the top level"
USERS = "belongs to your own Vmfile (~/.config/vmctl/Vmfile), not to a project's"
NO_MACHINES = "is about machines, and there are none: neither `machines:` nor `box:`"
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


def refuse_machine_keys(top: Table, faults: Faults) -> None:
    """Without a machine, nothing may be said of machines."""
    for key, entry in top.entries.items():
        if key in MACHINE and key != "provision":
            faults.add(entry.key.place, entry.key.path, NO_MACHINES)


def _check(table: Table, known: tuple[str, ...], faults: Faults, *, misplaced: Mapping[str, str]) -> None:
    for key, entry in table.entries.items():
        message = misplaced.get(key, "")
        if not message and key not in known and not is_provider(key):
            message = unknown_key(key, (*known, *BUILT_IN))
        if message:
            faults.add(entry.key.place, entry.key.path, message)
