"""Machines whose loopback is not this host's: which those are, and at which address their SSH can listen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vmctl.errors import VmctlError
from vmctl.spec import BoxRef, MachineSpec, Network, Port
from vmctl_incus import elsewhere
from vmctl_incus.connection import Endpoint
from vmctl_incus.door import Door

LOCAL = Endpoint(url="unix:///s", socket=Path("/s"))
REMOTE = Endpoint(url="https://192.0.2.7:8443", host="192.0.2.7")


def a_door(endpoint: Endpoint, **environment: Any) -> Door:
    door = Door(endpoint, "default")
    door.__dict__["server"] = {"environment": environment}
    return door


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
    door = a_door(endpoint, server_clustered=clustered, server_name="a")
    assert elsewhere.is_here(door, member) is here


def test_ssh_listens_on_the_address_that_the_server_is_reached_at() -> None:
    door = a_door(REMOTE, addresses=["10.0.0.1:8443", "192.0.2.7:8443", "[2001:db8::1]:8443"])
    assert elsewhere.address(door, "none") == "192.0.2.7"


def test_a_server_behind_a_gateway_is_refused() -> None:
    door = a_door(REMOTE, addresses=["10.0.0.1:8443", "[2001:db8::1]:8443"])
    with pytest.raises(VmctlError, match="not reached at an address of its own") as caught:
        elsewhere.address(door, "none")
    assert caught.value.details == "This host reaches it at 192.0.2.7; it has 10.0.0.1, 2001:db8::1."
    spec = MachineSpec(name="web", box=BoxRef(address="tiny"), ports=(Port(guest=80, host=None),))
    assert [key for key, _ in elsewhere.faults(door, "", spec)] == ["ports", "incus"]


def test_networks_do_not_reach_over_members() -> None:
    door = a_door(REMOTE, server_clustered=True)
    network = Network(name="back", ip="192.168.60.10", netmask="255.255.255.0")
    spec = MachineSpec(name="web", box=BoxRef(address="tiny"), networks=(network,))
    assert [key for key, _ in elsewhere.faults(door, "", spec)] == ["networks"]
    assert list(elsewhere.faults(door, "b", spec)) == []


def test_where_it_listens_already_it_goes_on() -> None:
    present = {"ssh": {"listen": "tcp:192.0.2.7:23456"}}
    assert elsewhere.device(2222, present) == {
        "type": "proxy",
        "bind": "host",
        "listen": "tcp:192.0.2.7:23456",
        "connect": "tcp:127.0.0.1:2222",
    }
    assert elsewhere.device(22, None)["listen"] == "tcp:127.0.0.1:22"
