"""The only door to VirtualBox: the program VBoxManage.

Its manners, all met in practice: it may end with status 0 after an error, it answers in the user's language, and it
refuses for a moment what it allows a second later, because another of its own processes still holds a machine.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field

from vmctl import process, wait
from vmctl.errors import VmctlError
from vmctl.process import CommandFailed, Completed, ProgramMissing, quoted

PROGRAM = "VBoxManage"
INSTALL = "sudo apt-get install virtualbox    # Ubuntu; else see https://www.virtualbox.org/wiki/Linux_Downloads"
DEADLINE = 120.0
"""Seconds for one call; starting or saving a machine under load takes the longest."""
COPY_DEADLINE = 3600.0
"""Seconds for a call that copies a disk."""
PATIENCE = 15.0
"""Seconds to go on asking while VirtualBox says that a machine is busy."""

ERROR = re.compile(r"^VBoxManage(?:\.exe)?: (?:fatal )?error: ?(.*)$", re.MULTILINE)
CODE = re.compile(r"\b(?:code|Code:?)\s+((?:VBOX_E|NS_ERROR|E)_[A-Z_0-9]+)\b|^\S*?\b(VBOX_E_[A-Z_]+)$", re.MULTILINE)
BUSY = re.compile(
    r"already locked (?:by|for) a session|object is not ready|COM server is not running or failed to start"
    r'|Context: "RefreshState\(',
    re.IGNORECASE,
)
"""The last two: VirtualBox's server, which the first of several commands starts, was too slow for another of them; and
another command deleted a medium while this one listed them."""
VERSION = re.compile(r"^(\d+)\.(\d+)\.(\d+)", re.MULTILINE)
WARNING = re.compile(r"^WARNING: (.*(?:\n\s+\S.*)*)", re.MULTILINE)

NOT_FOUND = "VBOX_E_OBJECT_NOT_FOUND"
GONE = re.compile(r"The given path '[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}' is not fully qualified")
"""What it says of a medium's UUID that it does not know (any more): it takes that for a path then."""
LOCALE = {"LANG": "C", "LC_ALL": "C.UTF-8", "LC_MESSAGES": "C", "LANGUAGE": ""}
"""English, but UTF-8: under a plain C locale VBoxManage cannot even be given a path with an umlaut."""


class VBoxManageFailed(VmctlError):
    """VBoxManage refused; ``code`` is VirtualBox's own name for the reason, where it gave one."""

    def __init__(self, completed: Completed, *, hint: str = "") -> None:
        errors = ERROR.findall(completed.stderr)
        brief = errors[0].strip() if errors else f"VBoxManage ended with status {completed.status}"
        lines = (completed.stderr.strip() or completed.stdout.strip()).splitlines()[-process.DETAIL_LINES :]
        super().__init__(f"VirtualBox: {brief}", details="\n".join([f"$ {quoted(completed.argv)}", *lines]), hint=hint)
        self.completed = completed
        self.code = _code(completed.stderr)

    @property
    def is_busy(self) -> bool:
        """Whether it may well work in a moment."""
        return bool(BUSY.search(self.completed.stderr))


class NotFound(VBoxManageFailed):
    """VirtualBox says that the object does not exist; no other failure means that."""


@dataclass(frozen=True)
class VirtualBoxVersion:
    """What ``VBoxManage --version`` says: the numbers, and the complaint about the kernel driver, if any."""

    numbers: tuple[int, int, int]
    warning: str = ""

    def __str__(self) -> str:
        return ".".join(map(str, self.numbers))


@dataclass
class VBoxManage:
    """Runs VBoxManage, one process for each call."""

    clock: wait.Clock = field(default_factory=wait.SystemClock)
    patience: float = PATIENCE
    _usages: dict[str, str] = field(default_factory=dict, repr=False)
    _version: VirtualBoxVersion | None = field(default=None, repr=False)

    def __call__(
        self, *words: str | os.PathLike[str], deadline: float = DEADLINE, hint: str = "", partial: bool = False
    ) -> str:
        """Run one command and return what it printed.

        With ``partial``, status 0 is enough: a listing tells on stderr of each machine whose files it cannot read,
        and one of them must not hide the others.

        Raises:
            NotFound: VirtualBox says VBOX_E_OBJECT_NOT_FOUND.
            VBoxManageFailed: any other refusal; one for being busy is raised after ``patience`` seconds of asking.
            CommandFailed: it did not end within ``deadline`` seconds.
            ProgramMissing: VirtualBox is not installed.
        """
        limit = wait.Deadline.after(self.patience, self.clock)
        for pause in wait.pauses():
            completed = self._run(words, deadline)
            if completed.status == 0 and (partial or not ERROR.search(completed.stderr)):
                return completed.stdout
            failure = _failure(completed, hint)
            if not failure.is_busy or limit.passed:
                raise failure
            self.clock.sleep(pause)
        raise AssertionError  # pauses() never ends

    def usage(self, command: str) -> str:
        """The usage text of a command, to see which options this version has. Asked once."""
        if command not in self._usages:
            completed = self._run((command,), DEADLINE)
            self._usages[command] = completed.stdout + completed.stderr
        return self._usages[command]

    def version(self) -> VirtualBoxVersion:
        """The version. Asked once.

        Raises:
            VmctlError: the answer holds no version.
        """
        if self._version is None:
            self._version = parse_version(self("--version", deadline=DEADLINE))
        return self._version

    def _run(self, words: tuple[str | os.PathLike[str], ...], deadline: float) -> Completed:
        try:
            program = process.find(PROGRAM)
        except ProgramMissing as error:
            raise ProgramMissing("VirtualBox is not installed: there is no VBoxManage", hint=INSTALL) from error
        return process.run([program, *words], check=False, env=LOCALE, deadline=deadline)


def parse_version(text: str) -> VirtualBoxVersion:
    """The version in the answer to ``--version``, which may begin with a warning about the kernel driver."""
    found = VERSION.search(text)
    if found is None:
        raise VmctlError("VBoxManage --version gives no version", details=text.strip())
    major, minor, patch = map(int, found.groups())
    warning = WARNING.search(text)
    return VirtualBoxVersion((major, minor, patch), " ".join(warning.group(1).split()) if warning else "")


def _failure(completed: Completed, hint: str) -> VBoxManageFailed:
    is_absent = _code(completed.stderr) == NOT_FOUND or GONE.search(completed.stderr)
    return (NotFound if is_absent else VBoxManageFailed)(completed, hint=hint)


def _code(stderr: str) -> str:
    found = CODE.search(stderr)
    return next(filter(None, found.groups()), "") if found else ""


__all__ = ["CommandFailed", "NotFound", "ProgramMissing", "VBoxManage", "VBoxManageFailed", "VirtualBoxVersion"]
