"""Looking at machines: as wanted, as remembered and as they are; one question per provider, however many machines."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from msgspec import Struct, field, structs

from vmctl import machine_names, registry
from vmctl.driver import UNTOLD, Driver, Observed, State
from vmctl.errors import UsageError, VmctlError, WrongState
from vmctl.events import Report, Warned
from vmctl.layout import HomeLayout, MachineLayout, ProjectLayout
from vmctl.powers import LiveForwards
from vmctl.spec import MachineSpec
from vmctl.store import project_identity, records
from vmctl.store.records import Record

logger = logging.getLogger(__name__)

ABSENT = "not created"
States = Mapping[str, Observed]
"""What a provider says of all its machines, by its own names for them."""


class Machine(Struct, frozen=True, kw_only=True):
    """One machine, as wanted (spec), as remembered (record) and as it is (observed)."""

    name: str
    layout: MachineLayout
    spec: MachineSpec | None
    """None: no longer in the Vmfile."""
    record: Record | None
    provider: str
    reason: str
    """Why that provider."""
    observed: Observed | None
    """None: the hypervisor was asked, and has no such machine."""
    domain: str
    """The machine's name in the hypervisor."""
    live_forwards: bool = False
    """Whether its hypervisor can change its forwards while it runs."""

    @property
    def state(self) -> State | None:
        """What it is doing; None when it does not exist."""
        return self.observed.state if self.observed else None

    @property
    def state_text(self) -> str:
        """The state for people and JSON."""
        if self.observed is None:
            return ABSENT
        unknown = self.observed.state is State.UNKNOWN
        return f"unknown ({self.observed.raw})" if unknown else self.observed.state.value

    @property
    def problem(self) -> str:
        """What is wrong with it that its state does not tell; "" = nothing that is known."""
        return self.observed.problem if self.observed else ""

    @property
    def remedy(self) -> str:
        """The command for its problem: one that stands still loses nothing by going on, and much by a restart."""
        return f"vmctl {'resume' if self.state is State.PAUSED else 'reload'} {self.name}"

    @property
    def is_ready(self) -> bool:
        """Whether it runs, and folders and checks were done since it was started."""
        run = self.observed.run if self.observed and self.observed.state is State.RUNNING else ""
        return bool(run) and self.record is not None and self.record.ready_run == run


class Survey(Struct):
    """One look at machines of a project."""

    home: HomeLayout
    layout: ProjectLayout
    root: Path
    project: str | None
    """The project's id; None before its first `up`."""
    specs: Mapping[str, MachineSpec]
    driver: Callable[[str], Driver]
    report: Report
    option: str | None = None
    """The value of --provider."""
    choose: bool = False
    """Whether to settle which provider a machine that does not exist yet would get."""
    states: dict[str, States] = field(default_factory=dict)
    """What each provider that was asked said of all machines."""

    def machines(self, names: Sequence[str], *, seek: bool) -> list[Machine]:
        """As ``Workspace.survey``."""
        found = [self._machine(name, alone=len(names) == 1) for name in names]
        if not (self.choose or seek):
            return found
        former = _former_identities(self.root, self.project, self.home)
        return [
            one if one.observed or one.record or not (self.project or former) else self._sought(one, former)
            for one in found
        ]

    def _machine(self, name: str, *, alone: bool) -> Machine:
        spec, project = self.specs.get(name), self.project
        record = self._record(name, project) if project else None
        wanted = spec.provider if spec else "auto"
        provider, reason = wanted, "Vmfile" if wanted != "auto" else registry.LATER
        if record and not self.choose:
            provider, reason = record.provider, registry.EXISTS
        elif self.choose or project:
            existing = record.provider if record else None
            provider, reason = registry.choose(wanted, option=self.option, existing=existing, driver=self.driver)
        domain, observed = "", None
        if project:
            domain, observed = self._observe(provider, project, name, record, alone=alone)
        if observed is None and reason == registry.EXISTS:
            reason = registry.BEGUN
        return Machine(
            name=name, layout=self.layout.machine(name), spec=spec, record=record, provider=provider, reason=reason,
            observed=observed, domain=domain, live_forwards=self._is_live(provider, observed),
        )  # fmt: skip

    def _is_live(self, provider: str, observed: Observed | None) -> bool:
        return observed is not None and isinstance(self.driver(provider), LiveForwards)

    def _record(self, name: str, project: str) -> Record | None:
        """What is recorded of a machine; whose it is, is not for the record to say."""
        record = records.load(self.layout.machine(name))
        return record.but(project=project, machine=name) if record else None

    def _observe(
        self, provider: str, project: str, name: str, record: Record | None, *, alone: bool
    ) -> tuple[str, Observed | None]:
        """The machine's name in the hypervisor, and what it says of it."""
        domain = record.name if record else machine_names.hypervisor_name(self.root, name, project)
        observed = self._alone(provider, project, name, domain) if alone else None
        if observed is None:
            if provider not in self.states:
                self.states[provider] = self.driver(provider).states()
            domain, observed = _find(self.states[provider], project, name, domain)
            if observed is None and any(seen.tag == UNTOLD for seen in self.states[provider].values()):
                observed = self._alone(provider, project, name, domain)
        if observed is None and not machine_names.is_of(domain, name, project):
            domain = machine_names.hypervisor_name(self.root, name, project)
        return domain, observed

    def _alone(self, provider: str, project: str, name: str, domain: str) -> Observed | None:
        """The machine, where it has the name that is expected, without a question about others.

        Where the hypervisor cannot tell whose a machine is now, the name that vmctl gave it is all that there is to go
        by; nothing is done to such a machine.
        """
        observed = self.driver(provider).observe(domain)
        if observed is None:
            return None
        untold = observed.tag == UNTOLD and machine_names.is_of(domain, name, project)
        return observed if untold or (observed.tag.project, observed.tag.machine) == (project, name) else None

    def _sought(self, machine: Machine, former: Collection[str]) -> Machine:
        """A machine without a record, looked for under all providers."""
        _ask_others(self.states, self.driver, self.report)
        for provider, states in self.states.items():
            domain, observed = _find(states, self.project or "", machine.name, "")
            if observed is None:
                continue
            if self.choose:
                wanted = machine.spec.provider if machine.spec else "auto"
                registry.choose(wanted, option=self.option, existing=provider, driver=self.driver)
            return structs.replace(machine, provider=provider, reason=registry.EXISTS, observed=observed, domain=domain)
        if self.choose:
            _refuse_second(machine.name, former, self.states)
        return machine


