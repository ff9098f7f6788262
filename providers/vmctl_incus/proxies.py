"""Forwarded ports, as proxy devices: listening on the host, connected to the guest's own loopback.

The server starts proxy devices one after the other and takes a second for each. So there is one for all forwards of a
protocol and an address, and SSH has its own, which nothing that is done to the others interrupts.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import count
from typing import Any

from vmctl import interrupt
from vmctl.driver import Address, Forward
from vmctl.errors import VmctlError
from vmctl.spec import LOOPBACK
from vmctl_incus.handle import Handle
from vmctl_incus.requesting import ServerError

SSH = "ssh"
FORWARD = "forward"
"""What the devices of the other forwards are called, before a number."""
Device = dict[str, str]


def devices(forwards: Sequence[Forward], *, taken: Collection[str] = ()) -> dict[str, Device]:
    """The devices for forwards, by name.

    Args:
        forwards: all of them.
        taken: names of devices that there are already.
    """
    groups: dict[tuple[str, ...], list[Forward]] = {}
    for one in forwards:
        key = (SSH,) if one.name == SSH else (one.protocol, one.host_ip)
        groups.setdefault(key, []).append(one)
    names = (name for number in count() if (name := f"{FORWARD}{number}") not in taken)
    return {SSH if key == (SSH,) else next(names): device(*group) for key, group in groups.items()}


def device(*forwards: Forward) -> Device:
    """The device for forwards of the same protocol and address of the host."""
    first = forwards[0]
    host = f"[{first.host_ip}]" if ipaddress.ip_address(first.host_ip).version == 6 else first.host_ip  # noqa: PLR2004
    return {
        "type": "proxy",
        "bind": "host",
        "listen": f"{first.protocol}:{host}:{','.join(str(one.host) for one in forwards)}",
        "connect": f"{first.protocol}:{LOOPBACK}:{','.join(str(one.guest) for one in forwards)}",
    }


def exchange(instance: Handle, forwards: Sequence[Forward]) -> None:
    """Have the forwards of a running instance be these, but for SSH's.

    Devices all of whose forwards are still wanted go on, and what is new gets a device of its own.

    Raises:
        ServerError: a port is taken, for example; the forwards are what they were.
    """
    before = _present(instance.found)
    wanted = {pair: one for one in forwards if one.name != SSH for pair in _pairs(device(one))}
    kept = {name for name, one in before.items() if wanted.keys() >= set(_pairs(one))}
    served = {pair for name in kept for pair in _pairs(before[name])}
    added = devices([one for pair, one in wanted.items() if pair not in served], taken=kept)
    removed = before.keys() - kept
    try:
        _replace(instance, removed, added)
    except ServerError:
        with interrupt.shielded(), suppress(VmctlError):  # what failed first is what matters
            _restart(instance, {name: before[name] for name in removed})
        raise


def address(found: Mapping[str, Any]) -> Address | None:
    """Where SSH is forwarded from, by an instance's devices."""
    listen = str((found.get("devices") or {}).get(SSH, {}).get("listen", ""))
    _, _, place = listen.partition(":")
    host, _, port = place.rpartition(":")
    return Address(host=host.strip("[]"), port=int(port)) if host and port.isascii() and port.isdecimal() else None


def _present(found: Mapping[str, Any]) -> dict[str, Device]:
    return {name: one for name, one in found["devices"].items() if name.startswith(FORWARD)}


def _pairs(one: Device) -> Iterator[tuple[str, str]]:
    """What a device does, one forward at a time: where it listens, and what it connects to."""
    listen, connect = (one[key].rpartition(":") for key in ("listen", "connect"))
    for host, guest in zip(listen[2].split(","), connect[2].split(","), strict=False):
        yield f"{listen[0]}:{host}", f"{connect[0]}:{guest}"


def _replace(instance: Handle, removed: Collection[str], added: Mapping[str, Device]) -> None:
    if removed or added:
        instance.put(
            lambda found: {
                "devices": {name: one for name, one in found["devices"].items() if name not in removed} | dict(added)
            }
        )


def _restart(instance: Handle, ended: Mapping[str, Device]) -> None:
    """Start devices that an exchange in vain has ended: the server lists them again, and does not start them."""
    instance.again()
    _replace(instance, ended.keys(), {})
    _replace(instance, (), ended)
