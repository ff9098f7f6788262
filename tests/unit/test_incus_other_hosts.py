"""Machines whose loopback is not this host's: which those are, and at which address their SSH can listen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vmctl.errors import VmctlError
from vmctl.spec import BoxRef, MachineSpec, Network, Port
from vmctl_incus import other_hosts
from vmctl_incus.api import Api
from vmctl_incus.handle import Body
from vmctl_incus.requesting import Endpoint, ServerError

LOCAL = Endpoint(url="unix:///s", socket=Path("/s"))
REMOTE = Endpoint(url="https://192.0.2.7:8443", host="192.0.2.7")


def an_api(endpoint: Endpoint, **environment: Any) -> Api:
    api = Api(endpoint, "default")
    api.__dict__["server"] = {"environment": environment}
    return api


@pytest.mark.parametrize(
    ("endpoint", "clustered", "member", "here"),
    [
        (LOCAL, False, "", True),
        (LOCAL, False, "none", True),
        (LOCAL, True, "", True),
        (LOCAL, True, "a", True),
        (LOCAL, True, "b", False),
        (REMOTE, False, "none", False),
        (REMOTE, True, "a", False),
    ],
)
def test_what_is_here(endpoint: Endpoint, *, clustered: bool, member: str, here: bool) -> None:
    api = an_api(endpoint, server_clustered=clustered, server_name="a")
    assert other_hosts.is_local(api, member) is here


def test_ssh_listens_on_the_address_that_the_server_is_reached_at() -> None:
    api = an_api(REMOTE, addresses=["10.0.0.1:8443", "192.0.2.7:8443", "[2001:db8::1]:8443"])
    assert other_hosts.address(api, "none") == "192.0.2.7"


def test_a_server_behind_a_gateway_is_refused() -> None:
    api = an_api(REMOTE, addresses=["10.0.0.1:8443", "[2001:db8::1]:8443"])
    with pytest.raises(VmctlError, match="not reached at an address of its own") as caught:
        other_hosts.address(api, "none")
    assert caught.value.details == "This host reaches it at 192.0.2.7; it has 10.0.0.1, 2001:db8::1."
    spec = MachineSpec(name="web", box=BoxRef(address="tiny"), ports=(Port(guest=80, host=None),))
    assert [key for key, _ in other_hosts.faults(api, "", spec)] == ["ports", "incus"]


def test_networks_do_not_reach_over_members() -> None:
    api = an_api(REMOTE, server_clustered=True)
    network = Network(name="back", ip="192.168.60.10", netmask="255.255.255.0")
    spec = MachineSpec(name="web", box=BoxRef(address="tiny"), networks=(network,))
    assert [key for key, _ in other_hosts.faults(api, "", spec)] == ["networks"]
    assert list(other_hosts.faults(api, "b", spec)) == []


def test_where_it_listens_already_it_goes_on() -> None:
    present = {"ssh": {"listen": "tcp:192.0.2.7:23456"}}
    assert other_hosts.device(2222, present) == {
        "type": "proxy",
        "bind": "host",
        "listen": "tcp:192.0.2.7:23456",
        "connect": "tcp:127.0.0.1:2222",
    }
    assert other_hosts.device(22, None)["listen"] == "tcp:127.0.0.1:22"


class Starting:
    """An instance whose first starts fail with these words."""

    def __init__(self, *words: str) -> None:
        self.words = list(words)
        self.found: dict[str, Any] = {"location": "none", "devices": {"ssh": {"listen": "tcp:127.0.0.1:22"}}}
        self.places: list[str] = []

    def put(self, body: Body) -> None:
        self.found |= body(self.found)

    def act(self, _action: str) -> None:
        self.places.append(self.found["devices"]["ssh"]["listen"])
        if self.words:
            raise ServerError(self.words.pop(0), code=400)


def test_a_port_that_is_taken_is_left_for_another_however_the_server_says_so() -> None:
    api = an_api(REMOTE, addresses=["192.0.2.7:8443"])
    api.__dict__["instances"] = list
    one = Starting(
        "LXD: Error occurred when starting proxy device: Error: Failed to listen on …: Address already in use",
        "LXD: Error occurred when starting proxy device: Error: Failed to receive fd from listener process: …",
    )
    other_hosts.start(api, one)  # type: ignore[arg-type]
    assert len(set(one.places)) == 3
    with pytest.raises(ServerError, match="no such profile"):
        other_hosts.start(api, Starting("LXD: no such profile"))  # type: ignore[arg-type]
