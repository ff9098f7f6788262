"""What provisioning ran where, when, from which commit, with what result: one JSON object a line.

A run writes one line before it begins and one after it has ended, so that one that was killed shows as such. It holds
names of hosts, provisioners and tasks, and no values: neither variables, nor arguments, nor output.
"""

from __future__ import annotations

import datetime as dt
import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vmctl import json_text, redaction
from vmctl.layout import ProjectLayout
from vmctl.store import files, locks

KEPT = 500  # runs
SLACK = 100  # runs that may pile up before the file is written anew


def begin(layout: ProjectLayout, facts: Mapping[str, Any]) -> str:
    """Note that a run begins; returns its id."""
    run = secrets.token_hex(6)
    _append(layout, {"run": run, "at": _now(), **facts})
    return run


def end(layout: ProjectLayout, run: str, facts: Mapping[str, Any]) -> None:
    """Note how a run ended."""
    _append(layout, {"run": run, "ended": _now(), **redaction.facts(facts)})


def read(layout: ProjectLayout) -> list[dict[str, Any]]:
    """All runs that are kept, oldest first; one without an end has no ``result``."""
    runs: dict[str, dict[str, Any]] = {}
    for line in _lines(layout.history):
        try:
            row = json_text.loads(line)
            runs.setdefault(str(row["run"]), {}).update(row)
        except (ValueError, KeyError, TypeError):
            continue  # a line that a power cut has left half written
    return [row for row in runs.values() if "at" in row][-KEPT:]


def _lines(path: Path) -> list[str]:
    try:
        return files.read(path).decode(errors="replace").splitlines()
    except FileNotFoundError:
        return []


def _append(layout: ProjectLayout, row: Mapping[str, Any]) -> None:
    line = json.dumps(row, ensure_ascii=False)
    with locks.hold(layout.history_lock, "the history"):
        lines = _lines(layout.history)
        if len(lines) >= 2 * (KEPT + SLACK):
            kept = [json.dumps(run, ensure_ascii=False) for run in read(layout)]
            files.write(layout.history, "\n".join([*kept, line]) + "\n")
            return
        files.append(layout.history, line + "\n")


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
