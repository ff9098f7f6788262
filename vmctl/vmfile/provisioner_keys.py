"""How ``provision:`` is written: a list of entries, in order."""

from __future__ import annotations

from typing import Any, get_args

from msgspec import Struct, structs

from vmctl.provisioners import Ansible, File, Provisioner, Reboot, Run, Shell
from vmctl.vmfile.ansible_keys import ANSIBLE
from vmctl.vmfile.faults import describe
from vmctl.vmfile.host_paths import EXISTING
from vmctl.vmfile.kinds import Kind, Schema, choice, flag, text
from vmctl.vmfile.machine_patterns import MachinePatterns
from vmctl.vmfile.nodes import Node, Scalar, Sequence, Table
from vmctl.vmfile.reading import Reading
from vmctl.vmfile.remote_keys import Targets
from vmctl.vmfile.script_keys import FILE_ENTRY, REBOOT, SHELL
from vmctl.vmfile.structures import Field, ListOf, TableOf

NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}"
NAME_WHY = "a provisioner's name has 1 to 63 letters, digits, '.', '_' and '-'"
NAME = text("a name", NAME_PATTERN, NAME_WHY)
KINDS = ("shell", "ansible", "file", "reboot")


class WrittenProvisioner(Struct, frozen=True):
    """One entry as it was written: the provisioner, and on which machines and where in their order it belongs."""

    item: Provisioner
    table: Table
    machines: tuple[str, ...] | None = None
    """None = all."""
    applies: bool = True
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()


class Condition(Kind):
    """An expression, with or without its braces, read to whether it holds."""

    def read(self, node: Node, at: Reading) -> bool:
        """Its truth."""
        if isinstance(node, Scalar) and isinstance(node.value, str) and not node.is_expression:
            braced = f"{{{{ {node.value} }}}}"
            node = Scalar(node.source, node.line, node.column, node.path, braced, braced)
        value = at.scalar(node, "a condition")
        if not isinstance(value, bool):
            at.reject_value(node, f"expected a condition that is true or false, got {describe(value)}")
        return value

    def schema(self) -> Schema:
        """Text or a boolean."""
        return {"type": ["string", "boolean"]}


class Names(Kind):
    """A provisioner's name or a list of them, read to a tuple."""

    def read(self, node: Node, at: Reading) -> tuple[str, ...]:
        """The names."""
        return tuple(NAME.read(item, at) for item in (node.items if isinstance(node, Sequence) else (node,)))

    def schema(self) -> Schema:
        """Text, or a list of texts."""
        return {"anyOf": [NAME.schema(), {"type": "array", "items": NAME.schema()}]}


def _written(values: dict[str, Any], table: Table, _at: Reading) -> WrittenProvisioner:
    made: Shell | Ansible | File | Reboot = next(values[kind] for kind in KINDS if kind in values)
    kept = {key: values[key] for key in ("name", "run", "sensitive", "inputs", "remotes") if key in values}
    item = structs.replace(made, **kept, place=table.place)
    return WrittenProvisioner(
        item,
        table,
        machines=values.get("machines"),
        applies=values.get("when", True),
        before=values.get("before", ()),
        after=values.get("after", ()),
    )


PROVISIONER = TableOf(
    {
        "shell": Field(SHELL, "Run a script, or commands, in the guest or on the host."),
        "ansible": Field(ANSIBLE, "Run a playbook on all machines that the entry applies to."),
        "file": Field(FILE_ENTRY, "Put a file, a directory or a filled-in template into the guest."),
        "reboot": Field(REBOOT, "Restart the guest and wait until it is back."),
        "name": Field(NAME, "What messages and --only call it; by default the file's name without its ending."),
        "run": Field(choice(*get_args(Run)), "When `vmctl up` runs it.", default="once"),
        "sensitive": Field(flag(), "Whether it puts in secrets: no layer holds them.", default=False),
        "inputs": Field(
            ListOf(EXISTING), "What it uses besides, of shared folders above all: it runs again when that changes."
        ),
        "remotes": Field(Targets(), "Whether it is for servers as well: true, false, or targets' names.", default=True),
        "when": Field(Condition(), "An expression: only machines for which it is true have this provisioner."),
        "machines": Field(MachinePatterns(), "Only these machines have it; names and patterns. Default: all."),
        "before": Field(Names(), "Provisioners that come later than this one."),
        "after": Field(Names(), "Provisioners that come earlier than this one."),
    },
    _written,
    exactly_one=KINDS,
)

PROVISION = ListOf(PROVISIONER)
