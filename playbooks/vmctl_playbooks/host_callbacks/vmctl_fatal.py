"""Ansible callback: writes the hosts whose failure ends the play for all (`any_errors_fatal`) to the file VMCTL_FATAL.

ansible-runner's events do not tell: the other hosts of such a play look as if they had got to its end.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: vmctl_fatal
type: aggregate
short_description: tells vmctl of fatal failures
version_added: "1.0"
description: Writes names of hosts to the file that VMCTL_FATAL names.
requirements: []
"""


class CallbackModule(CallbackBase):  # type: ignore[misc]  # Ansible ships no types
    """Tells of failures in plays, blocks and tasks with `any_errors_fatal`."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "vmctl_fatal"

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:  # noqa: FBT001, FBT002  Ansible's
        """Tell of a failed task."""
        if not ignore_errors:
            self._tell(result)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        """Tell of a host that cannot be reached."""
        self._tell(result)

    def _tell(self, result: Any) -> None:
        if result._task.any_errors_fatal and "VMCTL_FATAL" in os.environ:  # noqa: SLF001  as Ansible's own do
            with Path(os.environ["VMCTL_FATAL"]).open("a", encoding="utf-8") as stream:
                stream.write(f"{result._host.get_name()}\n")  # noqa: SLF001
