"""Networks between machines: one libvirt network each in system mode, a multicast socket in session mode."""

from __future__ import annotations

import hashlib
import ipaddress
import json
import re
import secrets
from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any

from msgspec import Struct

from vmctl import templates
from vmctl.driver import Definition
from vmctl_libvirt import xml_text
from vmctl_libvirt.libvirt_errors import NO_DOMAIN, NO_NETWORK, is_code, library, still_there

NAMESPACE = "urn:x-vmctl:network:1"
FIRST_PORT, LAST_PORT = 20000, 60000
LOOPBACK = "lo"
# libvirt notes the MAC addresses on each of its networks in a directory that it makes only when it first starts
# dnsmasq. Where no network ever needed dnsmasq (vmctl's have static addresses), the first machine on a network fails
# to start for want of that directory.
NO_DIRECTORY = re.compile(r"'(/[^']+/dnsmasq)/[^/']+\.macs\.new': No such file or directory")


class MulticastGroup(Struct, frozen=True):
    """A multicast group that stands for a network."""

    address: str
    port: int


class PrivateNetwork(Struct, frozen=True):
    """A network that a machine wants to be on."""

    name: str
    """libvirt's name."""
    subnet: ipaddress.IPv4Network
    isolated: bool = False
    """Whether the host has no address on it, so that it may overlap with anything."""

    @property
    def gateway(self) -> str:
        """The host's own address on it: the first one."""
        return str(self.subnet.network_address + 1)


def is_wired_by_libvirt(*, is_session: bool) -> bool:
    """Whether networks are libvirt's (bridges need root) rather than multicast sockets."""
    return not is_session


def libvirt_name(prefix: str, network: str, *, isolated: bool = False) -> str:
    """What a project's network is called in libvirt; an isolated one is another network than one that is not."""
    return f"{prefix}.{network}" if isolated else f"{prefix}{network}"


def mcast_group(prefix: str, network: str) -> MulticastGroup:
    """The group of a project's network: in 239.192.0.0/14 (this site only), the same for every machine of it."""
    digest = hashlib.sha256(libvirt_name(prefix, network).encode()).digest()
    address = ipaddress.IPv4Address("239.192.0.0") + int.from_bytes(digest[:4]) % (1 << 18)
    return MulticastGroup(str(address), FIRST_PORT + int.from_bytes(digest[4:6]) % (LAST_PORT - FIRST_PORT))


def subnets(definition: Definition) -> tuple[PrivateNetwork, ...]:
    """The libvirt networks that a machine needs."""
    return tuple(
        PrivateNetwork(
            libvirt_name(definition.network_prefix, nic.network, isolated=nic.isolated),
            ipaddress.IPv4Network(f"{nic.ip}/{nic.prefix}", strict=False),
            nic.isolated,
        )
        for nic in definition.nics
    )


def ensure(connection: Any, wanted: Iterable[PrivateNetwork], project: str) -> None:
    """Define and start the networks that are not there yet.

    Called after the machine that uses them is defined, so that ``prune`` in another process never takes a network
    between its making and its first user.
    """
    libvirt = library()
    for each in wanted:
        network = find(connection, each.name)
        if network is None:
            xml = templates.render(
                "vmctl_libvirt", "network.xml.j2", network=each, namespace=NAMESPACE, project=project
            )
            network = connection.networkDefineXML(xml)
        try:
            if not network.isActive():
                network.create()
        except libvirt.libvirtError as error:
            if not (is_code(error, "VIR_ERR_OPERATION_INVALID") and network.isActive()):
                raise  # unless another vmctl started it in between


def start(connection: Any, names: Iterable[str]) -> None:
    """Start those of vmctl's networks among ``names`` that a host's reboot stopped."""
    for name in names:
        network = find(connection, name)
        if network is not None and is_ours(network) and not network.isActive():
            network.create()


def prune(connection: Any) -> None:
    """Remove vmctl's networks that no machine uses any more, of whatever project."""
    ours = [network for network, own in still_there(connection.listAllNetworks(0), is_ours, NO_NETWORK) if own]
    if not ours:
        return
    used = {name for _, names in still_there(connection.listAllDomains(0), used_by, NO_DOMAIN) for name in names}
    unused = [network for network in ours if network.name() not in used]
    list(still_there(unused, _remove, NO_NETWORK))


def _remove(network: Any) -> None:
    if network.isActive():
        network.destroy()
    network.undefine()


def used_by(domain: Any) -> set[str]:
    """Names of the libvirt networks that a machine is on."""
    root = xml_text.parse(domain.XMLDesc(library().VIR_DOMAIN_XML_INACTIVE))
    return {source.get("network", "") for source in root.iterfind("devices/interface/source")} - {""}


