"""Copying a folder again whenever it changes on the host, until the user stops it."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Sequence
from pathlib import Path

from vmctl import interrupt
from vmctl.errors import Unreachable
from vmctl.events import Notice, Report, Warned
from vmctl.folders.rsync import ALWAYS_EXCLUDED
from vmctl.spec import Folder
from vmctl.wait import Deadline, until

DEBOUNCE = 200  # milliseconds of quiet that end a burst of changes (an editor's, a git checkout's)
LONGEST_BURST = 1600
TICK = 200  # milliseconds between looks at the interrupt flag
PATIENCE = 600.0  # seconds that a guest may be away (a reboot, a suspend)


class _Stop:
    """The interrupt flag, as watchfiles wants to see it."""

    def is_set(self) -> bool:
        return interrupt.requested()


def watch(machine: str, folders: Sequence[Folder], copy: Callable[[], None], report: Report) -> None:
    """Call ``copy`` after each burst of changes in the folders; ends only by an exception.

    A guest that is away (it reboots) is waited for, and gets what it missed.

    Raises:
        Interrupted: the user asked to stop: the normal end.
        TimedOut: the guest stayed away.
        VmctlError: ``copy`` failed for another reason.
    """
    import watchfiles

    report(Notice(machine=machine, text=f"watching {', '.join(str(folder.host) for folder in folders)} (Ctrl-C ends)"))
    changes = watchfiles.watch(
        *{folder.host for folder in folders},
        watch_filter=lambda _change, path: any(concerns(folder, Path(path)) for folder in folders),
        debounce=LONGEST_BURST,
        step=DEBOUNCE,
        rust_timeout=TICK,
        yield_on_timeout=True,
        stop_event=_Stop(),
    )
    for change in changes:
        interrupt.check()
        if change:
            _copied(machine, copy, report)
    interrupt.check()


def _copied(machine: str, copy: Callable[[], None], report: Report) -> None:
    warned = False

    def succeeds() -> bool:
        nonlocal warned
        try:
            copy()
        except Unreachable as error:
            if not warned:
                report(Warned(machine=machine, text=f"{error.brief}; trying again", hint=error.hint))
            warned = True
            return False
        return True

    until(succeeds, Deadline.after(PATIENCE), f"machine {machine} to come back", hint=f"vmctl status {machine}")


def concerns(folder: Folder, path: Path) -> bool:
    """Whether a changed path may be one that rsync sends; when in doubt, yes (rsync then finds nothing to do)."""
    if not path.is_relative_to(folder.host):
        return False
    parts = path.relative_to(folder.host).parts
    return not any(_matches(pattern, parts) for pattern in (*ALWAYS_EXCLUDED, *folder.exclude))


def _matches(pattern: str, parts: tuple[str, ...]) -> bool:
    """Whether rsync's pattern excludes the path or a directory above it."""
    if pattern[:2] in ("+ ", "- ") or "**" in pattern:
        return False
    anchored, words = pattern.startswith("/"), [word for word in pattern.split("/") if word]
    names = parts[:-1] if pattern.endswith("/") else parts
    starts = range(1) if anchored else range(len(names) - len(words) + 1)
    return bool(words) and any(_matches_at(words, names[start:]) for start in starts)


def _matches_at(words: list[str], names: tuple[str, ...]) -> bool:
    return len(words) <= len(names) and all(
        fnmatch.fnmatchcase(name, word) for word, name in zip(words, names, strict=False)
    )