def _find(states: States, project: str, machine: str, recorded: str) -> tuple[str, Observed | None]:
    """The machine by its tag; a renamed or moved one is found as well."""
    for name, observed in states.items():
        if (observed.tag.project, observed.tag.machine) == (project, machine):
            return name, observed
    return recorded, None


def require_known(machine: Machine) -> MachineSpec:
    """The machine's spec.

    Raises:
        UsageError: it is no longer in the Vmfile.
    """
    if machine.spec is None:
        raise UsageError(f"machine {machine.name} is no longer in the Vmfile", hint=f"vmctl status {machine.name}")
    return machine.spec


def _former_identities(root: Path, present: str | None, home: HomeLayout) -> frozenset[str]:
    """Ids of other projects that were last seen where this one is: their directory was removed and made again.

    Not those of projects that were moved away and have been used since: they are known to be where they are now.
    """
    return frozenset(place.id for place in project_identity.at(root, home) if place.id != present)


def _ask_others(answers: dict[str, States], driver: Callable[[str], Driver], report: Report) -> None:
    """Ask every provider that is not in ``answers`` yet; one that should answer and does not is told of, and has none.

    Also those that cannot be used now: a hypervisor whose kernel module is not loaded still knows its machines.
    """
    for provider in registry.names():
        if provider in answers:
            continue
        answers[provider] = {}
        try:
            made = driver(provider)
        except registry.NoProvider as error:
            logger.debug("%s is not asked for machines: %s", provider, error)
            continue
        try:
            answers[provider] = made.states()
        except VmctlError as error:
            if problem := made.usable():
                logger.debug("%s is not asked for machines: %s", provider, problem)
                continue
            text = f"{provider} could not be asked whether it has machines of this project: {error.brief}"
            report(Warned(text=text, hint=error.hint))


def _refuse_second(machine: str, former: Collection[str], answers: Mapping[str, States]) -> None:
    """Refuse to make a machine a second time, where the first one's project has lost its identity.

    Raises:
        WrongState: it exists.
    """
    for provider, states in answers.items():
        for name, seen in states.items():
            if seen.tag.project in former and seen.tag.machine == machine:
                raise WrongState(
                    f"machine {machine} exists already: it belongs to a project that was in this directory before",
                    details=f"{provider} has it as {name} ({seen.state.value}), and vmctl has its keys.\n"
                    "If that project was moved, run `vmctl up` in its new directory first.",
                    hint="vmctl adopt    # this directory is that project: it was restored, or cloned again",
                )
