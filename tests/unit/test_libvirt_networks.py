from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

import pytest
from msgspec import structs

from vmctl_libvirt import networks
from vmctl_libvirt.libvirt_errors import library
from vmctl_libvirt.networks import PrivateNetwork

BACKEND = PrivateNetwork("shop-backend", ipaddress.IPv4Network("192.168.56.0/24"))
DOMAIN = """<domain type='test'><name>{}</name><memory>1024</memory><os><type>hvm</type></os><devices>
<interface type='network'><source network='shop-backend'/></interface></devices></domain>"""


def net(text: str) -> ipaddress.IPv4Network:
    return ipaddress.IPv4Network(text)


@pytest.fixture
def connection() -> Iterator[Any]:
    opened = library().open("test:///default")
    yield opened
    opened.close()


def test_a_free_subnet_overlaps_nothing() -> None:
    assert not list(networks.overlaps([BACKEND], [("default", "virbr0", net("192.168.122.0/24"))], []))


def test_another_network_of_libvirt_is_in_the_way() -> None:
    ((subnet, obstacle),) = networks.overlaps([BACKEND], [("other", "virbr1", net("192.168.56.128/25"))], [])
    assert subnet is BACKEND
    assert obstacle == "libvirt's network 'other' has 192.168.56.128/25"


def test_the_host_is_in_the_way() -> None:
    ((_, obstacle),) = networks.overlaps([BACKEND], [], [("tun0", net("192.168.0.0/16"))])
    assert obstacle == "this host reaches 192.168.0.0/16 through tun0"


def test_its_own_bridge_is_not_in_the_way() -> None:
    own = [("shop-backend", "virbr7", BACKEND.subnet)]
    assert not list(networks.overlaps([BACKEND], own, [("virbr7", BACKEND.subnet)]))


def test_nothing_is_in_the_way_of_an_isolated_one(connection: Any) -> None:
    alone = structs.replace(BACKEND, name=networks.libvirt_name("shop-", "backend", isolated=True), isolated=True)
    taken = [("shop-backend", "virbr7", BACKEND.subnet)]
    assert not list(networks.overlaps([alone], taken, [("tun0", net("192.168.0.0/16"))]))
    networks.ensure(connection, [BACKEND, alone], "0a1b")
    made = networks.find(connection, alone.name)
    assert made is not None
    assert "<ip " not in made.XMLDesc(0)
    assert {name for name, _, _ in networks.taken_by_libvirt(connection)} == {"default", "shop-backend"}
    networks.prune(connection)


def test_the_same_network_with_another_subnet_is_told() -> None:
    ((_, obstacle),) = networks.overlaps([BACKEND], [("shop-backend", "virbr7", net("192.168.57.0/24"))], [])
    assert obstacle == "the network exists already, as 192.168.57.0/24"


def test_multicast_groups_are_stable_and_differ() -> None:
    group = networks.mcast_group("shop-1-", "backend")
    assert group == networks.mcast_group("shop-1-", "backend")
    assert group != networks.mcast_group("shop-2-", "backend")
    assert ipaddress.ip_address(group.address) in net("239.192.0.0/14")
    assert networks.FIRST_PORT <= group.port < networks.LAST_PORT


def test_a_network_is_made_once_and_goes_with_its_last_user(connection: Any) -> None:
    for _ in range(2):
        networks.ensure(connection, [BACKEND], "0a1b")
    network = networks.find(connection, "shop-backend")
    assert network is not None
    assert network.isActive()
    assert networks.is_ours(network)
    domains = [connection.defineXML(DOMAIN.format(name)) for name in ("a", "b")]
    for domain in domains:
        networks.prune(connection)
        assert networks.find(connection, "shop-backend") is not None
        domain.undefine()
    networks.prune(connection)
    assert networks.find(connection, "shop-backend") is None


def test_a_network_that_goes_while_they_are_listed_is_no_hindrance(
    connection: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = PrivateNetwork("shop-other", net("192.168.57.0/24"))
    networks.ensure(connection, [BACKEND, other], "0a1b")
    listed = connection.listAllNetworks(0)
    gone = networks.find(connection, BACKEND.name)
    assert gone is not None
    gone.destroy()
    gone.undefine()
    monkeypatch.setattr(library().virConnect, "listAllNetworks", lambda _self, _flags: listed)
    assert BACKEND.name not in [name for name, _, _ in networks.taken_by_libvirt(connection)]
    networks.prune(connection)
    assert networks.find(connection, other.name) is None


def test_networks_of_others_are_never_touched(connection: Any) -> None:
    network = networks.find(connection, "default")
    assert network is not None
    network.destroy()
    networks.start(connection, ["default"])
    networks.prune(connection)
    assert not network.isActive()


def test_a_stopped_network_is_started_again(connection: Any) -> None:
    networks.ensure(connection, [BACKEND], "0a1b")
    network = networks.find(connection, "shop-backend")
    assert network is not None
    network.destroy()
    networks.start(connection, ["shop-backend", "absent"])
    assert network.isActive()


def test_subnets_of_libvirt_are_read_whatever_their_notation(connection: Any) -> None:
    assert [(name, str(subnet)) for name, _, subnet in networks.taken_by_libvirt(connection)] == [
        ("default", "192.168.122.0/24")
    ]


def test_addresses_and_routes_of_the_host_are_read() -> None:
    addresses: list[dict[str, Any]] = [
        {"ifname": "lo", "addr_info": [{"local": "127.0.0.1", "prefixlen": 8}]},
        {"ifname": "eth0", "addr_info": [{"local": "10.1.2.3", "prefixlen": 16}]},
        {"ifname": "dummy0"},
    ]
    routes = [
        {"dst": "default", "dev": "eth0"},
        {"dst": "10.9.0.0/16", "dev": "tun0"},
        {"dst": "10.8.0.1", "dev": "tun0"},
    ]
    assert [(device, str(subnet)) for device, subnet in networks.host_networks(addresses, routes)] == [
        ("eth0", "10.1.0.0/16"),
        ("tun0", "10.8.0.1/32"),
        ("tun0", "10.9.0.0/16"),
    ]


def test_the_gateway_is_the_first_address() -> None:
    assert BACKEND.gateway == "192.168.56.1"
    assert structs.replace(BACKEND, subnet=net("192.168.57.128/25")).gateway == "192.168.57.129"


def test_only_the_complaint_about_dnsmasqs_directory_is_acted_on() -> None:
    complaint = "Failed to create file '/var/lib/libvirt/dnsmasq/virbr0.macs.new': No such file or directory"
    assert networks.missing_directory(complaint) == PurePosixPath("/var/lib/libvirt/dnsmasq")
    assert networks.missing_directory("Failed to create file '/etc/x/virbr0.macs.new': Permission denied") is None


def test_the_way_of_multicast_is_known() -> None:
    assert networks.multicast_device("127.0.0.1") == "lo"
