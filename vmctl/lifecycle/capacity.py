"""How much may happen at once: what the host's processors and memory allow, or what somebody has said."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from msgspec import Struct

from vmctl import user_environment
from vmctl.spec import MIB, MachineSpec

MEMINFO = Path("/proc/meminfo")
LEAST, MOST = 2, 16
SPARE = 512 * MIB
"""What the host itself should keep."""


def available_memory() -> int | None:
    """Bytes that new machines can take without pushing others out; None where the system does not say."""
    try:
        lines = MEMINFO.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    words = next((line.split() for line in lines if line.startswith("MemAvailable:")), [])
    return int(words[1]) * 1024 if len(words) > 1 and words[1].isdecimal() else None


class Limits(Struct, frozen=True, kw_only=True):
    """How a verb goes about several machines."""

    at_once: int | None = None
    """How many at the same time; None = as many as the host can take."""
    fail_fast: bool = False
    """Whether nothing new begins once a machine has failed."""
    memory: Callable[[], int | None] = available_memory

    @property
    def workers(self) -> int:
        """The most that ever work at the same time: one for each processor, within reason, unless said."""
        return self.at_once or min(MOST, max(LEAST, user_environment.processors()))

    @property
    def sleepers(self) -> int:
        """As ``workers``, where machines go down: that is waiting rather than work."""
        return self.at_once or MOST

    def has_room(self, spec: MachineSpec | None, beginning: Iterable[MachineSpec | None]) -> bool:
        """Whether the host's memory allows one more machine to begin beside those that are coming up.

        One alone may always try; the hypervisor has the last word. A number that was said is obeyed as it is.
        """
        others = [other for other in beginning if other is not None]
        if self.at_once is not None or spec is None or not others:
            return True
        free = self.memory()
        # What the others will take is not all taken yet.
        return free is None or free - SPARE >= spec.memory + sum(other.memory for other in others)
