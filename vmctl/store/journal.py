"""The journal of one machine: what was about to be done, and what was done. Append-only, synced, for people and tests.

Steps never need it to go on (they look at the world instead); it says what a killed vmctl was doing.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from vmctl import json_text, redaction
from vmctl.store import files
from vmctl.store.door import ForeignFile

logger = logging.getLogger(__name__)

LONGEST = 256 * 1024
FULL = (errno.ENOSPC, errno.EDQUOT)


class Journal(Struct, frozen=True):
    """The journal at ``path``."""

    path: Path

    def write(self, step: str, phase: str, **facts: Any) -> None:
        """Add an entry; it is on disk when this returns. ``phase``: begin, done, failed.

        On a full disk there is no entry: `destroy`, which makes room, has to go on. Nor is there one in a file that
        is not ours.
        """
        try:
            self._append(step, phase, facts)
        except ForeignFile as error:
            logger.debug("%s", error)
        except OSError as error:
            if error.errno not in FULL:
                raise

    def _append(self, step: str, phase: str, facts: Mapping[str, Any]) -> None:
        known = {"time": round(time.time(), 3), "pid": os.getpid(), "step": step, "phase": phase}
        entry = known | redaction.facts(facts)
        self._rotate()
        files.append(self.path, json.dumps(entry, ensure_ascii=False, default=str) + "\n", sync=True)

    def _rotate(self) -> None:
        if files.size(self.path) > LONGEST:
            files.rename(self.path, self.path.name + ".1")

    def entries(self) -> list[Mapping[str, Any]]:
        """All whole entries; a line cut by a crash is left out."""
        found = []
        for line in files.read(self.path).decode(errors="replace").splitlines() if files.exists(self.path) else ():
            try:
                found.append(json_text.loads(line))
            except ValueError:
                continue
        return found
