"""Having Ansible inside a guest: what is there, what vmctl brings along, or what the guest can install itself."""

from __future__ import annotations

import functools
import gzip
import hashlib
import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from vmctl.errors import VmctlError
from vmctl.events import Notice, Report
from vmctl.process import CommandFailed
from vmctl.spec import Ansible

if TYPE_CHECKING:
    from vmctl.ssh.link import Link

# Below the login user's home: $1.
FIND = 'command -v ansible-playbook || ls "$HOME/.cache/vmctl/venv/bin/ansible-playbook" 2>/dev/null'
FIND_BUNDLE = 'ls "$HOME/.cache/vmctl/$1/ansible-playbook" 2>/dev/null'
UNPACK = """\
set -eu
place=$HOME/.cache/vmctl/$1
part=$place.part.$$
trap 'rm -rf -- "$part"' EXIT
mkdir -p -- "$part"
tar -xzf - -C "$part"
rm -rf -- "$place"
mv -- "$part" "$place"
printf '%s\\n' "$place/ansible-playbook"
"""
PYTHON = "import sys; print(*sys.version_info[:2])"
PACKAGE = """\
if command -v apt-get >/dev/null; then
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -q && { apt-get install -qy ansible-core || apt-get install -qy ansible; }
elif command -v dnf >/dev/null; then dnf install -qy ansible-core
elif command -v apk >/dev/null; then apk add --quiet ansible-core
elif command -v zypper >/dev/null; then zypper -n install ansible-core || zypper -n install ansible
elif command -v pacman >/dev/null; then pacman -Sy --noconfirm ansible-core
else echo "no package manager that vmctl knows" >&2; exit 1
fi
"""
PIP = 'python3 -m venv "$HOME/.cache/vmctl/venv" && "$HOME/.cache/vmctl/venv/bin/pip" install -q ansible-core'
PACKAGES = ("ansible-core", "jinja2", "markupsafe", "packaging", "pyyaml", "resolvelib")
LEFT_OUT = ("ansible_test", "bin", "..", "__pycache__")
PROGRAM = "ansible-playbook"
# The program in the bundle, with `lib` beside it.
START_PROGRAM = """\
#!/usr/bin/env python3
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "lib"))
from ansible.cli.playbook import main

main()
"""


class NoAnsible(VmctlError):
    """There is no Ansible in the guest, and it could not be had."""


def ensure(item: Ansible, machine: str, connection: Link, report: Report) -> str:
    """The path of an ansible-playbook in the guest; it is installed where that is wanted and there is none.

    Raises:
        NoAnsible: there is none.
        Unreachable, Interrupted: as for ``Connection.run``.
    """
    if item.playbook_command:
        return item.playbook_command
    if item.install != "bundle" and (found := _first_line(connection, FIND)):
        return found
    if item.install == "never":
        raise NoAnsible("there is no ansible-playbook in the guest", hint="write install: auto in the Vmfile")
    return _install(item, machine, connection, report)


def _install(item: Ansible, machine: str, connection: Link, report: Report) -> str:
    if item.install in ("auto", "bundle"):
        ours = own_bundle()
        if _python(connection) >= ours.python:
            return _bring(ours, machine, connection, report)
        if item.install == "bundle":
            raise NoAnsible(
                f"vmctl's own Ansible needs Python {ours.python[0]}.{ours.python[1]} in the guest",
                hint="write install: package in the Vmfile",
            )
    script, sudo = (PIP, False) if item.install == "pip" else (PACKAGE, True)
    report(Notice(machine=machine, text="installing Ansible in the guest"))
    try:
        connection.run(["sh", "-c", script], sudo=sudo)
    except CommandFailed as error:
        raise NoAnsible(
            "there is no Ansible in the guest, and it could not be installed",
            details=error.details,
            hint="write install: bundle in the Vmfile, which needs no network",
        ) from error
    if found := _first_line(connection, FIND):
        return found
    raise NoAnsible("there is no ansible-playbook in the guest, though it was installed", hint=f"vmctl ssh {machine}")


def _bring(ours: Bundle, machine: str, connection: Link, report: Report) -> str:
    if found := _first_line(connection, FIND_BUNDLE, ours.name):
        return found
    report(Notice(machine=machine, text=f"bringing {ours.name.rpartition('-')[0]} into the guest"))
    return connection.run(["sh", "-c", UNPACK, "sh", ours.name], input=_archive(ours)).stdout.strip()


@functools.lru_cache(maxsize=1)
def _archive(ours: Bundle) -> bytes:
    return ours.archive()


def _python(connection: Link) -> tuple[int, int]:
    """The version of the guest's Python; (0, 0) = there is none."""
    match connection.run(["python3", "-c", PYTHON], check=False).stdout.split():
        case major, minor if major.isdigit() and minor.isdigit():
            return int(major), int(minor)
    return 0, 0


def _first_line(connection: Link, script: str, *words: str) -> str:
    lines = connection.run(["sh", "-c", script, "sh", *words], check=False).stdout.splitlines()
    return lines[0] if lines else ""


@dataclass(frozen=True)
class Bundle:
    """vmctl's own Ansible, for any guest with a Python new enough, without a network.

    ansible-core and what it needs are pure Python; the compiled parts of some are only quicker, and are left out. What
    is missing then is `cryptography`, without which Ansible opens no vaults.
    """

    name: str
    """Differs where the content does."""
    python: tuple[int, int]
    """The oldest Python that runs it."""

    def archive(self) -> bytes:
        """A gzipped tar: the program, and `lib` beside it."""
        buffer = io.BytesIO()
        with (
            gzip.GzipFile(fileobj=buffer, mode="wb", compresslevel=6, mtime=0) as packed,
            tarfile.open(fileobj=packed, mode="w|") as archive,
        ):
            program = tarfile.TarInfo(PROGRAM)
            program.size, program.mode = len(START_PROGRAM), 0o755
            archive.addfile(program, io.BytesIO(START_PROGRAM.encode()))
            for name, path in _files():
                member = tarfile.TarInfo(f"lib/{name}")
                data = path.read_bytes()
                member.size, member.mode = len(data), 0o644
                archive.addfile(member, io.BytesIO(data))
        return buffer.getvalue()


def own_bundle() -> Bundle:
    """The bundle of the Ansible that vmctl itself uses."""
    versions = [f"{name}={metadata.version(name)}" for name in PACKAGES]
    digest = hashlib.sha256(" ".join(versions).encode()).hexdigest()[:8]
    return Bundle(f"ansible-{metadata.version('ansible-core')}-{digest}", _oldest_python())


def _oldest_python() -> tuple[int, int]:
    required = metadata.metadata("ansible-core")["Requires-Python"] or ">=3.11"
    major, minor = required.partition(">=")[2].split(",")[0].split(".")[:2]
    return int(major), int(minor)


def _files() -> Iterator[tuple[str, Path]]:
    for package in PACKAGES:
        for file in sorted(metadata.files(package) or (), key=str):
            parts = PurePosixPath(file).parts
            if parts[0] in LEFT_OUT or "__pycache__" in parts or file.suffix in (".so", ".pyc"):
                continue
            yield str(file), Path(str(file.locate()))
