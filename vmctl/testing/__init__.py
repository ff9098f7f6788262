"""For tests: a driver without a hypervisor, and the suites that drivers must pass.

from vmctl.testing import DriverContract, FakeDriver, LayerContract, MemoryContract, SnapshotContract

class TestMyDriver(DriverContract, SnapshotContract, LayerContract):    # all but the first: where it has those powers
    @pytest.fixture
    def driver(self): ...
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from vmctl.testing.fake import FakeDriver

if TYPE_CHECKING:
    from vmctl.testing.contract import DriverContract
    from vmctl.testing.contract_layers import LayerContract, MemoryContract
    from vmctl.testing.contract_snapshots import SnapshotContract

__all__ = ["DriverContract", "FakeDriver", "LayerContract", "MemoryContract", "SnapshotContract"]

SUITES = {
    "DriverContract": "contract",
    "LayerContract": "contract_layers",
    "MemoryContract": "contract_layers",
    "SnapshotContract": "contract_snapshots",
}
"""Where the suites are. They need pytest, which users of FakeDriver alone may not have."""


def __getattr__(name: str) -> Any:
    if name not in SUITES:
        raise AttributeError(name)
    return getattr(importlib.import_module(f"{__name__}.{SUITES[name]}"), name)
