"""What the Ansible runs of one call share, and how their progress is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vmctl.events import Output, Progress, Report
from vmctl.layout import ProjectLayout
from vmctl.provision import playbook
from vmctl.provision.ansible_events import PlayRecap
from vmctl.provision.host_set import HostSet
from vmctl.provision.passwords import Passwords
from vmctl.provision.run_directory import RunDirectory
from vmctl.provision.target import Mode

STEP = "provision"
SOURCE = "ansible"


@dataclass(frozen=True)
class RunContext:
    """Where the hosts belong to, how to run, and a private place to work."""

    host_set: HostSet
    mode: Mode
    run_files: RunDirectory
    layout: ProjectLayout
    report: Report
    passwords: Passwords
    color: bool

    def play(self, run: playbook.Run) -> PlayRecap:
        """Run a playbook, telling what it prints and how far it is.

        Raises:
            Interrupted: the user asked to stop.
        """
        return playbook.play(run, self.run_files, self._tell)

    def _tell(self, recap: PlayRecap, event: Mapping[str, Any]) -> None:
        for line in str(event.get("stdout") or "").splitlines():
            if line.strip():
                self.report(Output(line=line, source=SOURCE))
        if event.get("event") == "playbook_on_task_start":
            self.report(Progress(step=STEP, done=recap.tasks, unit="tasks"))
