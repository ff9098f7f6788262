"""One provisioning run as the history keeps it: who, from which commit, what on which hosts, and how it ended."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vmctl import interrupt, process
from vmctl.errors import Interrupted, Unreachable, VmctlError
from vmctl.layout import ProjectLayout
from vmctl.provision import failure
from vmctl.provision.host_set import HostSet
from vmctl.provision.summary import Summary
from vmctl.provision.target import Mode
from vmctl.store import provision_history
from vmctl.user_environment import user_name

GIT_TIME = 10.0  # seconds; a huge work tree on a slow disk must not hold provisioning up for ever


def kept(
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
    number = provision_history.begin(layout, facts)
    started = time.monotonic()
    ending: dict[str, Any] = {"result": "failed"}
    try:
        summary = run()
        ending = {"result": "done", **_outcome(summary)}
        return summary
    except Interrupted:
        ending = {"result": "interrupted"}
        raise
    except VmctlError as error:
        result = "unreachable" if isinstance(error, Unreachable) else "failed"
        ending = {"result": result, "why": error.brief, **_outcome(failure.summary_of(error))}
        raise
    finally:
        with interrupt.shielded():
            provision_history.end(layout, number, {"seconds": round(time.monotonic() - started, 1), **ending})


def _outcome(summary: Summary) -> dict[str, Any]:
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
