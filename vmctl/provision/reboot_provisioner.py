"""The `reboot` provisioner: restart guests, wait until they are back, have their folders mounted again."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from vmctl.errors import Unreachable, VmctlError
from vmctl.events import Progress, Report
from vmctl.process import CommandFailed
from vmctl.provision.failure import label
from vmctl.provision.provisioner_result import ProvisionerResult, failed
from vmctl.provision.summary import Counts
from vmctl.provision.target import Target, each
from vmctl.spec import Reboot
from vmctl.wait import Deadline, TimedOut, until

if TYPE_CHECKING:
    from vmctl.ssh.link import Link

BOOT_ID = "/proc/sys/kernel/random/boot_id"
# In the background and a moment later, so that this connection can end first; sudo may hang up when it does.
RESTART = (
    'trap "" HUP; (sleep 1; if command -v systemctl >/dev/null; then systemctl reboot; else reboot; fi) '
    "</dev/null >/dev/null 2>&1 &"
)
STEP = "reboot"


def provision(item: Reboot, targets: Sequence[Target], report: Report) -> list[ProvisionerResult]:
    """Restart all targets, side by side.

    Raises:
        Interrupted: the user asked to stop; the guests come back by themselves.
    """
    return each(targets, lambda target: _provision(item, target, report))


def _provision(item: Reboot, target: Target, report: Report) -> ProvisionerResult:
    deadline = Deadline.after(item.timeout)
    hint = f"vmctl ssh {target.name}"
    try:
        with target.connect() as connection:
            before = _boot_id(connection)
            connection.run(["sh", "-c", RESTART], sudo=True)
        _await_return(target, before, deadline, report)
    except TimedOut as error:
        brief = f"{target.name}: the guest did not come back within {item.timeout:g} s (provisioner {label(item)})"
        return failed(target.name, brief, error.details, unreachable=True, hint=hint)
    except Unreachable as error:
        brief = f"{error.brief} (provisioner {label(item)})"
        return failed(target.name, brief, error.details, unreachable=True, hint=hint)
    except VmctlError as error:  # a refused command, a folder that could not be mounted
        brief = f"{target.name}: {error.brief} (provisioner {label(item)})"
        return failed(target.name, brief, error.details, hint=hint)
    return ProvisionerResult(machine=target.name, counts=Counts(ok=1, changed=1))


def _boot_id(connection: Link) -> str:
    return connection.run(["cat", BOOT_ID]).stdout.strip()


def _await_return(target: Target, before: str, deadline: Deadline, report: Report) -> None:
    """Wait for a new boot in which the guest has settled, then for its folders.

    Raises:
        TimedOut, Unreachable, CommandFailed, Interrupted.
    """
    started = time.monotonic()

    def is_back() -> bool:
        report(Progress(machine=target.name, step=STEP, done=time.monotonic() - started, unit="seconds"))
        try:
            with target.connect() as connection:
                return _boot_id(connection) != before
        except (Unreachable, CommandFailed):
            return False

    until(is_back, deadline, f"{target.name} to restart")
    if target.after_reboot is not None:
        target.after_reboot()
