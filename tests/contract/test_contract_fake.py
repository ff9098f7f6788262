from __future__ import annotations

from pathlib import Path

import pytest

from tests.contract.contract_parts import OneMachine
from vmctl.driver import Definition, Disk, Host
from vmctl.testing import DriverContract, FakeDriver, LayerContract, SnapshotContract


class TestInMemory(OneMachine, DriverContract, SnapshotContract, LayerContract):
    @pytest.fixture
    def driver(self, tmp_path: Path) -> FakeDriver:
        return FakeDriver(Host(home=tmp_path))


class TestInAFile(TestInMemory):
    @pytest.fixture
    def driver(self, tmp_path: Path) -> FakeDriver:
        return FakeDriver(Host(home=tmp_path, options={"directory": str(tmp_path / "hypervisor")}))

    def test_another_process_would_see_the_machines(
        self, driver: FakeDriver, definition: Definition, disk: Disk, tmp_path: Path
    ) -> None:
        driver.create(definition, disk)
        driver.start(definition.name, definition.tag)
        other = FakeDriver(Host(home=tmp_path), directory=tmp_path / "hypervisor")
        assert other.states() == driver.states()
