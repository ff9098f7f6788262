"""Whether the host can resolve names for its guests."""

from __future__ import annotations

import ipaddress
from pathlib import Path

RESOLV_CONF = Path("/etc/resolv.conf")


def has_name_server(resolv_conf: Path) -> bool:
    """Whether the host can resolve names, as far as its resolv.conf tells.

    NIC 1's name server is the host's own, passed on: where the host has none, each lookup in the guest would wait.
    """
    try:
        lines = resolv_conf.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    words = [line.split() for line in lines]
    return any(len(entry) > 1 and entry[0] == "nameserver" and _is_address(entry[1]) for entry in words)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    return True
