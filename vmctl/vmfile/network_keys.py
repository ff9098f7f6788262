"""How ``networks:`` is written, and which addresses it may use."""

from __future__ import annotations

import ipaddress
from typing import Any

from vmctl.spec import Network
from vmctl.vmfile.faults import describe
from vmctl.vmfile.kinds import Kind, One, flag, parsed, text
from vmctl.vmfile.nodes import Table
from vmctl.vmfile.quantities import Mismatch
from vmctl.vmfile.reading import Reading
from vmctl.vmfile.structures import Either, Field, TableOf

RANGE = ipaddress.IPv4Network("192.168.56.0/21")
"""What VirtualBox allows for host-only networks without configuration; every provider keeps to it."""
IP_PATTERN = r"^192\.168\.(5[6-9]|6[0-3])\.[0-9]{1,3}$"
DEFAULT_NETMASK = "255.255.255.0"
SMALLEST_PREFIX, LARGEST_PREFIX = RANGE.prefixlen, 30
NAME_PATTERN = r"[a-z0-9][a-z0-9-]{0,30}"
NAME_WHY = "a name has 1 to 31 of a-z, 0-9 and '-', and starts with a letter or digit"


def parse_ip(value: Any) -> str:
    """An IPv4 address in the range.

    Raises:
        Mismatch: it is none.
    """
    try:
        address = ipaddress.IPv4Address(value if isinstance(value, str) else "")
    except ValueError:
        raise Mismatch(f"expected an IPv4 address, got {describe(value)}") from None
    if address not in RANGE:
        raise Mismatch(f"{address} is outside {RANGE}, the range of machines' networks")
    return str(address)


def parse_netmask(value: Any) -> str:
    """A netmask, dotted or as a prefix length.

    Raises:
        Mismatch: it is none, or the network would not fit the range.
    """
    try:
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise ValueError  # noqa: TRY004, TRY301  the same advice for every wrong value
        network = ipaddress.IPv4Network(f"0.0.0.0/{str(value).removeprefix('/')}")
    except ValueError:
        raise Mismatch(f"expected a netmask such as {DEFAULT_NETMASK}, got {describe(value)}") from None
    if not SMALLEST_PREFIX <= network.prefixlen <= LARGEST_PREFIX:
        raise Mismatch(f"/{network.prefixlen} is not between /{SMALLEST_PREFIX} and /{LARGEST_PREFIX}")
    return str(network.netmask)


def write(network: Network) -> dict[str, Any]:
    """The network as a Vmfile would write it."""
    words = {"name": network.name, "ip": network.ip, "netmask": network.netmask}
    return {**words, "isolated": True} if network.isolated else words


def summary(network: Network) -> str:
    """The network as records keep it."""
    return f"{network.name} {network.ip}/{network.netmask}{' isolated' if network.isolated else ''}"


def _build(values: dict[str, Any], table: Table, at: Reading) -> Network:
    network = Network(**values)
    if network.ip is not None:
        interface = ipaddress.IPv4Interface(f"{network.ip}/{network.netmask}")
        if problem := unusable(interface):
            at.reject(table.get("ip") or table, problem)
    return network


def unusable(interface: ipaddress.IPv4Interface) -> str:
    """Why no machine can have this address; "" when one can."""
    subnet = interface.network
    if interface.ip in (subnet.network_address, subnet.broadcast_address):
        return f"{interface.ip} is not a machine's address in {subnet}"
    if interface.ip == subnet.network_address + 1:
        return f"{interface.ip} is the host's own address in {subnet}"
    return ""


_NAME = text("a network's name", NAME_PATTERN, NAME_WHY)

NETWORK: Kind = Either(
    One("a network", lambda value, source: Network(name=_NAME.convert(value, source)), _NAME.json),
    TableOf(
        {
            "name": Field(_NAME, "The network; machines of the project that name it are on it.", required=True),
            "ip": Field(
                parsed("an IPv4 address", parse_ip, {"type": "string", "pattern": IP_PATTERN}),
                f"Static address inside {RANGE}; without it, one is allocated.",
            ),
            "netmask": Field(
                parsed("a netmask", parse_netmask, {"type": ["string", "integer"]}),
                "Dotted, or as a prefix length.",
                default=DEFAULT_NETMASK,
            ),
            "isolated": Field(
                flag(), "Keep this host off the network; the same for all machines on it.", default=False
            ),
        },
        _build,
    ),
    "a network's name or a mapping",
)
