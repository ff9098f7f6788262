"""How ``triggers:`` is written: what runs before or after commands do their work on machines."""

from __future__ import annotations

from typing import Any, get_args

from msgspec import Struct, structs

from vmctl.spec import Occasion, Trigger, When
from vmctl.vmfile.ansible_keys import VARIABLE, VARIABLE_WHY
from vmctl.vmfile.host_paths import FILE, parse_script
from vmctl.vmfile.kinds import Kind, One, Schema, choice, flag, text, word
from vmctl.vmfile.machine_patterns import MachinePatterns
from vmctl.vmfile.nodes import Node, Sequence, Table
from vmctl.vmfile.provisioner_keys import NAME_PATTERN
from vmctl.vmfile.reading import Reading
from vmctl.vmfile.structures import Field, ListOf, MapOf, OneOrMore, TableOf

OFF_BEFORE, OFF_AFTER = ("up", "resume"), ("halt", "suspend", "destroy")
"""When no guest runs that could do anything."""
WHAT = "a script's path, a list of program and arguments, or a mapping"
OCCASION = choice(*get_args(Occasion))
ARGV = ListOf(word())
NAME_WHY = "a trigger's name has 1 to 63 letters, digits, '.', '_' and '-'"

Values = dict[str, Any]


SCRIPT = TableOf(
    {
        "inline": Field(text(), "Commands, run by sh, or by what their first line names."),
        "script": Field(FILE, "A script on the host; its first line says what runs it."),
        "args": Field(ARGV, "Arguments.", default=[]),
    },
    lambda values, _table, _at: values,
    exactly_one=("inline", "script"),
)


class Command(Struct, frozen=True):
    """What a trigger runs, in one of three forms; read to fields of ``Trigger``."""

    short: Kind
    listed: Kind
    long: Kind

    def read(self, node: Node, at: Reading) -> Values:
        """The fields."""
        if isinstance(node, Sequence):
            argv = self.listed.read(node, at)
            return {"argv": argv} if argv else at.reject(node, f"expected {WHAT}, got an empty list")
        if isinstance(node, Table):
            values: Values = self.long.read(node, at)
            return values
        return {"script": self.short.read(node, at)}

    def schema(self) -> Schema:
        """Any of the forms."""
        return {"anyOf": [self.short.schema(), {**self.listed.schema(), "minItems": 1}, self.long.schema()]}


def write(one: Trigger) -> dict[str, Any]:
    """The trigger as a Vmfile would write it."""
    script = {"script": str(one.script)} if one.script else {"inline": one.inline}
    return {
        "name": one.name,
        one.when: list(one.events),
        "run": list(one.argv) if one.argv else {**script, "args": list(one.args)},
        "on": one.on,
        "env": dict(one.env),
        "become": one.become,
        "on_error": one.on_error,
        **({} if one.machines is None else {"machines": list(one.machines)}),
    }


def _build(values: Values, table: Table, at: Reading) -> Trigger:
    when: When = "before" if "before" in values else "after"
    machines = values.pop("machines", None)
    trigger = Trigger(
        when=when,
        events=tuple(dict.fromkeys(values.pop(when))),
        machines=machines,
        place=table.place,
        **{"name": "", **values.pop("run"), **values},
    )
    off = OFF_BEFORE if when == "before" else OFF_AFTER
    for event in trigger.events:
        if trigger.on == "guest" and event in off:
            at.reject(table.get("on") or table, f"no guest runs {when} {event}; only the host can run this")
    if trigger.become and trigger.on == "host":
        at.reject(table.get("become") or table, "goes with `on: guest`; on the host, you are who you are")
    return trigger


TRIGGER = TableOf(
    {
        "before": Field(OneOrMore(OCCASION), "Before which commands do their work on a machine."),
        "after": Field(OneOrMore(OCCASION), "After which commands have done it."),
        "run": Field(
            Command(One("a script's path", parse_script, FILE.json), ARGV, SCRIPT),
            "A script's path, a list of program and arguments, or a mapping with `inline` or `script`.",
            required=True,
        ),
        "on": Field(choice("host", "guest"), "Where it runs.", default="host"),
        "machines": Field(MachinePatterns(), "The machines that it is about; default: all."),
        "env": Field(
            MapOf(word(), VARIABLE, VARIABLE_WHY),
            "Further environment variables.",
            default={},
        ),
        "become": Field(flag(), "Whether it runs as root in the guest.", default=False),
        "on_error": Field(
            choice("abort", "continue"), "Whether a failure is the machine's, or only a warning.", default="abort"
        ),
        "name": Field(text("a name", NAME_PATTERN, NAME_WHY), "What messages call it."),
    },
    _build,
    exactly_one=("before", "after"),
)


class Triggers(Kind):
    """A list of triggers, each with a name."""

    item = ListOf(TRIGGER)

    def read(self, node: Node, at: Reading) -> tuple[Trigger, ...]:
        """All of them, in order."""
        found: tuple[Trigger, ...] = self.item.read(node, at)
        return tuple(structs.replace(one, name=_name(one, number)) for number, one in enumerate(found, 1))

    def schema(self) -> Schema:
        """A list."""
        return self.item.schema()


def _name(trigger: Trigger, number: int) -> str:
    if trigger.name:
        return trigger.name
    if trigger.script:
        return trigger.script.name
    return trigger.argv[0].rpartition("/")[2] if trigger.argv else f"trigger-{number}"
