"""The steps that take a machine down: halt, suspend, destroy. As those of ``steps``, each looks before it acts."""

from __future__ import annotations

from vmctl import interrupt
from vmctl.driver import State
from vmctl.errors import WrongState
from vmctl.lifecycle import instants, quiescing
from vmctl.lifecycle.machine_job import Job, off
from vmctl.powers import Suspends
from vmctl.spec import DEFAULT_HALT_TIMEOUT
from vmctl.store import carry, files, hypervisors
from vmctl.wait import Deadline, TimedOut, until

PRESS_AGAIN = 5.0  # seconds; in a guest that is still booting, nobody may have heard the button


def halt(job: Job) -> bool:
    """Press the power button, now and then again, and cut the power if the guest does not react in time."""
    if job.machine.state in (State.SAVED, State.PAUSED):
        job.warn(f"it was {job.machine.state_text}; that state is dropped")
        return power_off(job)
    timeout = job.machine.spec.halt_timeout if job.machine.spec else DEFAULT_HALT_TIMEOUT
    deadline = Deadline.after(timeout)
    pressed = float("-inf")

    def is_off() -> bool:
        nonlocal pressed
        now = deadline.clock.monotonic()
        if now - pressed >= PRESS_AGAIN:
            job.driver.stop(job.machine.domain, job.tag)
            pressed = now
        return off(_observed(job))

    try:
        until(is_off, deadline, f"machine {job.name} to shut down")
    except TimedOut:
        job.warn(f"it did not shut down within {timeout:g} s; the power is cut")
        return power_off(job)
    return True


def _observed(job: Job) -> Job:
    job.observe()
    return job


def power_off(job: Job) -> bool:
    """Cut the power."""
    job.driver.stop(job.machine.domain, job.tag, force=True)
    job.observe()
    return True


def suspend(job: Job) -> bool:
    """Save the machine's memory."""
    driver = job.driver
    if not isinstance(driver, Suspends):
        raise WrongState(f"the provider {job.machine.provider} cannot suspend machines", hint=f"vmctl halt {job.name}")
    quiet = job.machine.state is State.RUNNING and bool(quiescing.live_folders(job))
    ready = job.machine.is_ready
    if quiet and (why := quiescing.quiesce(job)):
        job.notice(f"its memory cannot be saved to disk: {why}")
    try:
        driver.suspend(job.machine.domain, job.tag)
    except BaseException:
        if quiet:
            quiescing.wake_again(job, ready=ready)
        raise
    job.observe()
    return True


def destroy(job: Job) -> bool:
    """Remove the machine and what was made for it in the hypervisor, leftovers of a killed vmctl as well."""
    with interrupt.shielded():
        job.driver.destroy(job.machine.domain, job.tag)
        instants.drop_unfinished(job)
    return True


def forget(job: Job) -> bool:
    """Remove what vmctl itself keeps of the machine: ports, keys, record."""
    with interrupt.shielded():
        if record := job.machine.record:  # an older vmctl may have made it, which remembered none
            hypervisors.remember(job.workspace.home, record.provider, record.where)
        job.workspace.ports.release(job.workspace.owner(job.name))
        files.remove_tree(job.machine.layout.root)
        carry.forget_media(job.workspace.layout.directory, job.name)
    return True
