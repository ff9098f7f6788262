"""The `file` provisioner: files, directories and filled-in templates are put into guests; what is the same stays."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from vmctl.errors import Unreachable, UsageError, VmctlError, in_words
from vmctl.events import Output, Report, Warned
from vmctl.process import CommandFailed
from vmctl.provision import copyable, scripts
from vmctl.provision.failure import label
from vmctl.provision.file_templates import filled
from vmctl.provision.provisioner_result import ProvisionerResult, failed
from vmctl.provision.summary import Counts
from vmctl.provision.target import Target, each
from vmctl.spec import File

if TYPE_CHECKING:
    from vmctl.ssh.link import Link

SOURCE = "file"
TEMPLATE_SUFFIX = ".j2"
SCRIPT = "place.sh"
CONTENT = "content"
LONGEST_START = 256  # bytes of a first line; the kernel reads no more
# Standard input is the archive; the arguments go to the script, which gets the files' names from find.
UNPACK = f"""\
set -eu
stage=$(umask 077 && mktemp -d "${{TMPDIR:-/tmp}}/vmctl-file.XXXXXXXX")
trap 'rm -rf -- "$stage"' EXIT
tar -xpof - -C "$stage"
cd -- "$stage/{CONTENT}"
find . -type f -exec sh ../{SCRIPT} "$@" {{}} +
"""


@dataclass(frozen=True, slots=True)
class _New:
    """One file for the guest."""

    name: str
    data: bytes
    mode: int


def check(item: File) -> None:
    """Refuse what cannot work, before anything runs.

    Raises:
        UsageError: the source is not there.
    """
    if not item.source.exists():
        raise UsageError(f"provisioner {label(item)}: there is no {item.source}", hint="vmctl validate")
    if not (item.source.is_dir() or item.source.is_file()):
        raise UsageError(f"provisioner {label(item)}: {item.source} is {copyable.NO_FILE}", hint="vmctl validate")


def provision(item: File, targets: Sequence[Target], root: Path, report: Report) -> list[ProvisionerResult]:
    """Put the files into all targets, side by side.

    Raises:
        Interrupted: the user asked to stop; each file is whole, the old one or the new one.
        VmctlError: the source cannot be read.
    """
    for path, why in copyable.contents(item.source).skipped.items():
        report(Warned(text=f"{item.name}: {path} is left out: {why}"))
    for path in _unstartable(item):
        report(Warned(text=f"{item.name}: {path} starts with #! and has CRLF line ends, with which it cannot start"))
    return each(targets, lambda target: _provision(item, target, root, report))


def _provision(item: File, target: Target, root: Path, report: Report) -> ProvisionerResult:
    try:
        archive = _packed(item, target, root)
        with target.connect() as connection:
            changed = _put(item, archive, connection)
    except Unreachable as error:
        brief = f"{error.brief} (provisioner {label(item)})"
        return failed(target.name, brief, error.details, unreachable=True, hint=error.hint)
    except CommandFailed as error:
        brief = f"{target.name}: {item.destination} could not be written (provisioner {label(item)})"
        return failed(target.name, brief, error.completed.stderr.strip() or error.details)
    except VmctlError as error:
        return failed(target.name, f"{target.name}: {error.brief} (provisioner {label(item)})", error.details)
    for path in changed:
        report(Output(machine=target.name, line=f"changed: {path}", source=SOURCE))
    return ProvisionerResult(machine=target.name, counts=Counts(ok=1, changed=int(bool(changed))))


def _unstartable(item: File) -> list[Path]:
    """Scripts that Windows has written: a file is put as it is."""
    if item.template:  # which ends its lines in LF
        return []
    return [path for path in copyable.contents(item.source).files if scripts.is_of_windows(_start(path))]


def _start(path: Path) -> bytes:
    """The first line of a script; "" of anything else."""
    try:
        with path.open("rb") as stream:
            return stream.readline(LONGEST_START) if stream.read(2) == b"#!" else b""
    except OSError:
        return b""  # told when it is read as a whole


def _put(item: File, archive: bytes, connection: Link) -> list[str]:
    """The paths that were changed."""
    ownership = f"{item.owner}:{item.group}" if item.group else item.owner
    directory_mode = "" if item.mode is None else f"{_searchable(item.mode):o}"
    below = item.destination if item.source.is_dir() else str(PurePosixPath(_target(item)).parent)
    argv = ["sh", "-c", UNPACK, "sh", below, ownership, directory_mode]
    return connection.run(argv, input=archive, sudo=item.become).stdout.splitlines()


def _target(item: File) -> str:
    """Where a single file goes; into a directory where the destination ends like one."""
    name = item.source.name.removesuffix(TEMPLATE_SUFFIX) if item.template else item.source.name
    return f"{item.destination}{name}" if item.destination.endswith("/") else item.destination


def _searchable(mode: int) -> int:
    """The mode of a directory of files with this mode: x where there is r."""
    return mode | ((mode & 0o444) >> 2)


def _packed(item: File, target: Target, root: Path) -> bytes:
    """The archive with the files and the script that puts them.

    Raises:
        VmctlError: a file cannot be read, or a template has a fault.
    """
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        script = resources.files("vmctl.provision") / SCRIPT
        _add(archive, _New(SCRIPT, script.read_bytes(), 0o644))
        directory = tarfile.TarInfo(CONTENT)
        directory.type, directory.mode = tarfile.DIRTYPE, 0o755
        archive.addfile(directory)
        for new in _files(item, target, root):
            _add(archive, _New(f"{CONTENT}/{new.name}", new.data, new.mode))
    return buffer.getvalue()


def _add(archive: tarfile.TarFile, new: _New) -> None:
    member = tarfile.TarInfo(new.name)
    member.size, member.mode = len(new.data), new.mode
    archive.addfile(member, io.BytesIO(new.data))


def _files(item: File, target: Target, root: Path) -> Iterator[_New]:
    is_directory = item.source.is_dir()
    for path in copyable.contents(item.source).files:
        name = str(path.relative_to(item.source)) if is_directory else PurePosixPath(_target(item)).name
        data, mode = _read(path)
        if item.template and (not is_directory or name.endswith(TEMPLATE_SUFFIX)):
            data = _rendered(path, data, scope(item, target, root))
            name = name.removesuffix(TEMPLATE_SUFFIX) if is_directory else name
        yield _New(name, data, mode if item.mode is None else item.mode)


def _read(path: Path) -> tuple[bytes, int]:
    try:
        return path.read_bytes(), path.stat().st_mode & 0o777
    except OSError as error:
        raise VmctlError(f"{path} cannot be read", details=in_words(error)) from error


def scope(item: File, target: Target, root: Path) -> Mapping[str, Any]:
    """The names that a template knows."""
    return {
        "vars": item.variables,
        "machine": {"name": target.name, **target.facts},
        "project": {"name": root.name, "root": str(root)},
    }


def _rendered(path: Path, data: bytes, names: Mapping[str, Any]) -> bytes:
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise VmctlError(f"the template {path} has a fault", details=str(error)) from error
    return filled(path, text, names).encode()
