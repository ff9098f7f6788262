"""Networks between machines: managed bridges that vmctl makes, tags and removes."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from msgspec import Struct

from vmctl.driver import Definition, Nic
from vmctl.flock import held
from vmctl_incus.api import Api, resource
from vmctl_incus.identity import PREFIX
from vmctl_incus.requesting import ServerError, is_absent

PROJECT = PREFIX + "project"
NETWORK = PREFIX + "network"


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


class ProjectNetworks(Struct, frozen=True):
    """Networks that are kept while somebody of this user's makes a machine on them."""

    api: Api
    locks: Path

    def held_for(self, definition: Definition) -> AbstractContextManager[None]:
        """While networks of the project have no machine yet, nobody of this user's removes them."""
        return self._held(definition.tag.project) if definition.nics else nullcontext()

    def ensure(self, definition: Definition) -> None:
        """Make those of a machine that are not there yet."""
        ensure(self.api, definition)

    def prune(self, project: str) -> None:
        """Remove those of a project that no machine uses any more."""
        if unused(self.api, project):
            with self._held(project):
                prune(self.api, project)

    def _held(self, project: str) -> AbstractContextManager[None]:
        return held(self.locks / f"incus-networks-{project[:32]}")


def ensure(api: Api, definition: Definition) -> None:
    """Make the networks of a machine that are not there yet."""
    for each in wanted(definition):
        if api.found(resource("networks", each.bridge)) is None:
            _make(api, each, definition.tag.project)


def _make(api: Api, subnet: Subnet, project: str) -> None:
    body = {"name": subnet.bridge, "type": "bridge", "description": f"vmctl: network {subnet.label}"}
    mark = {PROJECT: project, NETWORK: subnet.label}
    path = resource("networks")
    try:
        if api.is_clustered:
            for member in api.get(resource("cluster/members"), recursion=1) or ():
                api.change("POST", path, body, target=str(member["server_name"]))
        api.change("POST", path, {**body, "config": {**subnet.config, **mark}})
    except ServerError:
        if api.found(resource("networks", subnet.bridge)) is None:
            raise  # unless another vmctl made it meanwhile


def prune(api: Api, project: str) -> None:
    """Remove the networks of a project that no machine uses any more."""
    for name in unused(api, project):
        try:
            api.change("DELETE", resource("networks", name))
        except ServerError as error:
            if not is_absent(error) and not _is_used(api, name):
                raise  # unless another vmctl was quicker, or has begun to use it


def unused(api: Api, project: str) -> list[str]:
    """The networks of a project that no machine uses."""
    ours = (each for each in everywhere(api) if each["config"].get(PROJECT) == project)
    return [str(each["name"]) for each in ours if not each.get("used_by")]


def _is_used(api: Api, name: str) -> bool:
    found = api.found(resource("networks", name))
    return found is None or bool(found[0].get("used_by"))


def everywhere(api: Api) -> Iterator[Mapping[str, Any]]:
    """The networks that the server manages."""
    for network in api.get(resource("networks"), recursion=1) or ():
        if network.get("managed") and isinstance(network.get("config"), dict):
            yield network


def obstacles(api: Api, subnets: Iterable[Subnet]) -> Iterator[tuple[int, str]]:
    """Which of a machine's networks cannot be, by number, and what is in their way."""
    known = [(network, subnet) for network in everywhere(api) if (subnet := _of(network))]
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
