"""Ansible callback: writes what happens, one JSON object a line, to a file; without its variables it does nothing.

VMCTL_EVENTS is the file for all events: for `mode: guest`, where ansible-runner is not there to tell. VMCTL_FATAL is
the one for failures that end the play for all (`any_errors_fatal`) alone, of which ansible-runner does not tell: the
other hosts of such a play look as if they had got to its end. The objects have the shape of ansible-runner's events.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: vmctl_events
type: aggregate
short_description: tells vmctl what happens
version_added: "1.0"
description: Writes events to the file that VMCTL_EVENTS or VMCTL_FATAL names.
requirements: []
"""
KEPT = ("msg", "stdout", "stderr", "module_stdout", "module_stderr", "rc", "failed", "changed", "item", "add_host")
CENSORED = {"msg": "the output has been hidden: no_log was set"}


class CallbackModule(CallbackBase):  # type: ignore[misc]  # Ansible ships no types
    """Tells of tasks, of failures and of the statistics."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "vmctl_events"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._fatal_only = "VMCTL_EVENTS" not in os.environ
        self._file = Path(os.environ.get("VMCTL_EVENTS") or os.environ.get("VMCTL_FATAL") or os.devnull)
        self._play = ""

    def _tell(self, event: str, **data: Any) -> None:
        if self._fatal_only and (data.get("ignore_errors") or not data.get("fatal")):
            return
        with self._file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"event": event, "event_data": data}, default=str) + "\n")

    def v2_playbook_on_play_start(self, play: Any) -> None:
        """Remember the play, which later events belong to."""
        self._play = str(play._uuid)
        self._tell("playbook_on_play_start", play_uuid=self._play, play_pattern=play.hosts, name=play.get_name())

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        """Tell of a task."""
        self._tell("playbook_on_task_start", task=task.get_name())

    def v2_runner_on_start(self, host: Any, task: Any) -> None:
        """Tell that a host begins a task."""
        self._tell("runner_on_start", host=host.get_name(), play_uuid=self._play, task=task.get_name())

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """Tell of a failed task."""
        self._end("runner_on_failed", result, ignore_errors=ignore_errors or None)

    def v2_runner_on_ok(self, result: Any) -> None:
        """Tell of a task that changed something, or added hosts to the inventory."""
        if result._result.get("changed") or "add_host" in result._result:
            self._end("runner_on_ok", result)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        """Tell of a host that cannot be reached."""
        self._end("runner_on_unreachable", result)

    def v2_playbook_on_no_hosts_remaining(self) -> None:
        """Tell that all hosts have failed."""
        self._tell("playbook_on_no_hosts_remaining")

    def v2_playbook_on_no_hosts_matched(self) -> None:
        """Tell that the play has no hosts."""
        self._tell("playbook_on_no_hosts_matched", play_uuid=self._play)

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """Tell the statistics."""
        names = ("processed", "ok", "changed", "failures", "dark", "skipped")
        self._tell("playbook_on_stats", **{name: dict(getattr(stats, name)) for name in names})

    def _end(self, event: str, result: Any, **more: Any) -> None:
        task = result._task
        role = task._role.get_name() if task._role else None
        self._tell(
            event,
            host=result._host.get_name(),
            play_uuid=self._play,
            task=task.name or task.action,
            role=role,
            task_path=task.get_path(),
            res=_shown(result._result),
            fatal=bool(task.any_errors_fatal),
            **more,
        )


def _shown(result: Any) -> dict[str, Any]:
    if result.get("_ansible_no_log") or result.get("censored"):
        return {**CENSORED, "changed": bool(result.get("changed"))}
    kept = {key: result[key] for key in KEPT if key in result}
    if isinstance(result.get("results"), list):
        kept["results"] = [_shown(item) for item in result["results"] if isinstance(item, dict)]
    return kept
