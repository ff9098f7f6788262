"""Who uses which box: the machines of all known projects, by the digest of the box that their disk lies on."""

from __future__ import annotations

from collections.abc import Mapping

from vmctl.events import Report, Warned, ignore
from vmctl.layout import MACHINE, HomeLayout
from vmctl.store import files, project_identity, records


def users(home: HomeLayout, *, report: Report = ignore) -> Mapping[str, list[str]]:
    """Box digest → the machines that need it: "machine web of /home/me/project".

    Raises:
        VmctlError: a machine's record cannot be read, so nobody knows what it needs.
    """
    found: dict[str, list[str]] = {}
    for place in sorted(project_identity.known(home, report=report), key=lambda place: place.root):
        if not place.is_there:
            text = f"the project {place.root} is gone; its machines, if any are left, are not counted"
            report(Warned(text=text, hint="vmctl list"))
            continue
        layout = place.layout(home)
        for name in files.names(layout.machines):
            record = records.load(layout.machine(name)) if MACHINE.fullmatch(name) else None
            if record and record.box.digest:
                found.setdefault(record.box.digest, []).append(f"machine {record.machine} of {place.root}")
    return found
