"""What readers of values share: the faults, the templating in force, and the machines' names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from msgspec import Struct, field

from vmctl.vmfile.faults import Faults, shorten
from vmctl.vmfile.nodes import Node, Scalar, Sequence

Render = Callable[[Scalar], Any]
"""The value of a scalar that holds an expression; records a fault and raises ``Rejected`` when there is none."""


class Reading(Struct):
    """One pass over values, in the scope of the project or of one machine."""

    faults: Faults
    render: Render
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """What a machine's name in the file stands for: itself, or the machines that ``count`` makes of it."""
    targets: tuple[str, ...] = ()
    """The names below ``remotes:``."""

    def scalar(self, node: Node, what: str) -> Any:
        """The value of a scalar, expressions evaluated; ``what`` is for the fault ("a whole number")."""
        if not isinstance(node, Scalar):
            got = "a list" if isinstance(node, Sequence) else "a mapping"
            self.reject(node, f"expected {what}, got {got}")
        return self.render(node) if node.is_expression else node.value

    def reject(self, node: Node, message: str) -> NoReturn:
        """Record a fault about a node and give its value up."""
        self.faults.reject(node.place, node.path, message)

    def reject_value(self, node: Node, message: str) -> NoReturn:
        """As ``reject``, for what a scalar's value is; says which expression it came from."""
        if isinstance(node, Scalar) and node.is_expression:
            message = f"{message} (from {shorten(node.text.strip())})"
        self.reject(node, message)

    def add(self, node: Node, message: str) -> None:
        """Record a fault and go on."""
        self.faults.add(node.place, node.path, message)
