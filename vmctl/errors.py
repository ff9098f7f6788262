"""Every error that vmctl raises on purpose, and the exit codes that go with them.

    VmctlError                       1   the operation failed
    ├── UsageError                   2   the command line or the Vmfile is wrong
    │   └── VmfileInvalid            2   (vmctl.vmfile) one or more faults, each with its place
    ├── WrongState                   3   a machine is not in the state that the command needs
    ├── ProvisionFailed              4   tasks failed
    ├── Unreachable                  5   a machine could not be reached
    ├── LockTimeout                  6   another vmctl holds the lock
    └── Interrupted                130   SIGINT (143: SIGTERM)

Errors are caught once, in ``vmctl.cli``. Adapters translate foreign exceptions at their own door.
"""

from __future__ import annotations

import errno
import shlex
from collections.abc import Iterable
from pathlib import Path
from signal import SIGINT

from vmctl import redaction


class VmctlError(Exception):
    """A failure told to the user in three parts.

    Args:
        brief: what failed, in one line, without a final full stop.
        details: what is known of the cause; may span lines (the output of a program, for example).
        hint: what to do next; a command wherever there is one, never one that deletes what could be the only copy.

    Passwords and tokens of URLs in them are hidden.
    """

    exit_code: int = 1
    kind: str = ""
    """What programs know such errors by (--json) where the class has another name; "" = the name of the class."""

    def __init__(self, brief: str, *, details: str = "", hint: str = "") -> None:
        self.brief = redaction.urls(brief)
        super().__init__(self.brief)
        self.details = redaction.urls(details)
        self.hint = redaction.urls(hint)
        self.data: dict[str, object] = {}
        """What programs may want to know besides (--json), as JSON values."""

    def __str__(self) -> str:
        return "\n".join(part for part in (self.brief, self.details, self.hint) if part)


class UsageError(VmctlError):
    """The command line or a configuration file asks for something that makes no sense."""

    exit_code = 2


class WrongState(VmctlError):
    """A machine is not in the state that the command needs."""

    exit_code = 3


class ProvisionFailed(VmctlError):
    """A provisioner ran and reported failed tasks."""

    exit_code = 4


class Unreachable(VmctlError):
    """A machine (or a hypervisor on another host) could not be reached."""

    exit_code = 5


class LockTimeout(VmctlError):
    """Another vmctl holds a lock, and the time allowed for waiting ran out."""

    exit_code = 6


class Interrupted(VmctlError):
    """The user (SIGINT) or the system (SIGTERM) asked vmctl to stop; ``signal`` says which."""

    def __init__(self, signal: int = SIGINT) -> None:
        super().__init__("interrupted" if signal == SIGINT else "terminated")
        self.signal = signal


LOOKING = {
    errno.ENOSPC: "df -h",
    errno.EDQUOT: "df -h",
    errno.EROFS: "findmnt -T",
    errno.EACCES: "ls -ld",
    errno.EPERM: "ls -ld",
}
"""What shows why the operating system refused, with the path that follows."""


def from_os(error: OSError) -> VmctlError:
    """What the operating system refused (a full disk, a directory without permission), as an error of ours."""
    looking = LOOKING.get(error.errno or 0)
    named = looking and isinstance(error.filename, str | Path)
    hint = f"{looking} {shlex.quote(str(_nearest(Path(error.filename))))}" if named else ""
    return VmctlError(in_words(error), hint=hint)


def in_words(error: BaseException) -> str:
    """What an error says, without Python's spelling of the operating system's (`[Errno 13] …: '/x'`)."""
    if not isinstance(error, OSError):
        return str(error)
    where = ", ".join(str(name) for name in (error.filename, error.filename2) if name is not None)
    what = error.strerror or str(error) or type(error).__name__
    return f"{where}: {what}" if where else what


def _nearest(path: Path) -> Path:
    """The path, or the directory on its way that is there as far as we may see."""
    return next((one for one in (path, *path.parents) if _is_there(one)), path)


def _is_there(path: Path) -> bool:
    try:
        path.lstat()
    except OSError:
        return False
    return True


def shell_command(*words: object) -> str:
    """A hint: a command, each word quoted for the shell that a person pastes it into."""
    import shlex

    return shlex.join(str(word) for word in words)


def suggest(word: str, known: Iterable[str], *, most: int = 1) -> str:
    """What a misspelt word may have meant (", did you mean 'memory'?"); "" when no known word is near."""
    import difflib

    near = difflib.get_close_matches(word, list(known), n=most)
    return f", did you mean {' or '.join(map(repr, near))}?" if near else ""
