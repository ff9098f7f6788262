"""For tests: a driver without a hypervisor, and the suite that every driver must pass.

from vmctl.testing import DriverContract, FakeDriver

class TestMyDriver(DriverContract):
    @pytest.fixture
    def driver(self): ...
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vmctl.testing.fake import FakeDriver

if TYPE_CHECKING:
    from vmctl.testing.contract import DriverContract

__all__ = ["DriverContract", "FakeDriver"]


def __getattr__(name: str) -> Any:
    if name == "DriverContract":  # needs pytest, which users of FakeDriver alone may not have
        from vmctl.testing.contract import DriverContract

        return DriverContract
    raise AttributeError(name)
