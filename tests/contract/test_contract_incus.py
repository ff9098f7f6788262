"""The suite on a real LXD, in the test host; its containers hold one program."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import structs

from tests.contract.contract_parts import make_definition
from tests.host import lxd, small_image
from tests.host.lxd import Lxd
from vmctl.driver import Definition, Disk, Host
from vmctl.testing import DriverContract, SnapshotContract
from vmctl_incus import IncusDriver

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def server(private_host: Path) -> Lxd:
    return lxd.started(private_host)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Disk:
    return small_image.make(tmp_path_factory.mktemp("image"))


class TestLxd(DriverContract, SnapshotContract):
    @pytest.fixture
    def driver(self, server: Lxd, tmp_path: Path, definition: Definition) -> Iterator[IncusDriver]:
        made = IncusDriver(Host(home=tmp_path / "home", options={"url": f"unix://{server.socket}"}))
        yield made
        made.destroy(definition.name, definition.tag)
        assert server.instances() == []

    @pytest.fixture
    def definition(self, tmp_path: Path) -> Definition:
        made = make_definition(tmp_path, port=free_port())
        pool = {"incus": {"pool": lxd.PLAIN}}  # as most people have one; days of users have one that clones
        return structs.replace(made, spec=structs.replace(made.spec, options=pool))

    @pytest.fixture
    def disk(self, image: Disk) -> Disk:
        return image


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
