"""Triggers of the Vmfile: what runs before and after the work of a command on a machine, on the host or in the guest.

They run for machines on which the command has something to do, and only for those.
"""

from __future__ import annotations

import os
import tempfile
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from vmctl import process, provision
from vmctl.driver import State
from vmctl.errors import Interrupted, VmctlError, from_os
from vmctl.events import Output
from vmctl.lifecycle.guest_steps import login
from vmctl.lifecycle.machine_job import Job, Step
from vmctl.provision.failure import label
from vmctl.spec import Occasion, Project, Shell, Trigger, When
from vmctl.store import files

DETAIL_LINES = 20
NATIVE = b"\x7fELF"
EXEC_ARGUMENTS = 'exec "$@"\n'


class TriggerFailed(VmctlError):
    """What a trigger ran did not succeed."""


def due(project: Project, when: When, event: Occasion, machine: str) -> list[Trigger]:
    """The triggers of a moment in a machine's life, in the order of the Vmfile."""
    return [
        trigger
        for trigger in project.triggers
        if trigger.when == when and event in trigger.events
        if trigger.machines is None or machine in trigger.machines
    ]


def around(project: Project, event: Occasion, steps: Sequence[Step]) -> Sequence[Step]:
    """The steps of a verb, with the triggers of the event before and after them."""
    if not any(event in trigger.events for trigger in project.triggers):
        return steps
    busy: set[str] = set()

    def has_work(job: Job) -> bool:
        if any(step.when(job) for step in steps):
            busy.add(job.name)
        return job.name in busy and bool(due(project, "before", event, job.name))

    def had_work(job: Job) -> bool:
        return job.name in busy and bool(due(project, "after", event, job.name))

    before, after = _step("before", event), _step("after", event)
    return (
        Step(before, f"running triggers before {event}", when=has_work, journalled=False),
        *steps,
        Step(after, f"running triggers after {event}", when=had_work, journalled=False),
    )


def _step(when: When, event: Occasion) -> Callable[[Job], bool]:
    def act(job: Job) -> bool:
        fire(job, when, event)
        return True

    act.__name__ = f"{when}_{event}"
    return act


def fire(job: Job, when: When, event: Occasion) -> None:
    """Run the triggers of a moment, one after the other; what may fail and fails is a warning.

    Raises:
        TriggerFailed: one failed that must not; the others were not run.
        Interrupted: the user asked to stop; what ran is gone.
    """
    for trigger in due(job.workspace.project, when, event, job.name):
        try:
            _run(trigger, job, event)
        except Interrupted:
            raise
        except (VmctlError, OSError) as error:
            failed = from_os(error) if isinstance(error, OSError) else error
            if trigger.on_error == "abort":
                raise _explained(trigger, job, failed) from error
            job.warn(f"trigger {label(trigger)} failed: {failed.brief}")


def _explained(trigger: Trigger, job: Job, error: VmctlError) -> TriggerFailed:
    again = f"correct it (or let it be `on_error: continue`), then run the command for {job.name} again"
    return TriggerFailed(
        f"{job.name}: trigger {label(trigger)} failed: {error.brief}", details=error.details, hint=error.hint or again
    )


def _run(trigger: Trigger, job: Job, event: Occasion) -> None:
    environment = {**variables(trigger, job, event), **trigger.env}
    if trigger.on == "guest":
        _in_guest(trigger, job, environment)
    else:
        _on_host(trigger, job, environment)


def variables(trigger: Trigger, job: Job, event: Occasion) -> dict[str, str]:
    """What the program finds in its environment about what happens."""
    project = job.workspace.project
    return {
        "VMCTL_TRIGGER": trigger.name,
        "VMCTL_WHEN": trigger.when,
        "VMCTL_EVENT": event,
        "VMCTL_MACHINE": job.name,
        "VMCTL_STATE": job.machine.state_text,
        "VMCTL_PROVIDER": job.machine.provider,
        "VMCTL_PROJECT": project.name,
        "VMCTL_PROJECT_DIR": str(project.root),
        "VMCTL_SSH_CONFIG": str(job.machine.layout.ssh_config),
    }


def _on_host(trigger: Trigger, job: Job, environment: Mapping[str, str]) -> None:
    lines: deque[str] = deque(maxlen=DETAIL_LINES)

    def on_line(line: str) -> None:
        lines.append(line)
        job.report(Output(machine=job.name, line=line, source=trigger.name))

    with tempfile.TemporaryDirectory(prefix="vmctl-trigger-") as directory:
        argv = _argv(trigger, Path(directory))
        status = process.stream(argv, on_line, cwd=job.workspace.project.root, env=environment, named=True)
    if status != 0:
        how = f"ended with status {status}" if status > 0 else f"was killed by signal {-status}"
        raise TriggerFailed(f"it {how}", details="\n".join(lines))


def _argv(trigger: Trigger, directory: Path) -> list[str]:
    """What runs on the host: a script where it lies, as long as it can run as it is.

    An inline one lies in a private directory, for what is on a command line is seen; as does one that Windows has
    written, with other line ends.
    """
    if trigger.argv:
        return list(trigger.argv)
    from vmctl.provision import scripts

    written = trigger.script.read_bytes() if trigger.script else (trigger.inline or "").encode()
    if trigger.script and written.startswith(NATIVE) and os.access(trigger.script, os.X_OK):
        return [str(trigger.script), *trigger.args]
    runs = scripts.for_unix(written, str(trigger.script or "its script"))
    path = trigger.script
    if path is None or runs != written:
        path = directory / (path.name if path else "script")
        files.write(path, runs, mode=files.PRIVATE_FILE)
    return [*scripts.interpreter(runs, inline=trigger.script is None), str(path), *trigger.args]


def _in_guest(trigger: Trigger, job: Job, environment: Mapping[str, str]) -> None:
    if job.observe().state is not State.RUNNING:
        raise TriggerFailed(f"the guest does not run: machine {job.name} is {job.machine.state_text}")
    address = job.driver.address(job.machine.domain, job.tag)
    if address is None:
        raise TriggerFailed(f"the address of machine {job.name} is not known")
    from vmctl.provision import shell_provisioner

    script = Shell(
        name=trigger.name,
        inline=EXEC_ARGUMENTS if trigger.argv else trigger.inline,
        script=trigger.script,
        args=trigger.argv or trigger.args,
        env=environment,
        become=trigger.become,
        place=trigger.place,
    )
    target = provision.Target.machine(job.spec, login(job, address), job.machine.layout)
    (outcome,) = shell_provisioner.provision(script, [target], job.report)
    if outcome.failure:
        raise TriggerFailed(outcome.failure.brief, details=outcome.failure.details, hint=outcome.failure.hint)
