"""Whether a port of this host is free, found by binding it just before a machine starts; and which program has it."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from vmctl import wait
from vmctl.driver import Forward
from vmctl.errors import VmctlError

LETTING_GO = 6.0  # seconds; a container's proxy ends after its container, as a busy host comes to it
# proc_net_tcp and proc(5) of the Linux documentation have the format.
LISTEN = "0A"  # TCP_LISTEN in /proc/net/tcp
UDP_OPEN = "07"  # what /proc/net/udp shows for an unconnected socket


class PortTaken(VmctlError):
    """A host port that the Vmfile asks for belongs to somebody else."""


def require_free(machine: str, forwards: Iterable[Forward]) -> None:
    """See that no program has taken ports that a machine cannot do without.

    Raises:
        PortTaken: all that are taken, and who has them.
    """
    problems = [in_use(forward) for forward in forwards if not is_let_go(forward)]
    if problems:
        raise PortTaken(
            f"host ports that machine {machine} had when it was suspended are taken",
            details="\n".join(problems),
            hint=f"free them, or give up what is in its memory: vmctl halt {machine}",
        )


def is_let_go(forward: Forward) -> bool:
    """Whether a machine that is off can have its port again: what served it may need a moment to end."""
    try:
        wait.until(lambda: can_bind(forward), wait.Deadline.after(LETTING_GO), f"port {forward.host} to be free")
    except wait.TimedOut:
        return False
    return True


def in_use(forward: Forward) -> str:
    """Who has a port, for people."""
    where = f"{forward.host_ip}:{forward.host}/{forward.protocol}"
    return f"{where} is in use by {listener(forward.host, forward.protocol)}"


def can_bind(forward: Forward) -> bool:
    """Whether a program could listen there now."""
    kind = socket.SOCK_STREAM if forward.protocol == "tcp" else socket.SOCK_DGRAM
    family = socket.AF_INET6 if ":" in forward.host_ip else socket.AF_INET
    with suppress(OSError), socket.socket(family, kind) as probe:
        if forward.protocol == "tcp":
            # As QEMU does: a port whose last connections are in TIME_WAIT is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((forward.host_ip, forward.host))
        return True
    return False


def listener(port: int, protocol: str, *, proc: Path = Path("/proc")) -> str:
    """Name the process that has the port: "python3 (process 4711)", or "another program" when that cannot be seen."""
    inodes = {f"socket:[{inode}]" for inode in _socket_inodes(port, protocol, proc)}
    if inodes:
        for process in proc.iterdir():
            if process.name.isdigit() and _has_socket(process, inodes):
                return f"{_program_name(process)} (process {process.name})"
    return "another program"


def _socket_inodes(port: int, protocol: str, proc: Path) -> Iterator[str]:
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


def _program_name(process: Path) -> str:
    with suppress(OSError):
        return (process / "comm").read_text().strip()
    return "a program"
