"""For tests: a driver without a hypervisor, and the suites that drivers must pass.

from vmctl.testing import DriverContract, FakeDriver, SnapshotContract

class TestMyDriver(DriverContract, SnapshotContract):    # the latter where it keeps snapshots
    @pytest.fixture
    def driver(self): ...
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vmctl.testing.fake import FakeDriver

if TYPE_CHECKING:
    from vmctl.testing.contract import DriverContract
    from vmctl.testing.contract_snapshots import SnapshotContract

__all__ = ["DriverContract", "FakeDriver", "SnapshotContract"]


def __getattr__(name: str) -> Any:
    if name == "DriverContract":  # needs pytest, which users of FakeDriver alone may not have
        from vmctl.testing.contract import DriverContract

        return DriverContract
    if name == "SnapshotContract":  # as above
        from vmctl.testing.contract_snapshots import SnapshotContract

        return SnapshotContract
    raise AttributeError(name)
