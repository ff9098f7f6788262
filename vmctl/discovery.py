"""The machines of all projects, as the hypervisors tell: wherever machines were made, and would be made now."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from vmctl import machine_names, registry
from vmctl.driver import UNTOLD, Driver, Host, Observed
from vmctl.errors import VmctlError
from vmctl.events import Report, Warned
from vmctl.layout import HomeLayout

UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True, slots=True)
class DiscoveredMachine:
    """One machine that a hypervisor has."""

    driver: Driver
    domain: str
    """Its name there."""
    observed: Observed


@dataclass
class Discovery:
    """What the hypervisors say. One that cannot be asked is warned of."""

    home: HomeLayout
    report: Report
    machines: dict[tuple[str, str], DiscoveredMachine] = field(default_factory=dict)
    """By project id and machine."""
    asked: set[tuple[str, str]] = field(default_factory=set)
    """The places, by provider and ``Driver.where``, that have told of all their machines."""

    def ask(self, places: set[tuple[str, str]]) -> None:
        """Ask at these places, and each usable provider at its first choice, for machines whose project is lost."""
        for provider, where in sorted(places):
            self._ask(provider, where)
        for provider in registry.names():
            if not any(place[0] == provider for place in places) and self._is_usable(provider):
                self._ask(provider, "")

    def member(self, key: tuple[str, str]) -> str:
        """The member of a cluster that has a machine, as far as one told; ``ask`` came before."""
        return self.machines[key].observed.member if key in self.machines else ""

    def with_id(self, wanted: str) -> Iterator[DiscoveredMachine]:
        """The machines whose id starts so; ``ask`` came before."""
        return (
            seen
            for key, seen in self.machines.items()
            if machine_names.short_id(*key).startswith(wanted[: machine_names.ID_LENGTH])
        )

    def _is_usable(self, provider: str) -> bool:
        driver = registry.make_or_none(provider, Host(home=self.home.root))
        return driver is not None and not driver.usable()

    def _ask(self, provider: str, where: str) -> None:
        try:
            driver = registry.make(provider, Host(home=self.home.root, where=where))
            states = driver.states()
        except VmctlError as error:
            self.report(Warned(text=f"{error.brief}; its machines are shown as {UNKNOWN}", hint=error.hint))
            return
        self.machines |= {
            (observed.tag.project, observed.tag.machine): DiscoveredMachine(
                driver=driver, domain=domain, observed=observed
            )
            for domain, observed in states.items()
            if observed.tag != UNTOLD
        }
        if all(observed.tag != UNTOLD for observed in states.values()):
            self.asked.add((provider, where))
