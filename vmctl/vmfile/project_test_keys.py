"""How ``test:`` is written: what `vmctl test` does, and what asks whether the machines do their work."""

from __future__ import annotations

from typing import Any

from vmctl.spec import ProjectTest, Verifier
from vmctl.vmfile.box_refs import BOX
from vmctl.vmfile.host_paths import EXISTING, FILE, PATH_SCHEMA, parse_existing
from vmctl.vmfile.kinds import Kind, One, flag
from vmctl.vmfile.nodes import Source, Table
from vmctl.vmfile.reading import Reading
from vmctl.vmfile.structures import Either, Field, OneOrMore, TableOf

PLAYBOOKS = (".yml", ".yaml")
VERIFIERS = ("playbook", "pytest", "script")


def write(test: ProjectTest) -> dict[str, Any] | None:
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


def _short(value: Any, source: Source) -> Verifier:
    path = parse_existing(value, source)
    if path.suffix in PLAYBOOKS:
        return Verifier(name=path.stem, playbook=path)
    if path.suffix == ".py" or path.is_dir():
        return Verifier(name=path.stem, pytest=path)
    return Verifier(name=path.stem, script=path)


def _long(values: dict[str, Any], _table: Table, _at: Reading) -> Verifier:
    (path,) = values.values()
    return Verifier(name=path.stem, **values)


VERIFIER: Kind = Either(
    One("a path on the host", _short, PATH_SCHEMA),
    TableOf(
        {
            "playbook": Field(FILE, "A playbook; it runs over all machines, with the groups of the others."),
            "pytest": Field(EXISTING, "Tests for pytest, a file or a directory; pytest-testinfra works as well."),
            "script": Field(FILE, "A script that runs in every machine, as the login user."),
        },
        _long,
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
