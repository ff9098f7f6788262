"""`vmctl test`: does the project come up, stay as it is when provisioned again, survive a restart, and do its work?

It has machines of its own, apart from the user's: a directory below ``.vmctl/test`` keeps their state.
"""

from __future__ import annotations

from vmctl.trial.course import Course
from vmctl.trial.place import Place, prepare
from vmctl.trial.result import Phase, Suite, TrialFailed

__all__ = ["Course", "Phase", "Place", "Suite", "TrialFailed", "prepare"]
