"""Having a guest stand still in a way that its memory can be saved, and setting it right when it goes on.

Live folders are unmounted and taken out of the machine, where its hypervisor could not save memory beside them. What
goes on from memory has the clock and the random numbers of then; each time it gets new ones, and the folders back. The
guest answers with a token that is different each time, so that an answer of another time is never taken for this one.
"""

from __future__ import annotations

import secrets
import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from vmctl import interrupt, logins, seed
from vmctl.errors import VmctlError
from vmctl.folders.guest import fstab_field
from vmctl.lifecycle.machine_job import Job
from vmctl.powers import LiveShares
from vmctl.wait import Deadline

if TYPE_CHECKING:
    from vmctl.ssh import Connection

QUIESCE, WAIT, WAKE = (Path(__file__).with_name(name) for name in ("quiesce.sh", "wait.pl", "wake.sh"))
SEED = 64
"""Bytes of new randomness."""
TOKEN = 16
"""Bytes of what tells one time from another."""
SECTOR = 512
"""Bytes of the word that a guest waits for on its seed's disk, whose first sectors are no part of the image."""
SOON = 0.5
"""Seconds at the least for a guest that waited to say that it is awake, once it lets us in."""
LOOK = 0.02
SLOW_CLOCK = 2
"""Seconds that a guest's clock may be off before it is set."""
PATIENCE = 120.0
"""Seconds for a guest to write out what it holds, and to mount its folders."""


def live_folders(job: Job) -> list[str]:
    """Where the guest has folders that stand in the way of saving its memory, parents first."""
    if not isinstance(job.driver, LiveShares) or not job.machine.record:
        return []
    return sorted(path for path, kind in job.record.folders.items() if kind != "rsync")


def quiesce(job: Job, *, waits: bool = False) -> str:
    """Have a running guest let go of its live folders, and take them out of the machine.

    From here on the machine is not ready, until ``wake``, whatever becomes of this vmctl.

    Args:
        job: the machine's.
        waits: whether its guest shall wait for a ``Word`` to wake by itself.

    Returns:
        What keeps its memory from being saved; "" = nothing.
    """
    argv = ["sh", "-s", "--", f"/dev/disk/by-label/{seed.LABEL}" if waits else "", str(SLOW_CLOCK)]
    argv += [word for path in reversed(live_folders(job)) for word in (path, fstab_field(path))]
    before = f"wait={_quoted(WAIT)}\nwake={_quoted(WAKE)}\n" if waits else ""
    job.save(job.record.but(quiesced=True, ready_run=""))
    try:
        text = (
            connected(job)
            .run(
                argv,
                input=before + QUIESCE.read_text(encoding="utf-8"),
                sudo=True,
                deadline=PATIENCE,
            )
            .stdout
        )
        word, _, rest = text.strip().partition(" ")
        if word != "quiet":
            return f"{rest} is in use in the guest" if word == "busy" else f"the guest says {text.strip()!r}"
        if not rest:
            return "the guest has neither perl nor python3 to renew its random numbers with"
        if isinstance(job.driver, LiveShares):
            job.driver.detach_shares(job.machine.domain, job.tag)
    except VmctlError as error:
        interrupt.check()
        return error.brief
    return ""


def _quoted(script: Path) -> str:
    return shlex.quote(script.read_text(encoding="utf-8"))


@contextmanager
def quiet(job: Job, *, waits: bool = False) -> Iterator[str]:
    """Have a running guest stand still for the length of the block, after which it is as ready as before.

    Args:
        job: the machine's.
        waits: as of ``quiesce``.

    Yields:
        What ``quiesce`` returns.
    """
    ready = job.observe().is_ready
    try:
        yield quiesce(job, waits=waits)
    finally:
        wake_again(job, ready=ready)


def wake(job: Job) -> bool:
    """Have a guest that stood still go on with new random numbers, the time of now, and its live folders.

    Raises:
        VmctlError: its folders cannot be put back, or it does not answer. It stays to be woken.
    """
    failure = _attach(job)
    answer = "" if _is_awake(job) else _asked(job)
    if failure:
        raise failure
    if answer:
        job.warn(f"after it stood still: {answer}", f"vmctl reload {job.name}")
    job.woken = not answer
    job.save(job.record.but(quiesced=False))
    return True


def word(token: str) -> bytes:
    """What a guest that waits finds on its seed's disk, so that it wakes at once and says the token on its console."""
    return f"vmctl-wake {token} {time.time():.0f} {secrets.token_hex(SEED)}\n".encode().ljust(SECTOR, b"\0")


def _is_awake(job: Job) -> bool:
    """Whether a guest that waited says so; it may take as long as it took to let us in."""
    from vmctl.ssh.serial import SerialConsole

    if not job.token:
        return False
    console, deadline = SerialConsole(job.machine.layout.console), Deadline.after(max(SOON, job.token.age))
    while True:
        interrupt.check()
        console.read()
        if f"vmctl-awake {job.token.text}\n" in console.text:
            return True
        if deadline.passed:
            return False
        deadline.clock.sleep(LOOK)


def _asked(job: Job) -> str:
    """As ``_ask``, over a new connection where the old one is of no use."""
    try:
        return _ask(job)
    except VmctlError:
        interrupt.check()
        job.close()  # the hypervisor may have cut the connection, but not the way in
        return _ask(job)


def _attach(job: Job) -> VmctlError | None:
    """Put the folders back; what went wrong. The guest gets new numbers and the time all the same."""
    try:
        if isinstance(job.driver, LiveShares):
            job.driver.attach_shares(job.machine.domain, job.tag)
    except VmctlError as error:
        interrupt.check()
        return error
    return None


def wake_again(job: Job, *, ready: bool) -> None:
    """As ``wake``, of a guest that goes on at once, after Ctrl-C too; where that fails, it is left to the next `up`.

    Args:
        job: the machine's.
        ready: whether it was ready before, and so is again.
    """
    with interrupt.shielded():
        try:
            wake(job)
        except VmctlError as error:
            job.warn(f"it could not be set right after it stood still: {error.brief}", f"vmctl up {job.name}")
            return
        observed = job.observe().observed
        if ready and observed and observed.run:
            job.save(job.record.but(ready_run=observed.run))


def _ask(job: Job) -> str:
    """Run the script; what it could not do ("" = it did all)."""
    token, randomness = secrets.token_hex(TOKEN), secrets.token_hex(SEED)
    argv = ["sh", "-s", "--", token, f"{time.time():.0f}", str(SLOW_CLOCK)]
    argv += [word for path in live_folders(job) for word in (path, fstab_field(path))]
    script = f"seed={randomness}\n{WAKE.read_text(encoding='utf-8')}"
    done = connected(job).run(argv, input=script, sudo=True, check=False, deadline=PATIENCE)
    *failed, last = done.stdout.splitlines() or [""]
    if last != token and job.restored:  # else nobody else has drawn from the same
        failed.append("its random numbers could not be renewed, so earlier ones may come again")
    return "; ".join(failed)


def connected(job: Job) -> Connection:
    """A connection to the guest of a machine that was up before."""
    from vmctl.ssh import Connection

    if job.connection is None:
        job.connection = Connection.connect(logins.login(job.workspace, job.name))
    return job.connection
