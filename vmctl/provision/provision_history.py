"""The history of provisioning, one JSON object a line: who ran what where, when, from which commit, with what result.

A run writes one line before it begins and one after it has ended, so that one that was killed shows as such. It holds
names of hosts, provisioners and tasks, and no values: neither variables, nor arguments, nor output.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vmctl import interrupt, json_text, process, redaction
from vmctl.errors import Interrupted, Unreachable, VmctlError
from vmctl.layout import ProjectLayout
from vmctl.provision import failure
from vmctl.provision.host_set import HostSet
from vmctl.provision.summary import Summary
from vmctl.provision.target import Mode
from vmctl.store import files, locks
from vmctl.user_environment import user_name

KEPT = 500  # runs
SLACK = 100  # runs that may pile up before the file is written anew
GIT_TIME = 10.0  # seconds; a huge work tree on a slow disk must not hold provisioning up for ever


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
    return [row for row in runs.values() if "at" in row and _is_run(row)][-KEPT:]


def _is_run(row: Mapping[str, Any]) -> bool:
    lists, tables = (row.get("hosts", []), row.get("provisioners", [])), (row.get("machines") or {},)
    known = all(isinstance(one, list) for one in lists) and all(isinstance(one, dict) for one in tables)
    return known and all(isinstance(one, dict) for table in tables for one in table.values())


def _lines(path: Path) -> list[str]:
    try:
        return files.read(path).decode(errors="replace").split("\n")[:-1]  # a name may hold other line separators
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


def recorded(
    layout: ProjectLayout, host_set: HostSet, work: Mapping[str, Sequence[str]], mode: Mode, run: Callable[[], Summary]
) -> Summary:
    """Run, and note what ran where and how it ended.

    Args:
        layout: where the history lies.
        host_set: where the hosts belong to.
        work: names of hosts → names of the provisioners that each is to get.
        mode: whether anything is changed.
        run: does it.
    """
    facts = {
        "target": host_set.target or None,
        "check": mode.check,
        "user": user_name(),
        **commit(host_set.root),
        "provisioners": list(dict.fromkeys(name for names in work.values() for name in names)),
        "hosts": list(work),
    }
    number = begin(layout, facts)
    started = time.monotonic()
    ending: dict[str, Any] = {"result": "failed"}
    try:
        summary = run()
        ending = {"result": "done", **_hosts(summary)}
        return summary
    except Interrupted:
        ending = {"result": "interrupted"}
        raise
    except VmctlError as error:
        result = "unreachable" if isinstance(error, Unreachable) else "failed"
        ending = {"result": result, "why": error.brief, **_hosts(failure.summary_of(error))}
        raise
    finally:
        with interrupt.shielded():
            end(layout, number, {"seconds": round(time.monotonic() - started, 1), **ending})


def _hosts(summary: Summary) -> dict[str, Any]:
    """What became of each host: no task's output, which may hold a secret."""
    rows = summary.as_object()
    for row in rows.get("machines", {}).values():
        if row["failure"]:
            del row["failure"]["message"]
    return rows


def commit(root: Path) -> dict[str, Any]:
    """The git commit that a directory is at, and whether its files differ from it; None: there is none, or no git."""
    state: dict[str, Any] = {"commit": None, "dirty": None}
    with contextlib.suppress(VmctlError):
        # A repository's own settings may name a program for `status` to run (core.fsmonitor).
        git = [process.find("git"), "-c", "core.fsmonitor=false", "-C", str(root)]
        head = process.run([*git, "rev-parse", "HEAD"], check=False, deadline=GIT_TIME)
        if head.status == 0:
            state["commit"] = head.stdout.strip()
            words = [*git, "status", "--porcelain", "--untracked-files=normal", "--", "."]
            state["dirty"] = bool(process.run(words, check=False, deadline=GIT_TIME).stdout.strip())
    return state
