"""Names of machines in the file, and what a reference to one stands for."""

from __future__ import annotations

from vmctl.vmfile.faults import advise, describe
from vmctl.vmfile.kinds import EXPRESSION_SCHEMA, Kind, Schema
from vmctl.vmfile.nodes import Node
from vmctl.vmfile.reading import Reading

PATTERN = r"[a-z0-9][a-z0-9-]{0,30}"
WHY = "a machine's name has 1 to 31 of a-z, 0-9 and '-', and starts with a letter or digit"
RESERVED = ("all", "ungrouped", "localhost")
"""Names that mean something else to Ansible or to the guest."""


class MachineNames(Kind):
    """A machine's name; a name with ``count`` stands for all its machines."""

    def read(self, node: Node, at: Reading) -> tuple[str, ...]:
        """The machines that the name stands for."""
        name = at.scalar(node, "a machine's name")
        if isinstance(name, int) and not isinstance(name, bool):
            name = str(name)
        if not isinstance(name, str):
            at.reject_value(node, f"expected a machine's name, got {describe(name)}")
        if name not in at.names:
            at.reject_value(node, f"there is no machine {describe(name)}{advise(name, at.names)}")
        return at.names[name]

    def schema(self) -> Schema:
        """Any text; which machines there are is beyond a schema."""
        return {"anyOf": [{"type": ["string", "integer"]}, EXPRESSION_SCHEMA]}
