"""Which IPv4 networks this host is on or has a way to, and where its multicast goes."""

from __future__ import annotations

import ipaddress
import json
from typing import Any

from vmctl import process

LOOPBACK = "lo"


def taken() -> list[tuple[str, ipaddress.IPv4Network]]:
    """Device and subnet of every address and route of this host, default routes and loopback aside."""
    return parse(_ip("address"), _ip("route"))


def parse(addresses: list[dict[str, Any]], routes: list[dict[str, Any]]) -> list[tuple[str, ipaddress.IPv4Network]]:
    """``taken``, from what ``ip -json address`` and ``ip -json route`` print."""
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
    done = process.run([process.find("ip", package="iproute2"), "-json", "route", "get", address], check=False)
    if done.status != 0:
        return ""
    routes = json.loads(done.stdout or "[]")
    return str(routes[0].get("dev", "")) if routes else ""


def _ip(what: str) -> list[dict[str, Any]]:
    done = process.run([process.find("ip", package="iproute2"), "-json", "-4", what, "show"])
    return [row for row in json.loads(done.stdout or "[]") if row]
