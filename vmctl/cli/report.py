"""Machines as JSON objects and as table rows, alike in every command."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from vmctl.machine_names import short_id

if TYPE_CHECKING:
    from vmctl.workspace import Machine


def machine_object(machine: Machine) -> dict[str, Any]:
    """One machine for programs: the same keys in `up`, `status` and the power commands."""
    record = machine.record if machine.observed else None
    return {
        "name": machine.name,
        "state": machine.state_text,
        "ready": machine.is_ready,
        "problem": machine.problem or None,
        "provider": machine.provider,
        "provider_reason": machine.reason,
        "member": machine.observed.member or None if machine.observed else None,
        "id": short_id(machine.record.project, machine.name) if machine.record else None,
        "domain": machine.domain or None,
        "box": f"{record.box.name}@{record.box.version}" if record else None,
        "user": record.user if record else None,
        "ssh": {"host": "127.0.0.1", "port": record.ssh_port} if record and record.ssh_port else None,
        "ports": [
            {"guest": forward.guest, "host": forward.host, "host_ip": forward.host_ip, "protocol": forward.protocol}
            for forward in (record.forwards if record else ())
            if forward.name != "ssh"
        ],
        "in_vmfile": machine.spec is not None,
    }


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Rows under a header, columns as wide as they need. What has a newline in it does not pass for two rows."""
    lines = [tuple(header), *(tuple(cell.replace("\n", r"\n") for cell in row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )
