"""The suite on real libvirt and real QEMU, system mode, in the test host. The machines find nothing to boot."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.contract_parts import OneMachine
from vmctl.driver import Definition, Disk, Host
from vmctl.errors import WrongState
from vmctl.testing import DriverContract, LayerContract, MemoryContract, SnapshotContract
from vmctl_libvirt import LibvirtDriver
from vmctl_libvirt.libvirt_errors import library

SYSTEM = "qemu:///system"
POOL = Path("/var/lib/libvirt/images/vmctl")


@pytest.mark.integration
class TestLibvirt(OneMachine, DriverContract, SnapshotContract, LayerContract, MemoryContract):
    @pytest.fixture
    def driver(self, private_host: Path, tmp_path: Path, definition: Definition) -> Iterator[LibvirtDriver]:
        made = LibvirtDriver(Host(home=tmp_path / "home", options={"uri": SYSTEM}))
        yield made
        made.destroy(definition.name, definition.tag)
        for copy in made.box_copies():
            made.remove_box_copy(copy.key)
        left = _left()
        made.close()
        assert left == {"domains": [], "volumes": [], "networks": []}

    @pytest.fixture
    def small_pool(self, private_host: Path) -> Iterator[None]:
        """Too little room for a machine's memory."""
        POOL.mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "none", str(POOL)], check=True)
        yield
        subprocess.run(["umount", "--lazy", str(POOL)], check=True)

    def test_memory_is_not_written_where_it_would_fill_the_pool(
        self, small_pool: None, driver: LibvirtDriver, definition: Definition, disk: Disk
    ) -> None:
        name, tag = definition.name, definition.tag
        driver.create(definition, disk)
        driver.start(name, tag)
        before = driver.states()[name], _left()
        with pytest.raises(WrongState, match="libvirt's pool has"):
            driver.keep_memory(name, tag, "d" * 64)
        assert (driver.states()[name], _left()) == before


def _left() -> dict[str, list[str]]:
    connection = library().open(SYSTEM)
    try:
        pools = [pool for pool in connection.listAllStoragePools(0) if pool.name() == "vmctl"]
        return {
            "domains": sorted(each.name() for each in connection.listAllDomains(0)),
            "volumes": sorted(each.name() for pool in pools for each in pool.listAllVolumes(0)),
            "networks": sorted(each.name() for each in connection.listAllNetworks(0)),
        }
    finally:
        connection.close()
