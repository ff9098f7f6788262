"""Files and directories of the host that a Vmfile names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vmctl.vmfile.box_refs import absolute
from vmctl.vmfile.faults import describe
from vmctl.vmfile.kinds import One, Schema
from vmctl.vmfile.nodes import Source
from vmctl.vmfile.quantities import Mismatch

PATH_SCHEMA: Schema = {"type": "string", "minLength": 1}


def parse_file(value: Any, source: Source) -> Path:
    """An existing file of the host.

    Raises:
        Mismatch: there is none.
    """
    path = _path(value, source, "a file of the host")
    try:
        if path.is_file():
            return path
        there = path.exists()
    except OSError as error:
        raise Mismatch(f"the host's {path} cannot be looked at: {error.strerror}") from error
    if there:
        raise Mismatch(f"{path} is not a file")
    raise Mismatch(f"the host has no file {path}")


def parse_script(value: Any, source: Source) -> Path:
    """As ``parse_file``, with advice for somebody who wrote commands.

    Raises:
        Mismatch: there is no such file.
    """
    try:
        return parse_file(value, source)
    except Mismatch as error:
        if isinstance(value, str) and {" ", "\n"} & set(value):
            raise Mismatch(f"{error}; for commands write {{inline: …}}") from error
        raise


def parse_existing(value: Any, source: Source) -> Path:
    """An existing file or directory of the host.

    Raises:
        Mismatch: there is none.
    """
    path = _path(value, source, "a file or directory of the host")
    try:
        there = path.exists()
    except OSError as error:
        raise Mismatch(f"the host's {path} cannot be looked at: {error.strerror}") from error
    if not there:
        raise Mismatch(f"the host has no {path}")
    return path


def _path(value: Any, source: Source, what: str) -> Path:
    if not isinstance(value, str) or not value:
        raise Mismatch(f"expected {what}, got {describe(value)}")
    if "\n" in value:
        raise Mismatch(f"expected {what}, got several lines")
    return absolute(value, source)


FILE = One("a file of the host", parse_file, PATH_SCHEMA)
EXISTING = One("a file or directory of the host", parse_existing, PATH_SCHEMA)
SOMETIME = One("a path of the host", lambda value, source: _path(value, source, "a path of the host"), PATH_SCHEMA)
"""Not everybody who reads a Vmfile has it (a password file): looked at when it is used."""


def guest_path(value: Any) -> str:
    """An absolute path of the guest.

    Raises:
        Mismatch: it is none.
    """
    if not isinstance(value, str) or not value.startswith("/") or "\x00" in value:
        raise Mismatch(f"expected an absolute path in the guest, got {describe(value)}")
    return value


GUEST_PATH_SCHEMA: Schema = {"type": "string", "pattern": "^/"}
