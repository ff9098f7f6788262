"""One machine's way through the steps of a verb, and what steps and verbs ask about it."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from msgspec import Struct, field

from vmctl import interrupt
from vmctl.driver import Definition, Driver, Features, State, Tag
from vmctl.errors import VmctlError
from vmctl.events import Event, Notice, StepDone, StepStarted, Warned
from vmctl.lifecycle import plan
from vmctl.powers import features_of
from vmctl.spec import MachineSpec
from vmctl.store import records
from vmctl.store.records import Journal, Record
from vmctl.workspace import Machine, Workspace, require_known

if TYPE_CHECKING:
    from vmctl.boxes import Box
    from vmctl.lifecycle.layering import Layering
    from vmctl.ssh import Connection

T = TypeVar("T")


class Token(Struct, frozen=True):
    """What a guest is told that goes on, so that its answer is known from that of another time."""

    text: str
    told: float = field(default_factory=time.monotonic)
    """When that was (``time.monotonic``)."""

    @property
    def age(self) -> float:
        """Seconds since then."""
        return time.monotonic() - self.told


class Job(Struct):
    """What the steps know of their machine, and hand on to each other."""

    workspace: Workspace
    machine: Machine
    box: Box | None = None
    definition: Definition | None = None
    connection: Connection | None = None
    names: str = ""
    """What its guest should know of the other machines' names (``vmctl.lifecycle.etc_hosts``)."""
    layers: bool = False
    """Whether it may begin with a layer, and layers may be made of it."""
    layering: Layering | None = None
    """Its layers, where it can have some."""
    instant: bool = False
    """Whether its memory is to be kept."""
    uses_memory: bool = False
    """Whether it may go on from memory that is kept of it, whoever wanted that."""
    memory: str = ""
    """Key of the memory that it goes on from; "" = none."""
    began: float = field(default_factory=time.monotonic)
    """When work on it began (``time.monotonic``)."""
    created: bool = False
    """The machine was made in this run."""
    started: bool = False
    """The machine was started in this run, and its guest boots."""
    restored: bool = False
    """The machine came back from a saved state in this run."""
    token: Token | None = None
    """What its guest says once it has set itself right, where it was told to wait for that."""
    thawed: bool = False
    """It goes on from the memory of a machine that was destroyed."""
    woken: bool = False
    """All that a guest needs that stood still was done in this run, its folders as well."""
    passed: set[str] = field(default_factory=set)
    """Names of the steps that are behind it, done now or not needed."""
    snapshot: str = ""
    """The snapshot that the verb is about."""
    replace: bool = False
    """Whether a snapshot of that name may be replaced."""

    @property
    def name(self) -> str:
        """The machine's name."""
        return self.machine.name

    @property
    def spec(self) -> MachineSpec:
        """What the Vmfile wants."""
        return require_known(self.machine)

    @property
    def ground(self) -> str:
        """What it is made from, for people."""
        if self.layering is None or not self.layering.depth:
            return self.record.box.name
        return f"layer {self.layering.depth} of {len(self.spec.provision)} on {self.record.box.name}"

    @property
    def tag(self) -> Tag:
        """What the machine bears in the hypervisor; no other is touched."""
        return self.workspace.tag(self.name)

    @property
    def driver(self) -> Driver:
        """The machine's hypervisor."""
        return self.workspace.driver(self.machine.provider)

    @property
    def features(self) -> Features:
        """What the hypervisor can do for this machine."""
        return features_of(self.driver, self.machine.spec) if self.machine.spec else self.driver.features

    @property
    def record(self) -> Record:
        """The machine's record, which an earlier step wrote."""
        if self.machine.record is None:
            raise VmctlError(
                f"vmctl has lost its record of machine {self.name}",
                details="The hypervisor has the machine with all data in it, but its keys and settings are gone from "
                f"{self.machine.layout.root}. A backup of that directory would do.",
                hint=f"ls -la -- {shlex.quote(str(self.machine.layout.root))}",
            )
        return self.machine.record

    @property
    def ground_box(self) -> Box:
        """What ``fetch_box`` has found in the store."""
        return _left_by("fetch_box", self.box)

    @property
    def defined(self) -> Definition:
        """What ``define`` has worked out."""
        return _left_by("define", self.definition)

    @property
    def guest(self) -> Connection:
        """What ``await_ssh`` has opened."""
        return _left_by("await_ssh", self.connection)

    @property
    def journal(self) -> Journal:
        """The machine's journal."""
        return Journal(self.machine.layout.journal)

    def save(self, record: Record) -> None:
        """Write a new record."""
        records.save(self.machine.layout, record)
        self.observe()

    def observe(self) -> Machine:
        """Ask the hypervisor again."""
        (self.machine,) = self.workspace.survey(
            [self.name], option=self.machine.provider if not self.machine.record else None
        )
        return self.machine

    def report(self, event: Event) -> None:
        """Tell an event."""
        self.workspace.report(event)

    def notice(self, text: str) -> None:
        """Tell something the user should know."""
        self.report(Notice(machine=self.name, text=text))

    def warn(self, text: str, hint: str = "") -> None:
        """Tell something that may surprise later."""
        self.report(Warned(machine=self.name, text=text, hint=hint))

    def close(self) -> None:
        """Give back what steps opened."""
        if self.connection is not None:
            self.connection.close()
            self.connection = None


