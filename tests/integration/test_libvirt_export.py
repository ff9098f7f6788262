"""Disks out of real libvirt: two of them, an overlay's copy, by qemu-img and through the storage API. Nothing boots."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import structs

from tests.contract.contract_parts import make_definition
from tests.integration.conftest import volumes
from tests.integration.disk_bytes import holds, make_disks, write
from vmctl.driver import Disk, Host
from vmctl.process import find, run
from vmctl.spec import MIB
from vmctl_libvirt import LibvirtDriver, domain_edit
from vmctl_libvirt.libvirt_connection import Abilities
from vmctl_libvirt.storage import EXPORTED

pytestmark = pytest.mark.integration
SYSTEM = "qemu:///system"


@pytest.fixture
def driver(private_host: Path, tmp_path: Path) -> Iterator[LibvirtDriver]:
    made = LibvirtDriver(Host(home=tmp_path / "home", options={"uri": SYSTEM}))
    yield made
    for copy in made.box_copies():
        made.remove_box_copy(copy.key)
    made.close()
    assert volumes() == []


@pytest.fixture
def disks(tmp_path: Path) -> Disk:
    return make_disks(tmp_path)


@pytest.mark.parametrize("is_local", [True, False])
def test_two_disks_come_out_whole_and_flat(
    driver: LibvirtDriver, disks: Disk, tmp_path: Path, *, is_local: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = make_definition(tmp_path)
    driver.create(machine, disks)
    for number, volume in enumerate(_paths(driver, machine.name), 3):
        write(volume, number, at=2 * MIB)
    copy = structs.replace(machine, name="copy", console=tmp_path / "copy.log")
    driver.clone(copy, machine.name, machine.tag)
    write(_paths(driver, "copy")[0], 9, at=3 * MIB)

    if not is_local:  # as on another host, and as in system mode for an ordinary user
        monkeypatch.setattr(Abilities, "writes_pool", property(lambda _self: False))
    target = tmp_path / "out"
    target.mkdir()
    exported = driver.export("copy", copy.tag, target)
    assert [path.name for path in exported.disks] == ["disk-1.qcow2", "disk-2.qcow2"]
    for number, path in enumerate(exported.disks, 1):
        assert "backing file" not in run([find("qemu-img"), "info", path]).stdout
        holds(path, number, at=MIB)
        holds(path, number + 2, at=2 * MIB)
    holds(exported.disks[0], 9, at=3 * MIB)
    monkeypatch.undo()
    driver.destroy("copy", copy.tag)
    driver.export(machine.name, machine.tag, _new(tmp_path / "again"))
    holds(tmp_path / "again" / "disk-1.qcow2", 0, at=3 * MIB)
    assert not [name for name in volumes() if name.startswith(EXPORTED)]
    driver.destroy(machine.name, machine.tag)


def _new(path: Path) -> Path:
    path.mkdir()
    return path


def _paths(driver: LibvirtDriver, name: str) -> tuple[str, ...]:
    return driver._connection.run(lambda opened: domain_edit.disks(opened.lookupByName(name)), "look")
