"""A provisioned machine made again: from its layers, and from its memory, against its bare box and the yardstick."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import yardstick
from benchmarks.measure import Finding, Project, listed, ratio, seconds

THAW = 0.15
LAYER = 1.05
FREEZE = 1.0
BARE = "box: debian-12\nprovider: libvirt\n"
VMFILE = (
    BARE
    + """\
provision:
  - {name: some, shell: {inline: "head -c 20000000 /dev/urandom >/var/lib/some"}}
  - {name: more, shell: {inline: "head -c 20000000 /dev/urandom >/var/lib/more"}}
"""
)
INSTANT = f"instant: true\n{VMFILE}"


def measure(place: Path, box_home: Path, *, rounds: int) -> Iterator[Finding]:
    """Make the machine in each way, in turns."""
    yardstick.image()
    root = place / "project"
    root.mkdir()
    project = Project(root, {"VMCTL_HOME": str(box_home), "XDG_CONFIG_HOME": str(place / "config")})
    try:
        yield _freezing(project)
        bare, layered, thawed, stock = zip(*(_round(project, place) for _ in range(rounds)), strict=True)
        yield ratio("up from layers, nothing to run / up of the bare box", layered, bare, LAYER)
        yield ratio("up from memory / plain QEMU on stock Debian", thawed, stock, THAW)
    finally:
        project.vmctl("destroy", "--yes")
        project.vmctl("cache", "prune", "--all")


def _freezing(project: Project) -> Finding:
    """What a layer costs, without the guest's `sync` (and the login for it); leaves layers and memory."""
    rows = _up(project, INSTANT)
    freezes = [row["seconds"] for row in rows if row.get("event") == "step-done" and row["step"] == "freeze"]
    sync = seconds(lambda: project.vmctl("ssh", "-c", "sync"))
    project.vmctl("destroy", "--yes")
    detail = f"{listed(freezes)} s, of which a login and `sync` {sync:.1f} s"
    return Finding(what="freezing a layer, more than sync", value=max(freezes) - sync, budget=FREEZE, detail=detail)


def _round(project: Project, place: Path) -> tuple[float, float, float, float]:
    times = []
    ways = ((BARE, "create", ()), (VMFILE, "create", ("--no-instant",)), (INSTANT, "thaw", ()))
    for text, step, words in ways:
        rows: list[dict[str, Any]] = []
        up = partial(_up, project, text, *words)
        times.append(seconds(lambda up=up, rows=rows: rows.extend(up())))  # type: ignore[misc]
        done = {row["step"] for row in rows if row.get("event") == "step-done" and row["changed"]}
        if step not in done or rows[-1]["provisioned"]:
            raise SystemExit(f"benchmark: the machine did not come up by {step}: {rows[-1]}")
        project.vmctl("destroy", "--yes")
    bare, layered, thawed = times
    return bare, layered, thawed, seconds(lambda: yardstick.boot(place))


def _up(project: Project, vmfile: str, *words: str) -> list[dict[str, Any]]:
    (project.root / "Vmfile").write_text(vmfile)
    return [json.loads(line) for line in project.vmctl("up", "--json", *words).splitlines()]
