"""What vmctl reads of the account, the environment and the working directory: an answer, or a refusal in words.

A container's user may have no name and no home directory, a variable may hold a ``~`` that no shell has expanded, and
the working directory may be gone.
"""

from __future__ import annotations

import os
from pathlib import Path

from vmctl.errors import UsageError, VmctlError, shell_command

TILDE = "~"
OF_ONE_REPOSITORY = frozenset({
    "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_COMMON_DIR", "GIT_DIR", "GIT_GRAFT_FILE", "GIT_IMPLICIT_WORK_TREE",
    "GIT_INDEX_FILE", "GIT_INDEX_VERSION", "GIT_INTERNAL_SUPER_PREFIX", "GIT_NAMESPACE", "GIT_NO_REPLACE_OBJECTS",
    "GIT_OBJECT_DIRECTORY", "GIT_PREFIX", "GIT_QUARANTINE_PATH", "GIT_REPLACE_REF_BASE", "GIT_SHALLOW_FILE",
    "GIT_WORK_TREE",
})  # fmt: skip
"""What a git hook finds in its environment about its own repository (``git rev-parse --local-env-vars``, but for
settings): for any other repository it is wrong, also where `git -C` names that one."""


def user_name() -> str:
    """What the account is called: by the environment, else by the system, else by its number."""
    for variable in ("LOGNAME", "USER"):
        if name := os.environ.get(variable):
            return name
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def processors() -> int:
    """The processors that this process may use, which may be fewer than the host has (containers, ``taskset``)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def home_directory() -> Path:
    """The account's home: $HOME, else what the system knows.

    Raises:
        UsageError: neither tells.
    """
    if (home := os.environ.get("HOME", "")).startswith("/"):
        return Path(home)
    import pwd

    try:
        home = pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        home = ""
    if not home.startswith("/"):
        raise UsageError("your home directory is unknown: HOME is not set", hint='export HOME="$PWD"')
    return Path(home)


def expanded(path: str | os.PathLike[str]) -> Path:
    """A path as its writer meant it: ``~`` and ``~NAME`` at its beginning are home directories.

    Raises:
        UsageError: there is no such account, or your own home directory is unknown.
    """
    text = os.fspath(path)
    if not text.startswith(TILDE):
        return Path(text)
    first, _, rest = text.partition("/")
    if first == TILDE:
        return home_directory() / rest.lstrip("/")
    import pwd

    try:
        return Path(pwd.getpwnam(first[1:]).pw_dir) / rest.lstrip("/")
    except (KeyError, ValueError):
        raise UsageError(
            f"{text}: there is no user '{first[1:]}'", hint=shell_command("ls", "-d", f"./{text}")
        ) from None


def path_from(variable: str) -> Path | None:
    """The absolute path that a variable of the environment holds; None where it is unset or empty.

    Raises:
        UsageError: it begins with the home directory of nobody known, or is relative and the working directory is gone.
    """
    value = os.environ.get(variable, "")
    if not value:
        return None
    try:
        path = expanded(value)
    except UsageError as error:
        raise UsageError(f"${variable}: {error.brief}", hint=f"unset {variable}") from error
    return in_working_directory(path)


def in_working_directory(path: Path) -> Path:
    """The path made absolute.

    Raises:
        UsageError: it is relative, and the working directory is gone.
    """
    return path if path.is_absolute() else working_directory() / path


def working_directory() -> Path:
    """The working directory.

    Raises:
        UsageError: it is gone.
    """
    try:
        return Path.cwd()
    except OSError as error:
        raise UsageError("the working directory is gone", hint="cd") from error


def base_directory(variable: str, below_home: str) -> Path:
    """A directory of the XDG base directory specification, by which a relative path in ``variable`` does not count.

    Raises:
        UsageError: as ``path_from``.
    """
    value = os.environ.get(variable, "")
    path = path_from(variable) if value.startswith(("/", TILDE)) else None
    return path or home_directory() / below_home


def temporary_directory(longest: int) -> str:
    """A directory for sockets, whose addresses are short: the session's, else that for temporary files.

    Args:
        longest: what its path may measure, in bytes.

    Raises:
        VmctlError: there is none that can be written to.
    """
    candidates = ("XDG_RUNTIME_DIR", "TMPDIR")
    named = [
        path for name in candidates if os.environ.get(name, "").startswith(("/", TILDE)) and (path := path_from(name))
    ]
    for path in (*named, Path("/tmp"), Path("/var/tmp")):  # noqa: S108  mkdtemp is private
        if len(os.fsencode(path)) <= longest and path.is_dir() and os.access(path, os.W_OK | os.X_OK):
            return str(path)
    raise VmctlError("there is no directory for temporary files", hint="export TMPDIR=/var/tmp")


def require_text(path: str | Path) -> None:
    """See that a path can be written down: records, Ansible's inventory and JSON are UTF-8.

    Raises:
        UsageError: its name is in another encoding.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError:
        shown = os.fsencode(path).decode(errors="backslashreplace")
        raise UsageError(f"{shown} has a name that is not UTF-8", hint="give it another name") from None


def inherited() -> dict[str, str]:
    """The environment that children start with: ours, without what ties git to the repository of a hook."""
    return {name: value for name, value in os.environ.items() if name not in OF_ONE_REPOSITORY}
