"""Plain QEMU on the same hardware, disk and seed as a machine of vmctl's, without libvirt and vmctl.

The command line is the one that libvirt gave the machine's own QEMU, less what only libvirt can use (its monitor,
inherited file descriptors, virtiofsd's sockets), with a fresh overlay of the same kind on the same base image.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

POLL = 0.05
DEADLINE = 600.0
ALONE = {"-S"}
"""Options without a value that only libvirt can use."""
LIBVIRTS = (
    ("-mon", ""),
    ("-chardev", "charmonitor"),
    ("-add-fd", ""),
    ("-object", '"secret"'),
    ("-chardev", "chr-vu-fs"),
    ("-device", "vhost-user-fs"),
)
"""Options with a value (holding this word) that only libvirt can use."""
PIDS = Path("/run/libvirt/qemu")


@dataclass(frozen=True)
class PlainQemu:
    """A QEMU command line, and the disk that each start replaces."""

    argv: tuple[str, ...]
    disk: Path
    base: Path
    size: int
    log: Path

    @classmethod
    def like(cls, domain: str, place: Path) -> PlainQemu:
        """That of the running machine ``domain`` of the system's libvirt."""
        pid = (PIDS / f"{domain}.pid").read_text().strip()
        words = Path("/proc", pid, "cmdline").read_bytes().decode().split("\0")[:-1]
        disk = _root_disk(words)
        info = json.loads(_output("qemu-img", "info", "--force-share", "--output=json", str(disk)))
        own = place / "disk.qcow2"
        argv = [word.replace(str(disk), str(own)) for word in _without_libvirt(words, place / "console")]
        return cls(tuple(argv), own, Path(info["full-backing-filename"]), info["virtual-size"], place / "log")

    @contextmanager
    def running(self) -> Iterator[None]:
        """Start it on a fresh disk; it is gone afterwards."""
        self.disk.unlink(missing_ok=True)
        backing = ["-b", str(self.base), "-F", "qcow2"]
        _output("qemu-img", "create", "-q", "-f", "qcow2", *backing, str(self.disk), str(self.size))
        with self.log.open("wb") as log:
            child = subprocess.Popen(self.argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            yield
        finally:
            child.kill()
            child.wait()


def await_ssh(config: Path, host: str) -> None:
    """Return when OpenSSH gets in.

    Raises:
        TimeoutError: it never did.
    """
    argv = ["ssh", "-F", str(config), "-o", "BatchMode=yes", "-o", "ConnectTimeout=2", "-o", "LogLevel=QUIET", host]
    deadline = time.monotonic() + DEADLINE
    while subprocess.run([*argv, "true"], stdin=subprocess.DEVNULL, check=False).returncode != 0:
        if time.monotonic() > deadline:
            raise TimeoutError(f"plain QEMU: no SSH within {DEADLINE:g} s")
        time.sleep(POLL)


def _root_disk(words: list[str]) -> Path:
    files = [json.loads(word).get("filename") for word in words if word.startswith('{"driver":"file"')]
    (disk,) = [Path(name) for name in files if name and _has_backing(name)]
    return disk


def _has_backing(name: str) -> bool:
    info = json.loads(_output("qemu-img", "info", "--force-share", "--output=json", name))
    return "backing-filename" in info


def _without_libvirt(words: list[str], console: Path) -> Iterator[str]:
    rest = iter([word for word in words if word not in ALONE])
    yield next(rest)
    for option in rest:
        if option in {"-no-user-config", "-nodefaults", "-no-shutdown", "-no-reboot", "-no-hpet", "-nographic"}:
            yield option
            continue
        value = next(rest)
        if any(option == name and part in value for name, part in LIBVIRTS):
            continue
        yield option
        yield f"file,id=charserial0,path={console}" if value.startswith("file,id=charserial0") else value


def _output(*argv: str) -> str:
    environment = {**os.environ, "LC_ALL": "C"}
    return subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout
