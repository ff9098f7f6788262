"""Which program listens on a port, read from /proc (format: proc_net_tcp and proc(5) of the Linux documentation)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

LISTEN = "0A"  # TCP_LISTEN in /proc/net/tcp
UDP_OPEN = "07"  # what /proc/net/udp shows for an unconnected socket


def listener(port: int, protocol: str, *, proc: Path = Path("/proc")) -> str:
    """Name the process that has the port: "python3 (process 4711)", or "another program" when that cannot be seen."""
    inodes = {f"socket:[{inode}]" for inode in _inodes(port, protocol, proc)}
    if inodes:
        for process in proc.iterdir():
            if process.name.isdigit() and _has_socket(process, inodes):
                return f"{_name(process)} (process {process.name})"
    return "another program"


def _inodes(port: int, protocol: str, proc: Path) -> Iterator[str]:
    wanted = LISTEN if protocol == "tcp" else UDP_OPEN
    for table in (protocol, f"{protocol}6"):
        with suppress(OSError):
            for line in (proc / "net" / table).read_text().splitlines()[1:]:
                fields = line.split()
                local, state, inode = fields[1], fields[3], fields[9]
                if int(local.rpartition(":")[2], 16) == port and state == wanted:
                    yield inode


def _has_socket(process: Path, inodes: set[str]) -> bool:
    with suppress(OSError):
        for link in (process / "fd").iterdir():
            with suppress(OSError):
                if str(link.readlink()) in inodes:
                    return True
    return False


def _name(process: Path) -> str:
    with suppress(OSError):
        return (process / "comm").read_text().strip()
    return "a program"
