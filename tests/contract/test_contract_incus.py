"""The suites on a real LXD and a real Incus, in the test host; their containers hold one program."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import structs

from tests.contract.contract_parts import make_definition
from tests.host import incus, lxd, small_image
from tests.host.lxd import Lxd
from vmctl.driver import Definition, Disk, Forward, Host, State
from vmctl.testing import DriverContract, LayerContract, SnapshotContract
from vmctl_incus import IncusDriver
from vmctl_incus.api import resource
from vmctl_incus.identity import instance_name
from vmctl_incus.requesting import ServerError

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Disk:
    return small_image.make(tmp_path_factory.mktemp("image"))


class ContainerContract(DriverContract, SnapshotContract, LayerContract):
    """What both servers must do alike."""

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

    def test_a_start_that_a_killed_vmctl_has_begun_is_no_machine_that_is_off(
        self, driver: IncusDriver, definition: Definition, disk: Disk
    ) -> None:
        name, tag = definition.name, definition.tag
        driver.create(definition, disk)
        begin_to_start(driver, name)
        seen = driver.observe(name)
        assert seen is not None
        assert seen.state in (State.STARTING, State.RUNNING)
        assert driver.states()[name].state in (State.STARTING, State.RUNNING)
        driver.stop(name, tag, force=True)
        driver._api.await_others(path_of(name))
        assert driver.states()[name].state is State.STOPPED
        begin_to_start(driver, name)
        driver.start(name, tag)
        assert driver.states()[name].state is State.RUNNING
        driver.stop(name, tag, force=True)
        begin_to_start(driver, name)
        driver.destroy(name, tag)
        assert driver.observe(name) is None

    def test_ports_of_one_protocol_share_a_device_and_go_on_when_an_exchange_fails(
        self, driver: IncusDriver, definition: Definition, disk: Disk
    ) -> None:
        name, tag = definition.name, definition.tag
        first, second, third = (forward_to(guest) for guest in (80, 81, 82))
        ssh = definition.forwards
        driver.create(structs.replace(definition, forwards=(*ssh, first, second)), disk)
        assert proxies_of(driver, name) == {"ssh", "forward0"}
        driver.start(name, tag)
        with socket.create_server(("127.0.0.1", third.host)), pytest.raises(ServerError):
            driver.set_forwards(name, tag, (*ssh, first, third))
        assert [listens(one) for one in (*ssh, first, second)] == [True, True, True]
        driver.set_forwards(name, tag, (*ssh, first, second, third))
        assert proxies_of(driver, name) == {"ssh", "forward0", "forward1"}, "those that there were went on"
        driver.set_forwards(name, tag, (*ssh, second, third))
        assert [listens(one) for one in (*ssh, first, second, third)] == [True, False, True, True]
        driver.set_forwards(name, tag, ssh)
        assert proxies_of(driver, name) == {"ssh"}


class TestLxd(ContainerContract):
    @pytest.fixture
    def server(self, private_host: Path) -> Lxd:
        return lxd.started(private_host)


class TestIncus(ContainerContract):
    @pytest.fixture
    def server(self, private_host: Path) -> Lxd:
        return incus.started(private_host)


def forward_to(guest: int) -> Forward:
    return Forward(name=f"tcp{guest}", guest=guest, host=free_port(), host_ip="127.0.0.1", protocol="tcp")


def listens(forward: Forward) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((forward.host_ip, forward.host)) == 0


def proxies_of(driver: IncusDriver, name: str) -> set[str]:
    devices = driver._api.get(path_of(name))["devices"]
    return {own for own, each in devices.items() if each["type"] == "proxy"}


def path_of(name: str) -> str:
    return resource("instances", instance_name(name))


def begin_to_start(driver: IncusDriver, name: str) -> None:
    """As a vmctl that is killed as soon as the server has taken its request."""
    driver._api.begin("PUT", f"{path_of(name)}/state", {"action": "start", "force": False, "timeout": -1})


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
