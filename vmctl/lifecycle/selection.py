"""What a command wants of provisioning, and the passwords for it: asked for before anything is created or started."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct, field

from vmctl import provision
from vmctl.layout import MachineLayout
from vmctl.spec import MachineSpec, Provisioner
from vmctl.workspace import Machine


class Selection(Struct, frozen=True, kw_only=True):
    """Which provisioners a command wants to run, and how."""

    only: tuple[str, ...] = ()
    """Names of provisioners to run, done already or not, and no others."""
    start: str = ""
    """Name of the first provisioner to run; "" = the first one."""
    force: bool = False
    """Whether to run what is done already, too."""
    mode: provision.Mode = field(default_factory=provision.Mode)
    passwords: provision.Passwords = field(default_factory=provision.Passwords)
    """What the user has typed, for all that the command runs."""

    @property
    def names(self) -> list[str]:
        """The names of provisioners that the user has written."""
        return [*self.only, *([self.start] if self.start else [])]

    def pending(self, spec: MachineSpec, layout: MachineLayout | None) -> tuple[Provisioner, ...]:
        """As ``vmctl.provision.pending``."""
        return provision.pending(spec, layout, force=self.force, only=self.only, start=self.start)

    def ask(self, machines: Iterable[Machine]) -> None:
        """Ask for the passwords of what the machines need by their records; one that does not exist needs all.

        Raises:
            UsageError: there is no terminal to ask for them.
        """
        for machine in machines:
            if machine.spec:
                self._ask(machine.spec, machine.layout if machine.observed else None)

    def ask_for_new(self, specs: Iterable[MachineSpec]) -> None:
        """As ``ask``, for machines that are yet to be made.

        Raises:
            UsageError: there is no terminal to ask for them.
        """
        for spec in specs:
            self._ask(spec, None)

    def _ask(self, spec: MachineSpec, layout: MachineLayout | None) -> None:
        if any(map(self.passwords.lacks, spec.provision)):  # else there is no need to read and hash files
            for item in self.pending(spec, layout):
                self.passwords.ask_for(item)
