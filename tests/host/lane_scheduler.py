"""Which lane takes which part of the tests: guests keep a processor each busy, and all else fits in beside them.

Tests with containers, registries or VBoxManage mostly wait. One lane more than there are processors for takes them
alone; with a guest on it as well, all guests would be slower, and some too slow.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from xdist.scheduler import LoadScopeScheduling

if TYPE_CHECKING:
    import pytest


class LanesByKind(LoadScopeScheduling):  # type: ignore[misc]  # xdist tells no types
    """xdist's ``loadscope``, whose last lane takes only quiet parts, which the others leave to it until the end."""

    def __init__(self, config: pytest.Config, log: Any, is_quiet: Callable[[str], bool]) -> None:
        super().__init__(config, log)
        self._is_quiet = is_quiet
        self._quiet_lane: Any = None

    def schedule(self) -> None:
        """Hand out the first parts; called again, give work to lanes that have come since."""
        if self._quiet_lane is None and len(self.nodes) > 1:
            self._quiet_lane = self.nodes[-1]
        super().schedule()

    def _assign_work_unit(self, node: Any) -> None:
        self.workqueue.move_to_end(self._next_for(node), last=False)
        super()._assign_work_unit(node)

    def _reschedule(self, node: Any) -> None:
        if node is not self._quiet_lane or any(map(self._is_quiet, self.workqueue)):
            super()._reschedule(node)
        elif not node.shutting_down:
            node.shutdown()

    def _next_for(self, node: Any) -> str:
        quiet = node is self._quiet_lane
        fitting = (part for part in self.workqueue if self._is_quiet(part) == quiet)
        return str(next(fitting, next(iter(self.workqueue))))
