"""The ``incus:`` section of a Vmfile, and names and networks that follow from a machine."""

from __future__ import annotations

from typing import Any

import pytest

from vmctl.spec import BoxRef, MachineSpec
from vmctl_incus import identity, knobs, networks


def spec(**options: Any) -> MachineSpec:
    return MachineSpec(name="web", box=BoxRef(address="debian-12"), options={"incus": options})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"privilegd": True}, "incus.privilegd: unknown key"),
        ({"privileged": "yes"}, "incus.privileged: expected true or false"),
        ({"type": "virtual-machine"}, "incus.type: virtual-machine is not supported yet"),
        ({"type": "pod"}, "incus.type: must be container"),
        ({"pool": "../x"}, "incus.pool: '../x': not a name that the server could know"),
        ({"profiles": "default"}, "incus.profiles: expected a list, got 'default'; write [default]"),
        ({"config": {"limits.cpu": 2}}, "incus.config: limits.cpu: write `cpus` instead"),
        ({"config": {"user.vmctl.project": "x"}}, "incus.config: user.vmctl.project: vmctl or the server sets it"),
        ({"config": {"limits.processes": [1]}}, "incus.config: limits.processes: must be a single value"),
    ],
)
def test_what_makes_no_sense_is_told_with_its_place(options: dict[str, Any], said: str) -> None:
    (fault,) = knobs.faults(spec(**options))
    assert f"{fault.path}: {fault.message}".startswith(said)


def test_what_makes_sense_is_read() -> None:
    written = spec(nesting=True, profiles=["default", "web"], config={"limits.processes": 500}, url="unix:///s")
    assert list(knobs.faults(written)) == []
    read = knobs.read(written)
    assert (read.nesting, read.privileged, read.profiles) == (True, False, ("default", "web"))
    assert read.config == {"limits.processes": "500"}


@pytest.mark.parametrize("name", ["web", "my-project_web", "0day-web", "a" * 80, "-", "ä"])
def test_each_machine_has_a_name_that_a_server_takes(name: str) -> None:
    made = identity.instance_name(name)
    assert identity.VALID.fullmatch(made), made
    assert (made == name) is bool(identity.VALID.fullmatch(name))


def test_an_isolated_network_is_another_than_one_that_is_not() -> None:
    names = {networks.bridge_name("a-", "lan", isolated=isolated) for isolated in (True, False)}
    assert len(names | {networks.bridge_name("b-", "lan", isolated=False)}) == 3
    assert all(len(name) <= 15 for name in names)
