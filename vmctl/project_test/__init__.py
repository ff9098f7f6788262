"""`vmctl test`: does the project come up, stay as it is when provisioned again, survive a restart, and do its work?

It has machines of its own, apart from the user's: a directory below ``.vmctl/test`` keeps their state.
"""

from __future__ import annotations

from vmctl.project_test.result import Phase, ProjectTestFailed, Suite, write_junit
from vmctl.project_test.run import BoxTest
from vmctl.project_test.sandbox import Sandbox, prepare

__all__ = ["BoxTest", "Phase", "ProjectTestFailed", "Sandbox", "Suite", "prepare", "write_junit"]
