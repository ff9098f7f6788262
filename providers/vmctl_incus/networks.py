"""Networks between machines: managed bridges that vmctl makes, tags and removes."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from msgspec import Struct

from vmctl.driver import Definition, Nic
from vmctl_incus.door import Door, resource
from vmctl_incus.errors import ServerError, is_absent
from vmctl_incus.identity import PREFIX

PROJECT = PREFIX + "project"
NETWORK = PREFIX + "network"
CONFLICT = 400


class Subnet(Struct, frozen=True, kw_only=True):
    """A network that a machine wants to be on."""

    label: str
    """Its name in the Vmfile."""
    bridge: str
    """The bridge's name, which the kernel limits to 15 characters."""
    subnet: ipaddress.IPv4Network
    isolated: bool

    @property
    def config(self) -> dict[str, str]:
        """What the bridge is to be: only a wire, with the host's address on it where that is not isolated."""
        address = f"{self.subnet.network_address + 1}/{self.subnet.prefixlen}"
        own = {"ipv4.address": "none"} if self.isolated else {"ipv4.address": address, "ipv4.nat": "false"}
        dhcp = {} if self.isolated else {"ipv4.dhcp": "false"}
        return {**own, **dhcp, "ipv6.address": "none", "dns.mode": "none"}


def bridge_name(prefix: str, network: str, *, isolated: bool) -> str:
    """What a project's network is called; an isolated one is another network than one that is not."""
    digest = hashlib.sha256(f"{prefix}\0{network}\0{isolated}".encode()).hexdigest()
    return f"vm{digest[:12]}"


def wanted(definition: Definition) -> tuple[Subnet, ...]:
    """The networks of a machine, in the order of its NICs."""
    return tuple(_subnet(definition.network_prefix, nic) for nic in definition.nics)


def _subnet(prefix: str, nic: Nic) -> Subnet:
    return Subnet(
        label=nic.network,
        bridge=bridge_name(prefix, nic.network, isolated=nic.isolated),
        subnet=ipaddress.IPv4Network(f"{nic.ip}/{nic.prefix}", strict=False),
        isolated=nic.isolated,
    )


def ensure(door: Door, definition: Definition) -> None:
    """Make the networks of a machine that are not there yet."""
    for each in wanted(definition):
        if door.found(resource("networks", each.bridge)) is None:
            _make(door, each, definition.tag.project)


def _make(door: Door, subnet: Subnet, project: str) -> None:
    said = {"name": subnet.bridge, "type": "bridge", "description": f"vmctl: network {subnet.label}"}
    mark = {PROJECT: project, NETWORK: subnet.label}
    path = resource("networks")
    try:
        if door.is_clustered:
            for member in door.get(resource("cluster/members"), recursion=1) or ():
                door.change("POST", path, said, target=str(member["server_name"]))
        door.change("POST", path, {**said, "config": {**subnet.config, **mark}})
    except ServerError:
        if door.found(resource("networks", subnet.bridge)) is None:
            raise  # unless another vmctl made it meanwhile


def prune(door: Door, project: str) -> None:
    """Remove the networks of a project that no machine uses any more."""
    for name in unused(door, project):
        try:
            door.change("DELETE", resource("networks", name))
        except ServerError as error:
            if not is_absent(error) and not _is_used(door, name):
                raise  # unless another vmctl was quicker, or has begun to use it


def unused(door: Door, project: str) -> list[str]:
    """The networks of a project that no machine uses."""
    ours = (each for each in everywhere(door) if each["config"].get(PROJECT) == project)
    return [str(each["name"]) for each in ours if not each.get("used_by")]


def _is_used(door: Door, name: str) -> bool:
    found = door.found(resource("networks", name))
    return found is None or bool(found[0].get("used_by"))


def everywhere(door: Door) -> Iterator[Mapping[str, Any]]:
    """The networks that the server manages."""
    for network in door.get(resource("networks"), recursion=1) or ():
        if network.get("managed") and isinstance(network.get("config"), dict):
            yield network


def obstacles(door: Door, subnets: Iterable[Subnet]) -> Iterator[tuple[int, str]]:
    """Which of a machine's networks cannot be, by number, and what is in their way."""
    known = [(network, subnet) for network in everywhere(door) if (subnet := _of(network))]
    for number, each in enumerate(subnets):
        for network, subnet in known:
            if network["name"] == each.bridge and subnet != each.subnet and not each.isolated:
                yield number, f"{each.subnet} cannot be used: the network exists already, as {subnet}"
            elif network["name"] != each.bridge and not each.isolated and subnet.overlaps(each.subnet):
                yield number, f"{each.subnet} cannot be used: the server's network {network['name']} has {subnet}"


def _of(network: Mapping[str, Any]) -> ipaddress.IPv4Network | None:
    try:
        return ipaddress.IPv4Network(str(network["config"].get("ipv4.address", "")), strict=False)
    except ValueError:
        return None
