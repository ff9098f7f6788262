"""libvirt's errors in vmctl's words.

libvirt prints each error on stderr unless a handler is registered; ``library()`` registers one that keeps quiet,
because the exception that follows carries the same text.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Any, TypeVar

from vmctl.errors import VmctlError

T = TypeVar("T")

NO_DOMAIN = "VIR_ERR_NO_DOMAIN"
NO_NETWORK = "VIR_ERR_NO_NETWORK"
NO_VOLUME = "VIR_ERR_NO_STORAGE_VOL"

HINTS = (
    ("Could not set up host forwarding rule", "ss -lntup    # another program listens on that port"),
    ("No space left on device", "df -h    # free some space, then run the command again"),
    ("Cannot allocate memory", "free -h    # or give the machine less `memory:`"),
    ("cannot find any suitable libvirtd binary", "sudo apt-get install libvirt-daemon-system"),
    ("Cannot find any suitable virtiofsd", "sudo apt-get install virtiofsd"),
    ("unable to find any firmware", "sudo apt-get install ovmf"),
    ("Unable to find any firmware", "sudo apt-get install ovmf"),
    ("Unable to find 'efi' firmware", "sudo apt-get install ovmf"),
)
"""What libvirt or QEMU says → what helps."""


class LibvirtMissing(VmctlError):
    """The Python library for libvirt is not installed."""


@cache
def library() -> Any:
    """The ``libvirt`` module, silenced.

    Raises:
        LibvirtMissing: it is not installed.
    """
    try:
        import libvirt  # optional, and 20 ms
    except ImportError as error:
        raise LibvirtMissing(
            "the Python library for libvirt is not installed",
            details=str(error),
            hint="sudo apt-get install libvirt-dev gcc pkg-config && pip install libvirt-python",
        ) from error
    libvirt.registerErrorHandler(lambda _context, _error: None, None)
    return libvirt


def virsh(connection: Any, *words: str) -> str:
    """A hint: the command that asks the very hypervisor of a connection, for virsh's own default may be another."""
    return shlex.join(("virsh", "-c", connection.getURI(), *words))


def translated(error: Exception, doing: str) -> VmctlError:
    """The ``VmctlError`` for a ``libvirt.libvirtError`` that came while ``doing`` something ("start web")."""
    text = str(error).strip()
    hint = next((hint for words, hint in HINTS if words in text), "")
    return VmctlError(f"libvirt could not {doing}", details=text, hint=hint)


def is_code(error: Exception, *names: str) -> bool:
    """Whether a ``libvirt.libvirtError`` has one of the codes ``names`` ("VIR_ERR_NO_DOMAIN")."""
    code = error.get_error_code()  # type: ignore[attr-defined]  # libvirt has no types
    return code in {getattr(library(), name) for name in names}


def still_there(listed: Iterable[Any], ask: Callable[[Any], T], gone: str) -> Iterator[tuple[Any, T]]:
    """Each of the objects that libvirt has listed, with what ``ask`` tells of it.

    Left out are those that somebody removed since they were listed: asking of one raises an error with code ``gone``.
    """
    for each in listed:
        try:
            answer = ask(each)
        except library().libvirtError as error:
            if not is_code(error, gone):
                raise
        else:
            yield each, answer


def is_unsavable(error: Exception) -> bool:
    """Whether libvirt refused to save memory because a device forbids that."""
    codes = ("VIR_ERR_OPERATION_INVALID", "VIR_ERR_OPERATION_UNSUPPORTED", "VIR_ERR_CONFIG_UNSUPPORTED")
    words = ("virtiofs", "migrat", "vhost-user")
    return is_code(error, *codes) and any(word in str(error) for word in words)
