from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from vmctl.driver import Definition, Disk, Host, State, Tag
from vmctl.errors import VmctlError
from vmctl.spec import BoxRef, MachineSpec
from vmctl.testing import FakeDriver


@pytest.fixture
def driver(tmp_path: Path) -> FakeDriver:
    return FakeDriver(Host(home=tmp_path), directory=tmp_path / "fake")


@pytest.fixture
def definition(tmp_path: Path) -> Definition:
    return Definition(
        name="shop-web",
        tag=Tag(project="a" * 32, machine="web", version="0.1.0"),
        spec=MachineSpec(name="web", box=BoxRef(address="box")),
        mac="52:54:00:00:00:01",
        console=tmp_path / "console.log",
    )


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    path = tmp_path / "box.qcow2"
    path.touch()
    return Disk(path=path, format="qcow2", digest="d" * 64, virtual_size=1)


def test_a_named_call_can_be_made_to_fail(driver: FakeDriver, definition: Definition, disk: Disk) -> None:
    driver.fail("create", "no space")
    with pytest.raises(VmctlError, match="no space"):
        driver.create(definition, disk)
    driver.mend()
    driver.create(definition, disk)


def test_options_can_make_a_call_fail(tmp_path: Path) -> None:
    for option in ("states", {"states": "gone"}):
        with pytest.raises(VmctlError):
            FakeDriver(Host(home=tmp_path, options={"fail": option})).states()


def test_a_fault_reaches_other_processes_and_can_kill_them(driver: FakeDriver, tmp_path: Path) -> None:
    driver.fail("states", "kill")
    code = (
        "import sys; from pathlib import Path; from vmctl.driver import Host; from vmctl.testing import FakeDriver;"
        "FakeDriver(Host(home=Path('/')), directory=Path(sys.argv[1])).states()"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "fake")], check=False)
    assert done.returncode == -9


def test_calls_are_recorded_in_order(driver: FakeDriver, definition: Definition, disk: Disk) -> None:
    seen: list[str] = []
    driver.on_call = lambda method, _machine: seen.append(method)
    driver.create(definition, disk)
    driver.start("shop-web", definition.tag)
    assert driver.calls == [("create", "shop-web"), ("start", "shop-web")]
    assert seen == ["create", "start"]


def test_a_guest_may_ignore_the_button(driver: FakeDriver, definition: Definition, disk: Disk) -> None:
    driver.create(definition, disk)
    driver.start("shop-web", definition.tag)
    driver.ignores_button = True
    driver.stop("shop-web", definition.tag)
    assert driver.states()["shop-web"].state is State.RUNNING
    driver.put("shop-web", State.CRASHED)
    assert driver.machine("shop-web").state is State.CRASHED
