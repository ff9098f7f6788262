"""One call of ``provision.run``: batches in order, each recorded where it succeeded, failures kept for the end."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from vmctl import interrupt
from vmctl.errors import Interrupted, UsageError, VmctlError
from vmctl.events import Report, StepDone, StepStarted
from vmctl.layout import ProjectLayout
from vmctl.provision import (
    ansible_in_guest,
    ansible_provisioner,
    failure,
    file_provisioner,
    inputs,
    provision_history,
    provision_state,
    reboot_provisioner,
    run_directory,
    shell_provisioner,
)
from vmctl.provision.context import STEP, RunContext
from vmctl.provision.host_set import HostSet
from vmctl.provision.passwords import Passwords
from vmctl.provision.provisioner_result import ProvisionerResult
from vmctl.provision.summary import Counts, Failure, HostResult, Summary
from vmctl.provision.target import Mode, Target
from vmctl.spec import Ansible, File, Provisioner, Reboot, Shell


@dataclass
class Runner:
    """Runs provisioners over targets, and keeps the books."""

    host_set: HostSet
    targets: tuple[Target, ...]
    layout: ProjectLayout
    report: Report
    color: bool | None = None
    mode: Mode = field(default_factory=Mode)
    passwords: Passwords = field(default_factory=Passwords)
    _summary: Summary = field(default_factory=lambda: Summary({}))
    _failures: list[Failure] = field(default_factory=list)
    _context_made: RunContext | None = None

    def run(self, *, only: Sequence[str], start: str, force: bool) -> Summary:
        """As ``vmctl.provision.run``."""
        provision_state.check_names(self.host_set.provisioners, [*only, *([start] if start else [])])
        work = {
            target.name: provision_state.pending(target, target.layout, force=force, only=only, start=start)
            for target in self.targets
        }
        planned = batches(work)
        for item, _ in planned:
            self._check(item)
        self._summary = Summary({name: HostResult() for name, items in work.items() if items})
        if not planned:
            return self._summary
        self.host_set.prepare()
        names = {name: [item.name for item in items] for name, items in work.items() if items}
        return provision_history.recorded(self.layout, self.host_set, names, self.mode, lambda: self._run(planned))

    def _run(self, batches: Sequence[tuple[Provisioner, tuple[str, ...]]]) -> Summary:
        with ExitStack() as stack:
            for number, (item, names) in enumerate(batches, 1):
                self._batch(item, number, names, stack)
        if self._failures:
            raise failure.error(self._failures, self._summary, self.host_set)
        return self._summary

    def _check(self, item: Provisioner) -> None:
        """Refuse what cannot work, and ask for passwords, before anything runs."""
        match item:
            case Ansible():
                ansible_provisioner.check(self.host_set, item)
                self.passwords.ask_for(item)
            case Shell():
                shell_provisioner.check(item)
            case File():
                file_provisioner.check(item)
            case Reboot():
                pass

    def _batch(self, item: Provisioner, number: int, names: Sequence[str], stack: ExitStack) -> None:
        """One provisioner over the machines that need it, without those on which something failed before."""
        for name in names:
            if self._summary.machines[name].failed:
                self._summary.machines[name].not_attempted.append(item.name)
        targets = [target for target in self.targets if target.name in names and not self._result(target).failed]
        if not targets:
            return
        interrupt.check()
        digest = inputs.digest(item)  # before the run: what changes meanwhile has not been applied
        text = f"running {item.name} on {', '.join(target.name for target in targets)}"
        self.report(StepStarted(step=STEP, text=text))
        started = time.monotonic()
        outcomes = self._tried(item, number, targets, stack)
        for target, outcome in zip(targets, outcomes, strict=True):
            self._book(item, target, outcome, digest)
        seconds = time.monotonic() - started
        changed = any(outcome.counts.changed for outcome in outcomes)
        self.report(StepDone(step=STEP, seconds=seconds, changed=changed, text=_results_text(item, outcomes)))

    def _result(self, target: Target) -> HostResult:
        return self._summary.machines[target.name]

    def _tried(
        self, item: Provisioner, number: int, targets: Sequence[Target], stack: ExitStack
    ) -> list[ProvisionerResult]:
        """What became of each target; what keeps the provisioner from running at all is a failure of all of them."""
        try:
            return self._perform(item, number, targets, stack)
        except (Interrupted, UsageError):
            raise
        except VmctlError as error:
            names = tuple(target.name for target in targets)
            common = Failure(machines=names, brief=error.brief, details=error.details, hint=error.hint)
            return [ProvisionerResult(machine=name, counts=Counts(failed=1), failure=common) for name in names]

    def _perform(
        self, item: Provisioner, number: int, targets: Sequence[Target], stack: ExitStack
    ) -> list[ProvisionerResult]:
        if isinstance(item, Ansible):
            run = ansible_in_guest.provision if item.mode == "guest" else ansible_provisioner.provision
            return run(item, number, targets, self._context(stack))
        if self.mode.check:
            return [
                ProvisionerResult(machine=target.name, counts=Counts(skipped=1), not_checked=True) for target in targets
            ]
        match item:
            case Shell(on="host"):
                return shell_provisioner.provision_on_host(item, targets, self.host_set.root, self.report)
            case Shell():
                return shell_provisioner.provision(item, targets, self.report)
            case File():
                return file_provisioner.provision(item, targets, self.host_set.root, self.report)
            case Reboot():
                if self._context_made:
                    self._context_made.run_files.forget_connections()
                return reboot_provisioner.provision(item, targets, self.report)

    def _context(self, stack: ExitStack) -> RunContext:
        """Made for the first playbook; the others keep its SSH connections."""
        if self._context_made is None:
            self._context_made = RunContext(
                host_set=self.host_set,
                mode=self.mode,
                run_files=stack.enter_context(run_directory.opened(self.layout)),
                layout=self.layout,
                report=self.report,
                passwords=self.passwords,
                color=_color_wanted() if self.color is None else self.color,
            )
        return self._context_made

    def _book(self, item: Provisioner, target: Target, outcome: ProvisionerResult, digest: str) -> None:
        result = self._result(target)
        result.counts += outcome.counts
        result.changed_tasks += outcome.changes
        if outcome.not_checked:
            result.not_checked.append(item.name)
            return
        if outcome.failure is None:
            if target.layout and not self.mode.check:
                provision_state.mark(target.layout, item, digest)
            result.ran.append(item.name)
            if target.after_success and not self.mode.check:
                target.after_success(item)
            return
        result.failed = item.name
        result.status = outcome.failure.status
        result.failure = outcome.failure
        if outcome.failure not in self._failures:
            self._failures.append(outcome.failure)


def _results_text(item: Provisioner, outcomes: Sequence[ProvisionerResult]) -> str:
    """What a provisioner did, in one line: "site: web-1 3 ok, 1 changed; web-2 failed"."""
    return f"{item.name}: {'; '.join(f'{outcome.machine} {_ended(outcome)}' for outcome in outcomes)}"


def _ended(outcome: ProvisionerResult) -> str:
    if outcome.not_checked:
        return "not run in check mode"
    return outcome.failure.status.value if outcome.failure else str(outcome.counts)


def _color_wanted() -> bool:
    return sys.stderr.isatty() and not os.environ.get("NO_COLOR")


def batches(work: Mapping[str, Sequence[Provisioner]]) -> list[tuple[Provisioner, tuple[str, ...]]]:
    """Provisioners with the machines (by name) that they run on.

    Every machine gets its own provisioners in its own order. Two are the same when all that they say is the same;
    one whose values differ between machines (``{{ machine.name }}``) runs once for each value.
    """
    queues = {name: list(items) for name, items in work.items() if items}
    found: list[tuple[Provisioner, tuple[str, ...]]] = []
    while queues:
        heads = [queue[0] for queue in queues.values()]
        # One that nobody else needs later, so that all who need it get it now.
        pick = next((head for head in heads if not any(head in queue[1:] for queue in queues.values())), heads[0])
        members = tuple(name for name, queue in queues.items() if queue[0] == pick)
        for name in members:
            queues[name].pop(0)
        queues = {name: queue for name, queue in queues.items() if queue}
        found.append((pick, members))
    return found
