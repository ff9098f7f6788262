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
from vmctl.errors import Unreachable, VmctlError, in_words
from vmctl.spec import LOOPBACK, MachineSpec
from vmctl_incus import observation, proxies
from vmctl_incus.api import Api, resource
from vmctl_incus.handle import Handle
from vmctl_incus.requesting import ServerError

FIRST_PORT, PORTS = 20000, 10000
"""Below those that systems give to connections going out."""
PLACEHOLDER = 22
TRIES = 5
TAKEN = ("address already in use", "failed to receive fd from listener process")
"""What the server says of a port that another program has there; the second where what listens has ended too soon."""
SCOPES = ("127.", "::1")


def is_local(api: Api, member: str) -> bool:
    """Whether what a member of the server has is on this host; "" = the member that is asked."""
    if not api.endpoint.is_local or member in ("", observation.UNCLUSTERED):
        return api.endpoint.is_local
    return not api.is_clustered or member == api.environment.get("server_name")


def device(guest: int, present: Mapping[str, Any] | None) -> dict[str, str]:
    """The device for SSH: where it listens already, else a placeholder."""
    made = proxies.device(Forward(name=proxies.SSH, guest=guest, host=PLACEHOLDER, host_ip=LOOPBACK, protocol="tcp"))
    listen = (present or {}).get(proxies.SSH, {}).get("listen")
    return {**made, "listen": listen} if listen else made


def start(api: Api, one: Handle) -> None:
    """Start an instance whose SSH listens on its own server's address, at a port that is free there.

    Raises:
        VmctlError: this host cannot get to that server, or it has no port.
    """
    host = address(api, str(one.found.get("location", "")))
    for _ in range(TRIES):
        present = proxies.address(one.found)
        if present is None or present.host != host:
            _move(one, host, _free(api))
        try:
            one.act("start")
        except ServerError as error:
            if not any(words in error.brief.lower() for words in TAKEN):
                raise
            _move(one, host, _free(api))
        else:
            return
    raise VmctlError(f"{api.endpoint.url} has no free port for SSH at {host}", hint="ss --listening --tcp    # there")


def address(api: Api, member: str) -> str:
    """The address, of its own, at which this host reaches the server that has an instance.

    Raises:
        VmctlError: it is reached through something else (a gateway, a tunnel), which would not let SSH through.
    """
    if api.is_clustered:
        found = api.get(resource("cluster/members", member))
        return urlsplit(str(found.get("url", ""))).hostname or ""
    own = {_without_port(str(each)) for each in api.environment.get("addresses") or ()}
    try:
        reached = {str(info[4][0]) for info in socket.getaddrinfo(api.endpoint.host, None, type=socket.SOCK_STREAM)}
    except OSError as error:
        raise Unreachable(f"{api.endpoint.host} has no address", details=in_words(error)) from error
    if usable := sorted(each for each in reached & own if not each.startswith(SCOPES)):
        return usable[0]
    raise VmctlError(
        f"{api.endpoint.url} is not reached at an address of its own, so SSH would not get to its machines",
        details=f"This host reaches it at {', '.join(sorted(reached))}; it has {', '.join(sorted(own)) or 'none'}.",
        hint="incus remote set-url NAME https://ADDRESS:8443    # one of those that it has",
    )


def faults(api: Api, member: str, spec: MachineSpec) -> Iterator[tuple[str, str]]:
    """What a machine that is not on this host cannot have, by key of the Vmfile."""
    if spec.networks and api.is_clustered and not member:
        yield "networks", "reach over one member of a cluster only: say which (`incus: {target: MEMBER}`)"
    if spec.ports:
        yield (
            "ports",
            "are not supported on other hosts yet: they would listen on that host's loopback, not on this one's",
        )
    if not api.is_clustered:
        try:
            address(api, member)
        except VmctlError as error:
            yield "incus", f"{error.brief} ({error.details} {error.hint})"


def _move(one: Handle, host: str, port: int) -> None:
    bracketed = f"[{host}]" if ":" in host else host

    def body(found: Mapping[str, Any]) -> dict[str, Any]:
        moved = {**found["devices"][proxies.SSH], "listen": f"tcp:{bracketed}:{port}"}
        return {"devices": {**found["devices"], proxies.SSH: moved}}

    one.put(body)


def _free(api: Api) -> int:
    """A port that no machine of the server's listens at."""
    addresses = (proxies.address(each) for each in api.instances())
    used = {each.port for each in addresses if each}
    return secrets.choice([port for port in range(FIRST_PORT, FIRST_PORT + PORTS) if port not in used])


def _without_port(text: str) -> str:
    return text.rpartition(":")[0].strip("[]")
