"""Who uses which box: the machines of all known projects, by the digest of the box that their disk lies on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from vmctl.events import Report, Warned, ignore
from vmctl.layout import HomeLayout
from vmctl.store import identity, records


def users(home: HomeLayout, *, report: Report = ignore) -> Mapping[str, list[str]]:
    """Box digest → the machines that need it: "machine web of /home/me/project".

    Raises:
        VmctlError: a machine's record can not be read, so nobody knows what it needs.
    """
    found: dict[str, list[str]] = {}
    for root in sorted(identity.index(home).values()):
        layout = identity.project_layout(Path(root))
        if not Path(root).is_dir():
            report(
                Warned(
                    text=f"the project {root} is gone; its machines, if any are left, are not counted",
                    hint="vmctl list",
                )
            )
            continue
        for directory in sorted(layout.machines.glob("*")):
            record = records.load(layout.machine(directory.name))
            if record and record.box.digest:
                found.setdefault(record.box.digest, []).append(f"machine {record.machine} of {root}")
    return found
