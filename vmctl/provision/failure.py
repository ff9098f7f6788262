"""What went wrong where, and the one error that it becomes in the end."""

from __future__ import annotations

from collections.abc import Sequence

from vmctl.errors import ProvisionFailed, Unreachable, VmctlError
from vmctl.provision.host_set import HostSet
from vmctl.provision.summary import Failure, Summary
from vmctl.spec import Provisioner, Trigger


class _NotAllProvisioned(VmctlError):
    """``summary`` says what became of each machine."""

    def __init__(self, brief: str, summary: Summary, *, details: str = "", hint: str = "") -> None:
        super().__init__(brief, details=details, hint=hint)
        self.summary = summary
        self.data = {"provisioned": summary.as_object()}


class TasksFailed(_NotAllProvisioned, ProvisionFailed):
    """Tasks or scripts failed (exit 4)."""


class MachinesUnreachable(_NotAllProvisioned, Unreachable):
    """Machines could not be reached (exit 5)."""


def summary_of(error: VmctlError) -> Summary:
    """What became of each machine before provisioning ended with an error."""
    return error.summary if isinstance(error, _NotAllProvisioned) else Summary({})


def error(failures: Sequence[Failure], summary: Summary, host_set: HostSet) -> TasksFailed | MachinesUnreachable:
    """The error that ends the command: unreachable only when nothing worse happened."""
    kind = MachinesUnreachable if all(failure.unreachable or failure.follows for failure in failures) else TasksFailed
    names = [name for name in summary.machines if any(name in failure.machines for failure in failures)]
    again = f"correct it, then: {host_set.again(names)}"
    if len(failures) == 1:
        (only,) = failures
        return kind(only.brief, summary, details=only.details, hint=only.hint or again)
    details = "\n".join(line for item in failures for line in [item.brief, *_indented(item.details)])
    return kind(f"provisioning failed on {', '.join(names)}", summary, details=details, hint=again)


def _indented(text: str) -> list[str]:
    return [f"  {line}" for line in text.splitlines()]


def label(item: Provisioner | Trigger) -> str:
    """What of a Vmfile it is, in messages: its name, and where the Vmfile has it."""
    return f"'{item.name}' ({item.place})" if item.place else f"'{item.name}'"
