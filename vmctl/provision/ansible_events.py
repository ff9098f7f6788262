"""Events of ansible-runner or of our callback → what became of each host. Pure: nothing is asked or printed here."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vmctl.provision.summary import Counts

COLOR = re.compile(r"\x1b\[[0-9;]*[mK]")
NOISE = re.compile(r"Shared connection to .* closed\.")  # ssh's word at the end of each `raw`
KEPT_LINES = 40
OUTPUT_LINES = 15  # of a failed task's own output
STATISTICS = {"ok": "ok", "changed": "changed", "failures": "failed", "dark": "unreachable", "skipped": "skipped"}


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskFailure:
    """A task that failed on a host."""

    task: str
    place: str
    """FILE:LINE of the task; "" where Ansible does not say."""
    message: str

    def __str__(self) -> str:
        where = f" ({self.place})" if self.place else ""
        return f"task '{self.task}'{where}: {self.message}"


@dataclass
class PlayRecap:
    """What is known of a run so far."""

    tasks: int = 0
    """How many were started."""
    counts: dict[str, Counts] | None = None
    """By host, from the statistics at the run's end; None = there were none, so nothing ran to its end."""
    failures: dict[str, TaskFailure] = field(default_factory=dict)
    """The last failed (or unreachable) task of each host, whether or not it was rescued."""
    first: dict[str, TaskFailure] = field(default_factory=dict)
    """The first one: what came after it may be but a clean-up (`always:`) that failed as well."""
    changes: dict[str, list[str]] = field(default_factory=dict)
    """The tasks that changed something on each host, in check mode those that would: name and place."""
    ended: int = 0
    """Playbooks that got to their end; each tells the statistics of all so far."""
    errors: deque[str] = field(default_factory=lambda: deque(maxlen=KEPT_LINES))
    """What ansible-playbook said apart from its tasks, without warnings."""
    no_hosts_remaining: bool = False
    fatal: frozenset[str] = frozenset()
    """Hosts with a failure that ends the play for all (`any_errors_fatal`), rescued or not."""
    status: int | None = None
    """ansible-playbook's own."""
    nowhere: list[str] = field(default_factory=list)
    """Plays without a host to work on: name and `hosts:`."""
    added: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Hosts that the playbook added itself (add_host), with their groups."""
    ignored: set[str] = field(default_factory=set)
    """Hosts that could not be reached in a task."""
    _play: str = ""
    _batch: int = 0
    """Counts plays, and the batches (`serial`) of each."""
    _plays: dict[int, set[str]] = field(default_factory=dict)
    _ended: dict[int, set[str]] = field(default_factory=dict)

    def add(self, event: Mapping[str, Any]) -> None:
        """Take in one event."""
        data = event.get("event_data") or {}
        host = data.get("host") or ""
        match event.get("event"):
            case "playbook_on_play_start" | "playbook_on_no_hosts_matched" as what:
                self._follow_play(data, begins=what == "playbook_on_play_start")
            case "playbook_on_task_start":
                self.tasks += 1
            case "runner_on_start":
                self._plays.setdefault(self._batch, set()).add(host)
            case "runner_on_failed" if not data.get("ignore_errors"):
                self._fail(host, data)
            case "runner_on_ok":
                self._succeed(host, data)
            case "runner_on_unreachable":
                self.ignored.add(host)
                self._fail(host, data)
            case "playbook_on_no_hosts_remaining":
                self.no_hosts_remaining = True
            case "playbook_on_stats":
                self.counts = _counts(data)
                self.ended += 1
            case "verbose" | "error":
                self.errors.extend(line for line in plain(event.get("stdout", "")).splitlines() if line.strip())

    def _follow_play(self, data: Mapping[str, Any], *, begins: bool) -> None:
        if not begins:
            self.nowhere.append(self._play)
            return
        self._batch += 1
        hosts = data.get("play_pattern") or data.get("pattern") or "?"
        hosts = ",".join(map(str, hosts)) if isinstance(hosts, list) else str(hosts)
        name = str(data.get("name") or hosts)
        self._play = f"'{name}' (hosts: {hosts})" if name != hosts else f"'hosts: {hosts}'"

    def _succeed(self, host: str, data: Mapping[str, Any]) -> None:
        result = data.get("res") or {}
        if result.get("changed"):
            self.changes.setdefault(host, []).append(_named(data))
        for one in (result, *(result.get("results") or ())):
            added = one.get("add_host") if isinstance(one, Mapping) else None
            if isinstance(added, Mapping) and added.get("host_name"):
                self.added[str(added["host_name"])] = tuple(map(str, added.get("groups") or ()))

    def _fail(self, host: str, data: Mapping[str, Any]) -> None:
        self._ended.setdefault(self._batch, set()).add(host)
        if data.get("fatal"):
            self.fatal |= {host}
        failure = TaskFailure(task=_task(data), place=data.get("task_path") or "", message=_message(data))
        self.failures[host] = failure
        self.first.setdefault(host, failure)

    @property
    def bad(self) -> frozenset[str]:
        """Hosts that failed or could not be reached, by the statistics."""
        return frozenset(host for host, count in (self.counts or {}).items() if count.failed or count.unreachable)

    @property
    def cut_short(self) -> bool:
        """Whether Ansible gave up before the end of the playbook, so that hosts without a failure are not done.

        It does so when all hosts of a play (or of its current batch) have failed, or one failure is said to be fatal.
        """
        return (
            self.no_hosts_remaining
            or bool(self.fatal & self.bad)
            or any(hosts and hosts <= self._ended.get(batch, set()) & self.bad for batch, hosts in self._plays.items())
        )


def _task(data: Mapping[str, Any]) -> str:
    name, role = str(data.get("task") or "?"), data.get("role")
    return f"{role} : {name}" if role else name


def _named(data: Mapping[str, Any]) -> str:
    place = data.get("task_path")
    return f"{_task(data)} ({place})" if place else _task(data)


def _counts(data: Mapping[str, Any]) -> dict[str, Counts]:
    hosts = {host for key in ("processed", *STATISTICS) for host in data.get(key) or {}}
    return {
        host: Counts(**{ours: (data.get(theirs) or {}).get(host, 0) for theirs, ours in STATISTICS.items()})
        for host in sorted(hosts)
    }


def _message(data: Mapping[str, Any]) -> str:
    result = data.get("res") or {}
    for item in result.get("results") or ():
        if isinstance(item, Mapping) and item.get("failed"):
            label = item.get("item", "")
            return f"item {label!r}: {_result_text(item)}"
    return _result_text(result)


def _result_text(result: Mapping[str, Any]) -> str:
    """A module's message and the end of what its program printed."""
    message = str(result.get("msg") or "no message").strip()
    parts = [str(result.get(key) or "").strip() for key in ("stdout", "stderr", "module_stdout", "module_stderr")]
    lines = [line for part in parts if part not in message for line in part.splitlines() if not NOISE.match(line)]
    return "\n".join([message, *lines[-OUTPUT_LINES:]])


def plain(text: str) -> str:
    """Text without colours."""
    return COLOR.sub("", text)