class StepMissing(RuntimeError):
    """An internal error: a verb has a step, and not the one before it that leaves what this one needs."""


def _left_by(step: str, value: T | None) -> T:
    if value is None:
        raise StepMissing(step)
    return value


class Step(Struct, frozen=True):
    """A named step: looks, acts if needed; running it again after any failure finishes the work."""

    act: Callable[[Job], bool | None]
    """Returns False when there was nothing to do."""
    text: str = ""
    """For people, while it runs; ``{job}`` is the Job. "" = not worth a line."""
    when: Callable[[Job], bool] = lambda _job: True
    """Whether there is anything to do; when not, nothing is told."""
    journalled: bool = True
    """False: the step removes the journal."""

    @property
    def name(self) -> str:
        """The step's name in events and the journal."""
        return self.act.__name__


def run(job: Job, steps: Sequence[Step]) -> None:
    """Run steps in order; each is told and journalled. The first failure ends it."""
    for step in steps:
        interrupt.check()
        if step.when(job):
            _run_one(job, step)
        job.passed.add(step.name)


def _run_one(job: Job, step: Step) -> None:
    started = time.monotonic()
    note = job.journal.write if step.journalled else _no_note
    job.report(StepStarted(machine=job.name, step=step.name, text=step.text.format(job=job)))
    note(step.name, "begin")
    try:
        changed = step.act(job)
    except BaseException as error:  # Ctrl-C as well: what was being done then is what a bug report needs
        note(step.name, "failed", error=str(error))
        raise
    note(step.name, "done")
    seconds = time.monotonic() - started
    job.report(StepDone(machine=job.name, step=step.name, seconds=seconds, changed=changed is not False))


def _no_note(_step: str, _phase: str, **_facts: object) -> None:
    """Write nothing."""


def absent(job: Job) -> bool:
    """The machine does not exist."""
    return job.machine.observed is None


def exists(job: Job) -> bool:
    """The machine exists, in whatever state."""
    return job.machine.observed is not None


def off(job: Job) -> bool:
    """The machine exists, and nothing of it is in memory or saved."""
    return job.machine.state in (State.STOPPED, State.CRASHED)


def outdated(job: Job) -> bool:
    """The machine is off, and was defined by an earlier run."""
    return off(job) and not job.created


def not_running(job: Job) -> bool:
    """The machine is not running (or does not exist)."""
    return job.machine.state is not State.RUNNING


def adapts(job: Job) -> bool:
    """The machine runs, and its hypervisor can give it what changed in the Vmfile."""
    return plan.plan(job.machine).action is plan.Action.ADAPT


def not_ready(job: Job) -> bool:
    """The machine was started (or restored), but folders and checks are still to be done."""
    return job.restored or not job.machine.is_ready