def find(connection: Any, name: str) -> Any | None:
    """The libvirt network ``name``, or None when there is none."""
    libvirt = library()
    try:
        return connection.networkLookupByName(name)
    except libvirt.libvirtError as error:
        if is_code(error, NO_NETWORK):
            return None
        raise


def is_ours(network: Any) -> bool:
    """Whether vmctl made a network."""
    root = xml_text.parse(network.XMLDesc(0))
    return root.find(f"metadata/{{{NAMESPACE}}}network") is not None


def taken_by_libvirt(connection: Any) -> Iterator[tuple[str, str, ipaddress.IPv4Network]]:
    """Name, bridge and subnet of every IPv4 network that libvirt knows, running or not."""
    listed = still_there(connection.listAllNetworks(0), lambda network: network.XMLDesc(0), NO_NETWORK)
    for network, text in listed:
        root = xml_text.parse(text)
        bridge = root.find("bridge")
        for ip in root.iterfind("ip"):
            if ip.get("family", "ipv4") == "ipv4":
                mask = ip.get("prefix") or ip.get("netmask") or "32"
                subnet = ipaddress.IPv4Network(f"{ip.get('address')}/{mask}", strict=False)
                yield network.name(), bridge.get("name", "") if bridge is not None else "", subnet


def overlaps(
    wanted: Sequence[PrivateNetwork],
    by_libvirt: Sequence[tuple[str, str, ipaddress.IPv4Network]],
    by_host: Sequence[tuple[str, ipaddress.IPv4Network]],
) -> Iterator[tuple[PrivateNetwork, str]]:
    """Each wanted network that cannot be, with what is in its way.

    Args:
        wanted: the machine's networks.
        by_libvirt: see ``taken_by_libvirt``.
        by_host: device and subnet of the host's addresses and routes, see ``taken_by_host``.
    """
    for each in (each for each in wanted if not each.isolated):
        own_bridges = {bridge for name, bridge, _ in by_libvirt if name == each.name}
        for name, _, subnet in by_libvirt:
            if name != each.name and subnet.overlaps(each.subnet):
                yield each, f"libvirt's network {name!r} has {subnet}"
            elif name == each.name and subnet != each.subnet:
                yield each, f"the network exists already, as {subnet}"
        bridges = {bridge for _, bridge, _ in by_libvirt}
        for device, subnet in by_host:
            if device not in own_bridges | bridges and subnet.overlaps(each.subnet):
                yield each, f"this host reaches {subnet} through {device}"


def taken_by_host() -> list[tuple[str, ipaddress.IPv4Network]]:
    """Device and subnet of every address and route of this host, default routes and loopback aside."""
    return host_networks(_ip_json("-4", "address", "show"), _ip_json("-4", "route", "show"))


def host_networks(
    addresses: list[dict[str, Any]], routes: list[dict[str, Any]]
) -> list[tuple[str, ipaddress.IPv4Network]]:
    """``taken_by_host``, from what ``ip -json address`` and ``ip -json route`` print."""
    found = [
        (device["ifname"], ipaddress.IPv4Network(f"{address['local']}/{address['prefixlen']}", strict=False))
        for device in addresses
        for address in device.get("addr_info", ())
    ]
    found += [
        (route.get("dev", "?"), ipaddress.IPv4Network(route["dst"])) for route in routes if route["dst"] != "default"
    ]
    return sorted({(device, subnet) for device, subnet in found if device != LOOPBACK})


def multicast_device(address: str) -> str:
    """The device that packets to a multicast ``address`` leave by; "" when there is no way at all."""
    routes = _ip_json("route", "get", address, check=False)
    return str(routes[0].get("dev", "")) if routes else ""


def _ip_json(*words: str, check: bool = True) -> list[dict[str, Any]]:
    """What `ip` of this host answers; nothing where it fails, unless that is to be an error (``check``)."""
    from vmctl import process

    done = process.run([process.find("ip", package="iproute2"), "-json", *words], check=check)
    return [row for row in json.loads(done.stdout or "[]") if row] if done.status == 0 else []


def missing_directory(complaint: str) -> PurePosixPath | None:
    """The directory that an error of libvirt's says is missing; None = the error is about something else."""
    found = NO_DIRECTORY.search(complaint)
    return PurePosixPath(found[1]) if found else None


def make_directory(connection: Any, directory: PurePosixPath) -> None:
    """Have libvirt's daemon make a directory on its own host.

    It runs as root, perhaps far away; the user may be neither. But it makes the directories of storage pools, and a
    pool that is forgotten again at once leaves its directory behind.
    """
    name = f"vmctl-{secrets.token_hex(4)}"
    xml = templates.render("vmctl_libvirt", "pool.xml.j2", name=name, directory=directory)
    pool = connection.storagePoolCreateXML(xml, library().VIR_STORAGE_POOL_CREATE_WITH_BUILD)
    pool.destroy()
