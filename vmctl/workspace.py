"""A project at work: its Vmfile, its records, the drivers it uses, and what the hypervisors say of its machines."""

from __future__ import annotations

import contextlib
import os
import threading
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from msgspec import Struct, field, structs

from vmctl import __version__, machine_names, orphans, registry
from vmctl.driver import UNTOLD, Driver, Host, Observed, State, Tag
from vmctl.errors import UsageError
from vmctl.events import Report, Warned, ignore
from vmctl.layout import HomeLayout, MachineLayout, ProjectLayout
from vmctl.spec import BoxRef, MachineSpec, Project
from vmctl.store import locks, project_identity, records
from vmctl.store.places import ProjectPlace
from vmctl.store.port_leases import Owner, Ports
from vmctl.store.records import Record

ABSENT = "not created"


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
    def is_ready(self) -> bool:
        """Whether it runs, and folders and checks were done since it was started."""
        run = self.observed.run if self.observed and self.observed.state is State.RUNNING else ""
        return bool(run) and self.record is not None and self.record.ready_run == run


class Workspace(Struct):
    """Everything about one project that commands need. Asks hypervisors, never remembers their answers."""

    project: Project
    home: HomeLayout
    report: Report = ignore
    lock_timeout: float | None = None
    state: Path | None = None
    """The directory that the machines belong to; None = the project's own (`vmctl test` has another)."""
    _place: ProjectPlace | None = None
    _new_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    """The project's id, should it get one."""
    _ensured: bool = False
    _drivers: dict[str, Driver] = field(default_factory=dict)
    _guard: threading.RLock = field(default_factory=threading.RLock)

    @property
    def layout(self) -> ProjectLayout:
        """Where vmctl keeps what it knows of the project; nothing is there before its first `up`."""
        return self.home.project(self.id or self._new_id, self.root)

    @property
    def root(self) -> Path:
        """The directory by which the machines are known, in the spelling that vmctl has recorded."""
        here = Path(os.path.realpath(self._directory))
        place = self._found()
        return Path(place.root) if place and place.root != str(here) and place.is_there else here

    @property
    def _directory(self) -> Path:
        return self.state or self.project.root

    def _found(self) -> ProjectPlace | None:
        if self._place is None:
            self._place = project_identity.find(self._directory, self.home, report=self.report)
        return self._place

    @property
    def id(self) -> str | None:
        """The project's id; None before its first `up`."""
        place = self._found()
        return place.id if place else None

    def ensure_id(self) -> str:
        """The project's id, made now if there is none."""
        if not self._ensured:
            self._place = project_identity.ensure(self._directory, self.home, wanted=self._new_id, report=self.report)
            self._ensured = True
        assert self._place is not None  # noqa: S101  for the type checker
        return self._place.id

    def forget(self) -> None:
        """Remove all that vmctl keeps of the project; its machines are gone."""
        if project := self.id:
            project_identity.forget(project, self.home)
        self._place, self._ensured = None, False

    def owner(self, machine: str) -> Owner:
        """The machine, as owner of port leases."""
        return Owner(project=self.ensure_id(), root=str(self.root), machine=machine)

    def tag(self, machine: str) -> Tag:
        """What a machine of this project bears in its hypervisor."""
        return Tag(project=self.id or self.ensure_id(), machine=machine, version=__version__, root=str(self.root))

    @property
    def ports(self) -> Ports:
        """The host's port leases."""
        return Ports(self.home, self.report)

    def driver(self, provider: str) -> Driver:
        """The provider's driver, made once."""
        with self._guard:
            if provider not in self._drivers:
                host = Host(
                    home=self.home.root,
                    warn=self._warn,
                    options=self.project.options.get(provider, {}),
                    where=self._where(provider),
                )
                self._drivers[provider] = registry.make(provider, host)
            return self._drivers[provider]

    def _where(self, provider: str) -> str:
        """Where the project's machines are, if it has any under this provider."""
        for name in machine_names.recorded(self.layout):
            record = records.load(self.layout.machine(name))
            if record is not None and record.provider == provider:
                return record.where
        return ""

    def _warn(self, text: str, hint: str) -> None:
        self.report(Warned(text=text, hint=hint))

    def names(self, wanted: Sequence[str] = ()) -> tuple[str, ...]:
        """The machines of the Vmfile that ``wanted`` means; all when nothing is wanted."""
        return machine_names.select([spec.name for spec in self.project.machines], wanted)

    def default_names(self) -> tuple[str, ...]:
        """The machines that a command brings up when none is named: those with ``autostart``."""
        return tuple(spec.name for spec in self.project.machines if spec.autostart)

    def all_names(self, wanted: Sequence[str] = ()) -> tuple[str, ...]:
        """As ``names``, and also machines that have left the Vmfile but still exist."""
        in_file = [spec.name for spec in self.project.machines]
        recorded = [name for name in machine_names.recorded(self.layout) if name not in in_file]
        return machine_names.select([*in_file, *recorded], wanted)

    def survey(
        self,
        names: Sequence[str] | None = None,
        *,
        option: str | None = None,
        choose: bool = False,
        seek: bool = False,
    ) -> list[Machine]:
        """Look at machines: one question per provider, however many machines; one alone is asked about alone.

        Args:
            names: which (None = all of the Vmfile).
            option: the value of --provider.
            choose: settle which provider a machine that does not exist yet would get; implies ``seek``.
            seek: look for a machine without a record under all providers, not only under the one that it would get.

        Raises:
            VmctlError: a hypervisor could not be asked.
            UsageError: ``choose``, and a machine exists under another provider than the wanted one.
            WrongState: ``choose``, and a machine exists that was this project's before its records were removed.
        """
        specs = {spec.name: spec for spec in self.project.machines}
        wanted = list(specs if names is None else names)
        project = self.id
        told: dict[str, Mapping[str, Observed]] = {}
        alone = len(wanted) == 1
        machines = [
            self._look(name, specs.get(name), project, told, option=option, choose=choose, alone=alone)
            for name in wanted
        ]
        if not (choose or seek):
            return machines
        former = orphans.identities(self.root, project, self.home)
        return [
            machine
            if machine.observed or machine.record or not (project or former)
            else self._sought(machine, former, told, option=option, choose=choose)
            for machine in machines
        ]

    def _look(
        self,
        name: str,
        spec: MachineSpec | None,
        project: str | None,
        told: dict[str, Mapping[str, Observed]],
        *,
        option: str | None,
        choose: bool,
        alone: bool,
    ) -> Machine:
        layout = self.layout.machine(name)
        record = self._record(layout, name, project) if project else None
        wanted = spec.provider if spec else "auto"
        provider, reason = wanted, "Vmfile"
        if record and not choose:
            provider, reason = record.provider, registry.EXISTS
        elif choose or project:
            existing = record.provider if record else None
            provider, reason = registry.choose(wanted, option=option, existing=existing, driver=self.driver)
        domain, observed = "", None
        if project:
            domain = record.name if record else machine_names.hypervisor_name(self.root, name, project)
            observed = self._alone(provider, project, name, domain) if alone else None
            if observed is None:
                if provider not in told:
                    told[provider] = self.driver(provider).states()
                domain, observed = _find(told[provider], project, name, domain)
                if observed is None and any(seen.tag == UNTOLD for seen in told[provider].values()):
                    observed = self._alone(provider, project, name, domain)
            if observed is None and not machine_names.is_of(domain, name, project):
                domain = machine_names.hypervisor_name(self.root, name, project)
        return Machine(
            name=name, layout=layout, spec=spec, record=record, provider=provider, reason=reason, observed=observed,
            domain=domain,
        )  # fmt: skip

    def _record(self, layout: MachineLayout, name: str, project: str) -> Record | None:
        """What is recorded of a machine; whose it is, is not for the record to say."""
        record = records.load(layout)
        return record.but(project=project, machine=name) if record else None

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

    def _sought(
        self,
        machine: Machine,
        former: Collection[str],
        told: dict[str, Mapping[str, Observed]],
        *,
        option: str | None,
        choose: bool,
    ) -> Machine:
        """A machine without a record, looked for under all providers."""
        orphans.ask_others(told, self.driver, self.report)
        for provider, states in told.items():
            domain, observed = _find(states, self.id or "", machine.name, "")
            if observed is None:
                continue
            if choose:
                wanted = machine.spec.provider if machine.spec else "auto"
                registry.choose(wanted, option=option, existing=provider, driver=self.driver)
            return structs.replace(machine, provider=provider, reason=registry.EXISTS, observed=observed, domain=domain)
        if choose:
            orphans.refuse(machine.name, former, told)
        return machine

    @contextlib.contextmanager
    def locked(self, names: Sequence[str]) -> Iterator[None]:
        """Hold the locks of machines, taken in one order everywhere, so that two commands never wait for each other."""
        self.ensure_id()
        with contextlib.ExitStack() as stack:
            for name in sorted(names):
                path = self.layout.machine_lock(name)
                what = f"machine {name}"
                stack.enter_context(locks.hold(path, what, timeout=self.lock_timeout, machine=name, report=self.report))
            yield


def _find(states: Mapping[str, Observed], project: str, machine: str, recorded: str) -> tuple[str, Observed | None]:
    """The machine by its tag; a renamed or moved one is found as well."""
    for name, observed in states.items():
        if (observed.tag.project, observed.tag.machine) == (project, machine):
            return name, observed
    return recorded, None


def from_records(file: Path, home: HomeLayout) -> Project:
    """The machines that vmctl has records of, as far as those tell, for commands that can do without the Vmfile."""
    root = file.absolute().parent
    place, specs = project_identity.find(root, home), []
    if place is None:
        return Project(root=root, file=file, machines=())
    layout = place.layout(home)
    for name in machine_names.recorded(layout):
        if record := records.load(layout.machine(name)):
            box = BoxRef(address=record.box.name)
            specs.append(MachineSpec(name=name, box=box, provider=record.provider, user=record.user))
    return Project(root=root, file=file, machines=tuple(specs))


def require_known(machine: Machine) -> MachineSpec:
    """The machine's spec.

    Raises:
        UsageError: it is no longer in the Vmfile.
    """
    if machine.spec is None:
        raise UsageError(f"machine {machine.name} is no longer in the Vmfile", hint=f"vmctl status {machine.name}")
    return machine.spec
