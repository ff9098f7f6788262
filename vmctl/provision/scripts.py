"""The script of a `shell` entry: its bytes, wherever they come from, and what runs it.

A script runs as its author meant it, also where Windows has left it with CRLF line ends and a byte order mark, which no
interpreter on Linux expects. It is taken for one of Windows when its first line ends so; a script that has such ends
further down only may want them (a text of a protocol), and keeps them.
"""

from __future__ import annotations

import codecs
from pathlib import Path
from urllib.parse import unquote, urlsplit

from vmctl.errors import UsageError, VmctlError, in_words
from vmctl.events import Report, Warned
from vmctl.layout import HomeLayout, home
from vmctl.provision.failure import label
from vmctl.spec import Shell
from vmctl.store import locks

SHOWN = 5  # line numbers in a warning
WIDE = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def content(item: Shell, report: Report) -> bytes:
    """The script's bytes as they are to run; those of a URL are what its checksum promises.

    Raises:
        UsageError: the file cannot be read, or is UTF-16.
        VmctlError: it cannot be downloaded, or is another one than promised.
        Interrupted: the user asked to stop.
    """
    script = for_unix(_raw(item, report), f"the script{name_of(item)}")
    if lines := mixed(script):
        some = ", ".join(map(str, lines[:SHOWN])) + (" and others" if len(lines) > SHOWN else "")
        text = f"the script{name_of(item)} (provisioner {label(item)}) has CRLF line ends on some lines: {some}"
        report(Warned(text=text))
    return script


def _raw(item: Shell, report: Report) -> bytes:
    if item.url is not None:
        return _downloaded(item, item.url, report)
    if item.script is None:
        return (item.inline or "").encode()
    return _read(item, item.script)


def _read(item: Shell, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"provisioner {label(item)}: {path} cannot be read", details=in_words(error)) from error


def _downloaded(item: Shell, url: str, report: Report) -> bytes:
    from vmctl.boxes import download
    from vmctl.boxes.checksum import Checksum, Hashing

    checksum = Checksum.parse(item.checksum)
    if urlsplit(url).scheme == "file":
        data = _read(item, Path(unquote(urlsplit(url).path)))
        hashing = Hashing(checksum)
        hashing.update(data)
        hashing.verify(url)
        return data
    layout = HomeLayout(home())
    with locks.hold(layout.locks / "provision-download", "a download for provisioning"):
        path, _ = download.fetch(url, layout, checksum=checksum, report=report)
        try:
            return path.read_bytes()
        except OSError as error:
            raise VmctlError(f"{path} cannot be read", details=in_words(error)) from error
        finally:
            path.unlink(missing_ok=True)


def interpreter(script: bytes, *, inline: bool) -> list[str]:
    """The argv that runs a script, from its first line; as the kernel does it: one program, at most one argument."""
    first = script.split(b"\n", 1)[0].decode(errors="surrogateescape").rstrip("\r")
    if first.startswith("#!") and (words := first[2:].strip().split(None, 1)):
        return [word.strip() for word in words]
    return ["sh", "-e"] if inline else ["sh"]


def name_of(item: Shell) -> str:
    """Where the script comes from, for messages: " of NAME", or nothing for inline commands."""
    path = item.script or (Path(urlsplit(item.url).path) if item.url else None)
    return f" of {path.name}" if path else ""


def for_unix(script: bytes, name: str) -> bytes:
    """The script with LF line ends and without a byte order mark; what is no text stays as it is.

    Raises:
        UsageError: it is UTF-16, which nothing here reads.
    """
    if script.startswith(WIDE):
        raise UsageError(f"{name} is UTF-16, which no interpreter here reads", hint="save it as UTF-8")
    if b"\0" in script:
        return script
    text = script.removeprefix(codecs.BOM_UTF8)
    return text.replace(b"\r\n", b"\n") if is_of_windows(text) else text


def is_of_windows(script: bytes) -> bool:
    """Whether its first line ends in CRLF."""
    return script.split(b"\n", 1)[0].endswith(b"\r") and b"\n" in script


def mixed(script: bytes) -> list[int]:
    """The numbers of the lines that end in CRLF, where the first one does not."""
    if is_of_windows(script) or b"\0" in script:
        return []
    return [number for number, line in enumerate(script.split(b"\n")[:-1], 1) if line.endswith(b"\r")]
