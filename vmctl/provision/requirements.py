"""A file of requirements (ansible-galaxy's `requirements.yml`), with what it names on this host.

Paths in it start from its own directory. Roles that are directories, which ansible-galaxy cannot install, are packed
for it.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from vmctl.errors import UsageError, in_words

DOCS = "https://docs.ansible.com/ansible/latest/galaxy/user_guide.html"
META = "meta/main.yml"
NO_META = b"galaxy_info: {author: '', description: '', license: ''}\ndependencies: []\n"
OF_FILES = ("dir", "file", "subdirs")
"""Types of collections that are taken as they lie there."""
IGNORED = (".git", "__pycache__", ".vmctl")


class Requirements(Struct, frozen=True):
    """What a file asks for; each requirement a mapping, as ansible-galaxy knows it."""

    file: Path
    roles: tuple[dict[str, Any], ...]
    collections: tuple[dict[str, Any], ...]

    def local(self) -> Iterator[Path]:
        """Files and directories of this host that are asked for."""
        for one, key in (*((role, "src") for role in self.roles), *((one, "name") for one in self.collections)):
            for location in (one.get(key), one.get("source")):
                if path := _on_host(location, self.file.parent):
                    yield path

    def is_here(self, one: Mapping[str, Any]) -> bool:
        """Whether a requirement is what lies on this host as it is, no commit of it and nothing of a server."""
        places = [one.get("src")] if any(one is role for role in self.roles) else [one.get("name"), one.get("source")]
        is_of_files = str(one.get("scm") or one.get("type") or "dir") in OF_FILES
        return is_of_files and any(_on_host(place, self.file.parent) for place in places)

    def written_for_galaxy(self, scratch: Path) -> dict[str, list[dict[str, Any]]]:
        """The requirements for a file anywhere: with absolute paths, and role directories packed in ``scratch``."""
        roles = [self._role(dict(role), scratch, number) for number, role in enumerate(self.roles)]
        return {"roles": roles, "collections": [self._collection(dict(one)) for one in self.collections]}

    def _role(self, role: dict[str, Any], scratch: Path, number: int) -> dict[str, Any]:
        path = _on_host(role.get("src"), self.file.parent)
        if path is None:
            return role
        name = str(role.get("name") or path.name.removesuffix(".gz").removesuffix(".tar"))
        if path.is_dir():
            packed = scratch / f"{number}.tar.gz"
            with tarfile.open(packed, "w:gz") as archive:
                archive.add(path, name, filter=_kept)
                if not (path / META).exists():  # without which ansible-galaxy takes it for no role
                    member = tarfile.TarInfo(f"{name}/{META}")
                    member.size = len(NO_META)
                    archive.addfile(member, io.BytesIO(NO_META))
            path = packed
        return {**role, "src": str(path), "name": name}

    def _collection(self, one: dict[str, Any]) -> dict[str, Any]:
        key = "source" if _on_host(one.get("source"), self.file.parent) else "name"
        path = _on_host(one.get(key), self.file.parent)
        if path is None:
            return one
        kind = one.get("type") or ("dir" if path.is_dir() else "file")
        return {"name": str(path), "type": kind} if key == "name" else {**one, key: str(path), "type": kind}


def _kept(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if Path(member.name).name in IGNORED else member


def _on_host(location: Any, directory: Path) -> Path | None:
    """The file or directory that a requirement names, where it names one that is there."""
    if not isinstance(location, str) or "://" in location or not location.startswith((".", "/", "~", "file:")):
        return None
    path = directory / Path(location.removeprefix("file:")).expanduser()
    return path if path.exists() else None


def read(file: Path) -> Requirements:
    """Read a file of requirements; the old form, a list of roles, counts as well.

    Raises:
        UsageError: it is none.
    """
    import yaml

    try:
        data = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"{file} cannot be read", details=in_words(error)) from error
    if isinstance(data, list):
        data = {"roles": data}
    if not isinstance(data, Mapping):
        raise UsageError(f"{file} is not a requirements file", details=f"It wants roles: and collections: ({DOCS}).")
    roles, collections = (
        tuple(_one(item, key) for item in data.get(part) or ())
        for part, key in (("roles", "src"), ("collections", "name"))
    )
    return Requirements(file, roles, collections)


def _one(item: Any, key: str) -> dict[str, Any]:
    return {str(name): value for name, value in item.items()} if isinstance(item, Mapping) else {key: str(item)}
