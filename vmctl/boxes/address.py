"""Addresses of boxes and catalogues: paths, file: URLs and web URLs, and what stands beside one.

In a path, "#", "?", "%" and blanks are characters like any other. So they are in a file: URL, where people write them
as they are; percent-encoding is undone where that leads to a file.
"""

from __future__ import annotations

import os
import os.path
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit

from vmctl.boxes.oci.reference import Reference, is_oci
from vmctl.errors import UsageError

FILE = "file:"
HERE = ("", "localhost")
WEB = ("http", "https")


class Astray(UsageError):
    """What comes from the web leads to something that is not on the web, or a URL names another host's file."""


def without_login(url: str) -> str:
    """The URL without user and password, as it may be shown and stored."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def is_local(address: str) -> bool:
    """Whether it is an absolute path or a file: URL."""
    return address.startswith("/") or address.lower().startswith(FILE)


def is_web(address: str) -> bool:
    """Whether it is an http or https URL of some host."""
    try:
        parts = urlsplit(address)
    except ValueError:  # "http://[": no IPv6 address
        return False
    return parts.scheme in WEB and bool(parts.hostname)


def local_path(address: str) -> Path:
    """The file that a path or file: URL (RFC 8089) means.

    Raises:
        Astray: the URL names another host.
    """
    if not address.lower().startswith(FILE):
        return Path(address)
    written = address[len(FILE) :]
    if written.startswith("//"):
        host, slash, rest = written[2:].partition("/")
        if host.lower() not in HERE:
            raise Astray(f"{address} names a file of the host {host}", hint=f"vmctl box add /{rest}")
        written = slash + rest
    decoded = Path(unquote(written))
    return Path(written) if _exists(Path(written)) and not _exists(decoded) else decoded


def plain_source(address: str) -> str:
    """How the address is remembered: file:// as a path, URLs without a password, a registry's with its tag."""
    if is_local(address):
        return str(local_path(address))
    if is_oci(address):
        return str(Reference.parse(address))
    return without_login(address) if "://" in address else address


def stamp(file: Path | BinaryIO) -> str:
    """Changes when the file (by its path, or open) changes, and is quickly had."""
    status = file.stat() if isinstance(file, Path) else os.fstat(file.fileno())
    return f"{status.st_size}:{status.st_mtime_ns}"


def beside(where: str, reference: str) -> str:
    """What ``reference`` means in a document that was found at ``where``: an absolute path or a web URL.

    Raises:
        Astray: a document on the web refers to a file, or to another kind of place; a local one to neither.
    """
    if is_local(where):
        return _beside_file(local_path(where), reference)
    try:
        found = urljoin(where, reference)
    except ValueError as error:
        raise Astray(f"invalid URL {reference!r}: {error}") from error
    if not is_web(found):
        raise Astray(f"{where} leads to {reference!r}; what is on the web may only lead to http and https URLs")
    return found


def _beside_file(document: Path, reference: str) -> str:
    if is_web(reference):
        return reference
    if is_local(reference):
        return str(local_path(reference))
    if "://" in reference:
        raise Astray(f"{reference!r} is neither a file nor an http or https URL")
    written, decoded = (Path(os.path.normpath(document.parent / name)) for name in (reference, unquote(reference)))
    return str(decoded if _exists(decoded) and not _exists(written) else written)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # too long, or with a NUL
        return False
