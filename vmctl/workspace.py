"""A project at work: its Vmfile, its records, the drivers it uses, and what the hypervisors say of its machines."""

from __future__ import annotations

import contextlib
import os
import threading
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

from msgspec import Struct, field

from vmctl import __version__, machine_names, registry
from vmctl.driver import Driver, Host, Tag
from vmctl.events import Report, Warned, ignore
from vmctl.layout import HomeLayout, ProjectLayout
from vmctl.spec import BoxRef, MachineSpec, Project
from vmctl.store import locks, project_identity, records
from vmctl.store.places import ProjectPlace
from vmctl.store.port_leases import Owner, Ports
from vmctl.survey import ABSENT, Machine, Survey, require_known

__all__ = ["ABSENT", "Machine", "Workspace", "from_records", "require_known"]


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
        return self.home.project(self.own_id, self.root)

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

    @property
    def own_id(self) -> str:
        """The project's id, or the one that its first `up` gives it."""
        return self.id or self._new_id

    def ensure_id(self) -> str:
        """The project's id, made now if there is none."""
        place = self._place if self._ensured else None
        if place is None:
            place = project_identity.ensure(self._directory, self.home, wanted=self._new_id, report=self.report)
            self._place, self._ensured = place, True
        return place.id

    def forget(self) -> None:
        """Remove all that vmctl keeps of the project; its machines are gone."""
        if project := self.id:
            project_identity.forget(project, self.home)
        self._place, self._ensured = None, False

    def owner(self, machine: str) -> Owner:
        """The machine, as owner of port leases."""
        return Owner(project=self.own_id, root=str(self.root), machine=machine)

    def tag(self, machine: str) -> Tag:
        """What a machine of this project bears in its hypervisor."""
        return Tag(project=self.own_id, machine=machine, version=__version__, root=str(self.root))

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
        survey = Survey(
            self.home, self.layout, self.root, self.id, specs, self.driver, self.report, option, choose=choose
        )
        return survey.machines(wanted, seek=seek)

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
