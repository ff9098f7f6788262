"""A machine with two disks on real libvirt, which tests write to while it is off."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.contract.contract_parts import make_definition
from tests.integration.disk_bytes import holds, make_disks, write
from vmctl.spec import MIB
from vmctl_libvirt import LibvirtDriver, domain_edit


class Killed(BaseException):
    """The end of a vmctl that could not put anything right any more."""


class TwoDisks:
    """The machine, whether it is there yet or not, and the box that it is made from."""

    def __init__(self, driver: LibvirtDriver, directory: Path) -> None:
        self.driver = driver
        self.definition = make_definition(directory)
        self.name, self.tag = self.definition.name, self.definition.tag
        self.box = make_disks(directory)

    @property
    def disks(self) -> tuple[str, ...]:
        """What it writes to, or would when started."""
        return tuple(self.of_domain(domain_edit.disks))

    def write(self, byte: int) -> None:
        """Write to its disks while it is off: ``byte`` to the first, one more to the second."""
        for number, path in enumerate(self.disks):
            write(path, byte + number, at=2 * MIB)

    def holds(self, byte: int) -> None:
        """Fail unless the disks hold that, and what the box held."""
        for number, path in enumerate(self.disks):
            holds(path, byte + number, at=2 * MIB)
            holds(path, 1 + number, at=MIB)

    def of_domain(self, ask: Callable[[Any], Any]) -> Any:
        """What a function tells of the machine's domain."""
        return self.driver._connection.run(lambda opened: ask(opened.lookupByName(self.name)), "look")
