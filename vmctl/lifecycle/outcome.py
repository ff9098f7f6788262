"""What became of each machine of a command, and the one error that it comes to."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from vmctl.errors import Interrupted, ProvisionFailed, Unreachable, VmctlError
from vmctl.provision.failure import summary_of
from vmctl.provision.summary import HostResult, Summary


@dataclass
class Outcome:
    """What became of each machine."""

    done: list[str] = field(default_factory=list)
    failed: dict[str, VmctlError] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    """Not attempted, and why: "it depends on db"."""
    provisioning: list[VmctlError] = field(default_factory=list)
    """What failed in machines that are up."""
    provisioned: dict[str, HostResult] = field(default_factory=dict)
    """What became of each machine that was provisioned."""

    def add(self, other: Outcome) -> None:
        """Take in what became of further machines."""
        self.done += other.done
        self.failed |= other.failed
        self.skipped |= other.skipped

    def add_provisioned(self, summary: Summary) -> None:
        """Take in the summary of one more provisioning run."""
        self.provisioned |= summary.machines

    @property
    def summary(self) -> Summary:
        """What became of all machines that were provisioned."""
        return Summary(self.provisioned)

    @property
    def unprovisioned(self) -> list[str]:
        """Machines on which a provisioner failed."""
        return self.summary.unfinished

    @property
    def lost(self) -> set[str]:
        """Machines that did not get to the end."""
        return {*self.failed, *self.skipped}

    def as_object(self) -> dict[str, Any]:
        """Each machine's result, for programs."""
        return {
            **{name: {"result": "done"} for name in self.done},
            **{name: {"result": "failed", "error": str(error)} for name, error in self.failed.items()},
            **{name: {"result": "not attempted", "because": why} for name, why in self.skipped.items()},
        }

    def raise_failure(self) -> None:
        """Raise what failed; nothing failed: return.

        Raises:
            VmctlError: as ``failure``.
        """
        if error := self.failure():
            raise error

    def failure(self) -> VmctlError | None:
        """What failed, as one error: the only failure, or ``FleetFailed``; ``data`` has every machine's result."""
        for error in (*self.failed.values(), *self.provisioning):
            if isinstance(error, Interrupted):
                return error
        if not self.failed and not self.provisioning:
            return None
        error = self._only() or FleetFailed(self)
        error.data |= {"outcome": self.as_object()}
        if self.provisioned:
            error.data["provisioned"] = self.summary.as_object()
        return error

    def _only(self) -> VmctlError | None:
        failures = [named(error, name) for name, error in self.failed.items()] + self.provisioning
        return failures[0] if len(failures) == 1 and not self.skipped else None


class FleetFailed(VmctlError):
    """Several machines failed, or some were not attempted because others failed."""

    def __init__(self, outcome: Outcome) -> None:
        failures = [_prefixed(name, str(error)) for name, error in outcome.failed.items()]
        failures += [_of_machines(error) for error in outcome.provisioning]
        failures += [f"{name}: not attempted, {why}" for name, why in outcome.skipped.items()]
        super().__init__(_brief(outcome), details="\n".join(failures), hint="vmctl status")
        codes = {_code(error) for error in (*outcome.failed.values(), *outcome.provisioning)}
        self.exit_code = codes.pop() if len(codes) == 1 else 1
        self.outcome = outcome


def _prefixed(name: str, text: str) -> str:
    return text if text.startswith(f"{name}: ") else f"{name}: {text}"


def _of_machines(error: VmctlError) -> str:
    """A failure of provisioning; one that names none of its machines gets their names in front."""
    names = summary_of(error).unfinished
    words = re.findall(r"[\w-]+", error.brief)
    return str(error) if not names or any(name in words for name in names) else f"{', '.join(names)}: {error}"


def _brief(outcome: Outcome) -> str:
    total = len({*outcome.done, *outcome.lost, *outcome.provisioned})
    parts = [f"{len(outcome.failed)} of {total} machines failed"] if outcome.failed else []
    if outcome.unprovisioned:
        parts.append(f"provisioning failed on {', '.join(sorted(outcome.unprovisioned))}")
    if outcome.skipped and not outcome.failed:
        parts.append(f"{len(outcome.skipped)} of {total} machines were not attempted")
    return "; ".join(parts) or "provisioning failed"


def _code(error: VmctlError) -> int:
    kinds = (ProvisionFailed, Unreachable)
    return next((kind.exit_code for kind in kinds if isinstance(error, kind)), error.exit_code)


def named(error: VmctlError, machine: str) -> VmctlError:
    """The error, with the machine's name in front where the text does not name it as a word yet."""
    if machine not in re.findall(r"[\w-]+", re.sub(r"\S*/\S*", "", error.brief)):
        error.brief = f"{machine}: {error.brief}"
    return error
