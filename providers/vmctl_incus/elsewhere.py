"""Machines whose loopback is not this host's: on a server that is reached over HTTPS, or another member of a cluster.

Their SSH is a proxy device too, but it has to listen where this host can get to: on the address of the very server that
has the machine. Which one that is may be known only once the server has placed the instance, and which port is free
there, only the server knows. So the device is made with a placeholder and gets its place before each start.
"""

from __future__ import annotations

import secrets
import socket
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from vmctl.driver import Forward
from vmctl.errors import Unreachable, VmctlError
from vmctl.spec import LOOPBACK, MachineSpec
from vmctl_incus import instance
from vmctl_incus.door import Door, resource
from vmctl_incus.errors import ServerError
from vmctl_incus.handle import Handle

FIRST_PORT, PORTS = 20000, 10000
"""Below those that systems give to connections going out."""
PLACEHOLDER = 22
TRIES = 5
UNCLUSTERED = "none"
"""Where the only server says that its instances are."""
TAKEN = "address already in use"
SCOPES = ("127.", "::1")


def is_here(door: Door, member: str) -> bool:
    """Whether what a member of the server has is on this host; "" = the member that is asked."""
    if not door.endpoint.is_local or member in ("", UNCLUSTERED):
        return door.endpoint.is_local
    return not door.is_clustered or member == door.environment.get("server_name")


def device(guest: int, present: Mapping[str, Any] | None) -> dict[str, str]:
    """The device for SSH: where it listens already, else a placeholder."""
    made = instance.proxy(Forward(name=instance.SSH, guest=guest, host=PLACEHOLDER, host_ip=LOOPBACK, protocol="tcp"))
    listen = (present or {}).get(instance.SSH, {}).get("listen")
    return {**made, "listen": listen} if listen else made


def start(door: Door, one: Handle) -> None:
    """Start an instance whose SSH listens on its own server's address, at a port that is free there.

    Raises:
        VmctlError: this host cannot get to that server, or it has no port.
    """
    host = address(door, str(one.found.get("location", "")))
    for _ in range(TRIES):
        present = instance.address(one.found)
        if present is None or present.host != host:
            _move(one, host, _free(door))
        try:
            one.act("start")
        except ServerError as error:
            if TAKEN not in error.brief.lower():
                raise
            _move(one, host, _free(door))
        else:
            return
    raise VmctlError(f"{door.endpoint.url} has no free port for SSH at {host}", hint="ss --listening --tcp    # there")


def address(door: Door, member: str) -> str:
    """The address, of its own, at which this host reaches the server that has an instance.

    Raises:
        VmctlError: it is reached through something else (a gateway, a tunnel), which would not let SSH through.
    """
    if door.is_clustered:
        said = door.get(resource("cluster/members", member))
        return urlsplit(str(said.get("url", ""))).hostname or ""
    own = {_without_port(str(each)) for each in door.environment.get("addresses") or ()}
    try:
        reached = {str(info[4][0]) for info in socket.getaddrinfo(door.endpoint.host, None, type=socket.SOCK_STREAM)}
    except OSError as error:
        raise Unreachable(f"{door.endpoint.host} has no address", details=str(error)) from error
    if usable := sorted(each for each in reached & own if not each.startswith(SCOPES)):
        return usable[0]
    raise VmctlError(
        f"{door.endpoint.url} is not reached at an address of its own, so SSH would not get to its machines",
        details=f"This host reaches it at {', '.join(sorted(reached))}; it has {', '.join(sorted(own)) or 'none'}.",
        hint="incus remote set-url NAME https://ADDRESS:8443    # one of those that it has",
    )


def faults(door: Door, member: str, spec: MachineSpec) -> Iterator[tuple[str, str]]:
    """What a machine that is not on this host cannot have, by key of the Vmfile."""
    if spec.networks and door.is_clustered and not member:
        yield "networks", "reach over one member of a cluster only: say which (`incus: {target: MEMBER}`)"
    if spec.ports:
        yield (
            "ports",
            "are not supported on other hosts yet: they would listen on that host's loopback, not on this one's",
        )
    if not door.is_clustered:
        try:
            address(door, member)
        except VmctlError as error:
            yield "incus", f"{error.brief} ({error.details} {error.hint})"


def _move(one: Handle, host: str, port: int) -> None:
    bracketed = f"[{host}]" if ":" in host else host

    def body(found: Mapping[str, Any]) -> dict[str, Any]:
        moved = {**found["devices"][instance.SSH], "listen": f"tcp:{bracketed}:{port}"}
        return {"devices": {**found["devices"], instance.SSH: moved}}

    one.put(body)


def _free(door: Door) -> int:
    """A port that no machine of the server's listens at."""
    listed = door.get(resource("instances"), recursion=1) or ()
    addresses = (instance.address(each) for each in listed)
    used = {each.port for each in addresses if each}
    return secrets.choice([port for port in range(FIRST_PORT, FIRST_PORT + PORTS) if port not in used])


def _without_port(text: str) -> str:
    return text.rpartition(":")[0].strip("[]")
