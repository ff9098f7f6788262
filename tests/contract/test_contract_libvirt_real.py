"""The suite on real libvirt and real QEMU, system mode, in the test host. The machines find nothing to boot."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.contract_parts import make_definition, make_disk
from vmctl.driver import Definition, Disk, Host
from vmctl.testing import DriverContract, SnapshotContract
from vmctl_libvirt import LibvirtDriver
from vmctl_libvirt.libvirt_errors import library

SYSTEM = "qemu:///system"


@pytest.mark.integration
class TestLibvirt(DriverContract, SnapshotContract):
    @pytest.fixture
    def driver(self, private_host: Path, tmp_path: Path, definition: Definition) -> Iterator[LibvirtDriver]:
        made = LibvirtDriver(Host(home=tmp_path / "home", options={"uri": SYSTEM}))
        yield made
        made.destroy(definition.name, definition.tag)
        made.prune()
        left = _left()
        made.close()
        assert left == {"domains": [], "volumes": [], "networks": []}

    @pytest.fixture
    def definition(self, tmp_path: Path) -> Definition:
        return make_definition(tmp_path)

    @pytest.fixture
    def disk(self, tmp_path: Path) -> Disk:
        return make_disk(tmp_path)


def _left() -> dict[str, list[str]]:
    connection = library().open(SYSTEM)
    try:
        pools = [pool for pool in connection.listAllStoragePools(0) if pool.name() == "vmctl"]
        return {
            "domains": [each.name() for each in connection.listAllDomains(0)],
            "volumes": [each.name() for pool in pools for each in pool.listAllVolumes(0)],
            "networks": [each.name() for each in connection.listAllNetworks(0)],
        }
    finally:
        connection.close()
