"""Bringing machines up and provisioning them, wave by wave, with an eye on what has failed so far."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct, field

from vmctl import interrupt
from vmctl.lifecycle import etc_hosts, fleet, instants, layering, triggers, verbs
from vmctl.lifecycle.capacity import Limits
from vmctl.lifecycle.machine_job import Job, Step
from vmctl.lifecycle.machine_provisioning import sift, waves
from vmctl.lifecycle.outcome import Outcome
from vmctl.lifecycle.plan import Action, plan
from vmctl.lifecycle.selection import Selection
from vmctl.provision import Passwords
from vmctl.spec import Occasion
from vmctl.workspace import Machine, Workspace, require_known


class Options(Struct, frozen=True, kw_only=True):
    """What the command line says beyond the Vmfile."""

    provider: str | None = None
    provision: bool | None = None
    """None: what needs it; True: all; False: none."""
    only: tuple[str, ...] = ()
    """Names of provisioners to run, and no others."""
    destroy_on_error: bool = False
    cold: bool = False
    """Whether new machines are made from their boxes, whatever layers there are, and leave none."""
    instant: bool | None = None
    """Whether machines have their memory kept (None = what the Vmfile says); False: nor do they go on from it."""
    parallel: int | None = None
    """How many machines at the same time; None = what the Vmfile says, else as many as the host can take."""
    fail_fast: bool = False
    """Whether nothing new begins once a machine has failed."""
    event: Occasion = "up"
    """What triggers know the command by."""
    passwords: Passwords = field(default_factory=Passwords)
    """What the user has typed already."""

    @property
    def layers(self) -> bool:
        """Whether new machines may begin with layers: not where somebody says what is to run in them."""
        return not self.cold and self.provision is None and not self.only

    @property
    def selection(self) -> Selection:
        """What is wanted of provisioning, where it is wanted."""
        return Selection(only=self.only, force=bool(self.provision), passwords=self.passwords)


class Rollout(Struct):
    """One `up`, or `reload`, of several machines, all checked and locked by the caller."""

    workspace: Workspace
    options: Options
    steps: Sequence[Step] | None = None
    """The verb's steps, where it is not `up` itself."""
    outcome: Outcome = field(default_factory=Outcome)
    worked: bool = False
    """Whether any machine was brought up (rather than found up)."""

    def run(self, machines: Sequence[Machine]) -> None:
        """Bring machines up and provision them; failures are kept in ``outcome``.

        Without provisioning there is one wave: nothing can wait for it.
        """
        chosen = [machine.name for machine in machines]
        blocks = etc_hosts.present_blocks(self.workspace, machines, restarting=self.steps is not None)
        for number, wave in enumerate(self._waves(machines)):
            able = self._able(wave)
            jobs = [self._job(one, blocks.get(one.name, "")) for one in able]
            self._bring_up(jobs)
            if number == 0:
                etc_hosts.refresh(self.workspace, blocks, locked=chosen)
            if self.options.provision is not False and not self._gives_up():
                self._provision([job for job in jobs if job.name not in self.outcome.lost])
            self._keep_memory(jobs)

    def _job(self, machine: Machine, names: str) -> Job:
        layers, wanted = self.options.layers, self.options.instant
        uses_memory = layers and bool(self.workspace.project.cache.size) and wanted is not False
        instant = uses_memory and bool(wanted or require_known(machine).instant)
        return Job(self.workspace, machine, names=names, layers=layers, instant=instant, uses_memory=uses_memory)

    def _keep_memory(self, jobs: Sequence[Job]) -> None:
        """Keep the memory of those that were made just now and are all that the Vmfile wants."""
        out = {*self.outcome.lost, *self.outcome.unprovisioned}
        due = [job for job in jobs if job.created and job.instant and job.name not in out]
        if due and not self.outcome.provisioning:
            became = fleet.run(due, (Step(instants.keep, "keeping its memory"),), limits=self._limits)
            interrupt.check()
            for job in due:
                if job.name in became.failed:
                    job.warn(f"its memory is not kept: {became.failed[job.name].brief}")
            layering.keep_within(self.workspace, {job.machine.provider for job in due})
        for job in jobs if self.options.instant else ():
            if not (job.created or job.thawed or job.name in out or instants.is_kept(job)):
                job.notice("its memory is not kept: only that of a machine that `up` has just made is")

    def _waves(self, machines: Sequence[Machine]) -> list[list[Machine]]:
        return [list(machines)] if self.options.provision is False else waves(machines)

    def _able(self, wave: Sequence[Machine]) -> list[Machine]:
        """The machines that can begin, after what has failed so far."""
        able = sift(wave, self.outcome)
        if self._gives_up():
            why = f"{min([*self.outcome.failed, *self.outcome.unprovisioned])} failed before it"
            self.outcome.skipped |= {machine.name: why for machine in able}
            return []
        return able

    def _gives_up(self) -> bool:
        return self.options.fail_fast and bool(self.outcome.failed or self.outcome.provisioning)

    def _bring_up(self, jobs: Sequence[Job]) -> None:
        due = [job for job in jobs if self.steps or plan(job.machine).action is not Action.NOTHING]
        doing = {job.name for job in due}
        self.outcome.done += [job.name for job in jobs if job.name not in doing]
        if not due:
            return
        self.worked = True
        created = [job for job in due if job.machine.observed is None]
        steps = triggers.around(self.workspace.project, self.options.event, self.steps or verbs.UP)
        became = fleet.run(due, steps, limits=self._limits)
        if self.options.destroy_on_error and became.failed:
            undo = [Job(self.workspace, job.observe()) for job in created if job.name in became.failed]
            fleet.run(undo, verbs.DESTROY)
        self.outcome.add(became)

    @property
    def _limits(self) -> Limits:
        at_once = self.options.parallel or self.workspace.project.parallel
        return Limits(at_once=at_once, fail_fast=self.options.fail_fast)

    def _provision(self, jobs: Sequence[Job]) -> None:
        from vmctl.lifecycle import machine_provisioning

        machines = [job.machine for job in jobs]
        new = {job.name: job.layering for job in jobs if job.created and job.layering}
        machine_provisioning.provision_wave(self.workspace, machines, self.outcome, self.options.selection, new=new)
