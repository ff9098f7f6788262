"""How ``ports:`` is written: [HOST_IP:]HOST:GUEST[/PROTOCOL], or a mapping."""

from __future__ import annotations

import ipaddress
import re
from typing import Any

from vmctl.errors import suggest
from vmctl.spec import LOOPBACK, Port, Protocol
from vmctl.vmfile.faults import describe
from vmctl.vmfile.kinds import Kind, choice, parsed
from vmctl.vmfile.nodes import Table
from vmctl.vmfile.quantities import Mismatch
from vmctl.vmfile.reading import Reading
from vmctl.vmfile.structures import Either, Field, TableOf

WHAT = "[HOST_IP:]HOST:GUEST[/udp]"
HIGHEST = 65535
AUTO = "auto"
PROTOCOLS: tuple[Protocol, ...] = ("tcp", "udp")
SHORT_PATTERN = r"^((\[.*\]|[^:\[\]]+):)?(auto|[0-9]+):[0-9]+(/(tcp|udp))?$"
SHORT = re.compile(r"(?:(?P<ip>\[[^\]]*\]|[^:\[\]]*):)?(?P<host>[^:]*):(?P<guest>[^:/]*)(?:/(?P<protocol>.*))?")


def parse_port(value: Any) -> Port:
    """A forwarded port in its short form.

    Raises:
        Mismatch: it is none.
    """
    if not isinstance(value, int | str) or isinstance(value, bool):
        raise Mismatch(f"expected {WHAT}, got {describe(value)}")
    if re.fullmatch(r"[0-9]+(/.*)?", str(value)):
        raise Mismatch(
            f"which port of the host? Write '{value}' as '{AUTO}:{value}' for a free one, or as HOST:{value}"
        )
    match = SHORT.fullmatch(str(value))
    if match is None:
        raise Mismatch(f"expected {WHAT}, got {describe(value)}")
    return Port(
        guest=parse_number(match["guest"]),
        host=parse_host(match["host"]),
        host_ip=parse_host_ip(match["ip"].strip("[]")) if match["ip"] is not None else LOOPBACK,
        protocol=_protocol(match["protocol"]),
    )


def _protocol(text: str | None) -> Protocol:
    for known in PROTOCOLS:
        if text in (None, known):
            return known
    raise Mismatch(f"unknown protocol '{text}'; use tcp or udp{suggest(str(text), PROTOCOLS)}")


def parse_number(value: Any) -> int:
    """A port number, 1 to 65535.

    Raises:
        Mismatch: it is none.
    """
    if isinstance(value, bool) or not re.fullmatch(r"[0-9]{1,9}", str(value)):
        raise Mismatch(f"expected a port number, got {describe(value)}")
    if not 1 <= int(value) <= HIGHEST:
        raise Mismatch(f"port {value} is not between 1 and {HIGHEST}")
    return int(value)


def parse_host(value: Any) -> int | None:
    """A port number of the host; None for ``auto``.

    Raises:
        Mismatch: it is neither.
    """
    if value == AUTO:
        return None
    try:
        return parse_number(value)
    except Mismatch as error:
        raise Mismatch(f"{error} (or '{AUTO}')") from error


def parse_host_ip(value: Any) -> str:
    """An address of the host.

    Raises:
        Mismatch: it is none.
    """
    try:
        return str(ipaddress.ip_address(value if isinstance(value, str) else ""))
    except ValueError:
        raise Mismatch(f"expected an address of the host such as 127.0.0.1, got {describe(value)}") from None


def write(port: Port) -> dict[str, Any]:
    """The port as a Vmfile would write it."""
    host = AUTO if port.host is None else port.host
    return {"guest": port.guest, "host": host, "host_ip": port.host_ip, "protocol": port.protocol}


def summary(port: Port) -> str:
    """The port as records keep it."""
    return f"{port.host_ip}:{port.host or AUTO}:{port.guest}/{port.protocol}"


def _build(values: dict[str, Any], _table: Table, _at: Reading) -> Port:
    return Port(**{"host": None, **values})


NUMBER = parsed("a port number", parse_number, {"type": "integer", "minimum": 1, "maximum": HIGHEST})
PORT: Kind = Either(
    parsed(WHAT, parse_port, {"type": "string", "pattern": SHORT_PATTERN}),
    TableOf(
        {
            "guest": Field(NUMBER, "Port in the guest.", required=True),
            "host": Field(
                parsed(
                    "a port number or auto", parse_host,
                    {"anyOf": [{"type": "integer", "minimum": 1, "maximum": HIGHEST}, {"const": AUTO}]},
                ),
                "Port on the host; auto = a free one, kept.",
                default=AUTO,
            ),
            "host_ip": Field(
                parsed("an address of the host", parse_host_ip, {"type": "string"}),
                "Address of the host that listens.",
                default=LOOPBACK,
            ),
            "protocol": Field(choice(*PROTOCOLS), "tcp or udp.", default="tcp"),
        },
        _build,
    ),
    f"{WHAT} or a mapping",
)  # fmt: skip
