"""The course of a test with one box: phases in order, each told, timed and kept; the first failure ends it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from vmctl import interrupt
from vmctl.errors import Interrupted, ProvisionFailed, VmctlError
from vmctl.events import Event, Notice, Output, StepDone, StepStarted
from vmctl.lifecycle import fleet, machine_provisioning, verbs
from vmctl.lifecycle.machine_job import Job
from vmctl.lifecycle.selection import Selection
from vmctl.lifecycle.up import Options, up
from vmctl.project_test.result import Phase, Suite
from vmctl.project_test.sandbox import Sandbox, write_vmfile
from vmctl.project_test.verify import verify
from vmctl.provision import Passwords
from vmctl.spec import Ansible, File, Project, Verifier
from vmctl.store import files
from vmctl.workspace import Workspace

STEP = "test"
COLOR = re.compile(r"\x1b\[[0-9;]*[mK]")


class Changed(VmctlError):
    """Provisioning a second time changed something."""


@dataclass
class BoxTest:
    """One test, of one place."""

    place: Sandbox
    names: Sequence[str]
    keep: bool = False
    """Whether machines stay when a phase failed."""
    passwords: Passwords = field(default_factory=Passwords)
    """What the user has typed already."""
    suite: Suite = field(init=False)

    def __post_init__(self) -> None:
        self.suite = Suite(name=self.place.name)
        self._report = self.place.workspace.report
        self.place.workspace.report = self._hear
        self._phase: Phase | None = None

    @property
    def _workspace(self) -> Workspace:
        return self.place.workspace

    def run(self) -> Suite:
        """All phases. The machines are gone afterwards, unless one failed and they are to be kept.

        Raises:
            Interrupted: the user asked to stop; the machines are gone as well.
        """
        plan = self._workspace.project.test
        with self.place.locked():
            try:
                self._perform("clean", self._destroy, quiet=True)
                self._perform("up", self._up)
                self._perform("idempotence", self._idempotence, skipped=self._no_idempotence())
                self._perform("reboot", self._reboot, skipped="" if plan.reboot else "the Vmfile says so")
                for verifier in plan.verify:
                    self._perform(f"verify {verifier.name}", partial(self._verify, verifier))
            except Interrupted:
                interrupt.clear()  # what comes now undoes what was begun
                self._destroy()
                raise
            if not (self.keep and self.suite.failed):
                self._perform("destroy", self._destroy, always=True)
        return self.suite

    def _perform(
        self, name: str, act: Callable[[], None], *, skipped: str = "", always: bool = False, quiet: bool = False
    ) -> None:
        phase = self._phase = Phase(name=name, skipped=skipped)
        if self.suite.failed and not always:
            phase.skipped = f"{self.suite.failed[0].name} failed"
        if not quiet:
            self.suite.phases.append(phase)
        if phase.skipped:
            if not self.suite.failed:
                self._report(Notice(text=f"{self.place.name}: {name} skipped: {skipped}"))
            return
        started = time.monotonic()
        self._report(StepStarted(step=STEP, text="" if quiet else f"==> {self.place.name}: {name}"))
        try:
            act()
        except Interrupted:
            raise
        except VmctlError as error:
            phase.failure = error
            if quiet:
                self.suite.phases.append(phase)
        phase.seconds = time.monotonic() - started
        self._report(
            StepDone(step=STEP, seconds=phase.seconds, text="" if quiet else _phase_text(self.place.name, phase))
        )

    def _hear(self, event: Event) -> None:
        if isinstance(event, Output) and self._phase is not None:
            line = COLOR.sub("", event.line)
            self._phase.output.append(f"{event.machine}: {line}" if event.machine else line)
        self._report(event)

    def _up(self) -> None:
        write_vmfile(self.place, self._workspace.project)
        up(self._workspace, self.names, Options(passwords=self.passwords, cold=True), reload=self._reload)

    def _reload(self) -> Project:
        project = self.place.read()
        write_vmfile(self.place, project)
        return project

    def _reboot(self) -> None:
        up(self._workspace, self.names, Options(provision=False, event="reload"), steps=(*verbs.HALT, *verbs.UP))

    def _telling(self) -> list[str]:
        """Names of the provisioners that can tell what they change."""
        items = self._workspace.project.provisioners
        return list(
            dict.fromkeys(item.name for item in items if isinstance(item, Ansible | File) and item.run != "never")
        )

    def _no_idempotence(self) -> str:
        if not self._workspace.project.test.idempotence:
            return "the Vmfile says so"
        return "" if self._telling() else "there is no playbook, and scripts cannot tell what they change"

    def _idempotence(self) -> None:
        with self._workspace.locked(self._existing()):
            machines = [one for one in self._workspace.survey(self._existing()) if one.observed]
            selection = Selection(only=tuple(self._telling()), passwords=self.passwords)
            outcome = machine_provisioning.run(self._workspace, machines, selection)
            outcome.raise_failure()
        changed = {name: result for name, result in outcome.provisioned.items() if result.counts.changed}
        if changed:
            counts = ", ".join(f"{result.counts.changed} on {name}" for name, result in changed.items())
            tasks = [f"{name}: {task}" for name, result in changed.items() for task in result.changed_tasks]
            raise Changed(f"provisioning again changed {counts}", details="\n".join(tasks))

    def _existing(self) -> tuple[str, ...]:
        return tuple(machine.name for machine in self._workspace.survey() if machine.observed)

    def _verify(self, verifier: Verifier) -> None:
        with self._workspace.locked(self._existing()):
            verify(self._workspace, self._existing(), verifier)

    def _destroy(self) -> None:
        names = self._workspace.all_names() if self._workspace.id else ()
        if names:
            with self._workspace.locked(names):
                jobs = [Job(self._workspace, machine) for machine in self._workspace.survey(names)]
                doomed = [job for job in jobs if job.machine.observed or files.exists(job.machine.layout.root)]
                fleet.run(doomed, verbs.DESTROY, reverse=True).raise_failure()
        self.place.remove()


def _phase_text(name: str, phase: Phase) -> str:
    if phase.failure is None:
        return f"{name}: {phase.name} passed in {phase.seconds:.1f} s"
    kind = "failed tasks" if isinstance(phase.failure, ProvisionFailed) else phase.failure.brief
    return f"{name}: {phase.name} failed: {kind}"
