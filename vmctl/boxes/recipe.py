"""Recipes: how a box is made from a distribution's packages. Read from ``vmctl_boxes``, one directory each."""

from __future__ import annotations

import hashlib
import io
import tarfile
import tomllib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from vmctl.errors import VmctlError
from vmctl.spec import GIB, MIB

FILE = "recipe.toml"
README = "README.md"
OVERLAY = "root"
SIZES = {"MiB": MIB, "GiB": GIB}
FORMS = b"2: a disk and a root file system for containers"
"""What is made of a recipe; goes into its digest, so that boxes that lack a part of it are made again."""


@dataclass(frozen=True)
class Recipe:
    """One recipe: its directory, and what ``recipe.toml`` says."""

    directory: Path
    data: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The box's name."""
        return str(self.data["name"])

    @property
    def disk(self) -> int:
        """Virtual size of the disk, in bytes."""
        text = str(self.data["disk"])
        return int(text[:-3]) * SIZES[text[-3:]]

    @cached_property
    def digest(self) -> str:
        """Changes when any file of the recipe does, or what is made of it; its README is for people alone."""
        hashing = hashlib.sha256(FORMS)
        readme = self.directory / README
        for path in self._files(self.directory):
            if path == readme:
                continue
            data = path.read_bytes()
            hashing.update(f"{path.relative_to(self.directory)}\0{len(data)}\0".encode() + data)
        return hashing.hexdigest()

    def id(self, what: str) -> str:
        """A UUID for a part of the disk: the same in every build of this recipe."""
        return str(uuid.uuid5(uuid.UUID(hex=self.digest[:32]), what))

    @property
    def values(self) -> Mapping[str, str]:
        """What replaces @NAME@ in the recipe's files."""
        return {"ROOT_UUID": self.id("root"), "CMDLINE": str(self.data["cmdline"])}

    def overlay(self, epoch: int) -> bytes:
        """A tar of ``root/``, values filled in, owned by root; to be unpacked over the packages' files."""
        buffer = io.BytesIO()
        base = self.directory / OVERLAY
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for path in self._files(base):
                self._add(archive, PurePosixPath(path.relative_to(base)), path, epoch)
        return buffer.getvalue()

    def _add(self, archive: tarfile.TarFile, name: PurePosixPath, path: Path, epoch: int) -> None:
        text = path.read_text(encoding="utf-8")
        for key, value in self.values.items():
            text = text.replace(f"@{key}@", value)
        data = text.encode()
        member = tarfile.TarInfo(f"./{name}")
        member.size = len(data)
        member.mode = 0o755 if text.startswith("#!") else 0o644
        member.mtime = epoch
        archive.addfile(member, io.BytesIO(data))

    @staticmethod
    def _files(base: Path) -> list[Path]:
        return sorted(path for path in base.rglob("*") if path.is_file() and "__pycache__" not in path.parts)


def names() -> list[str]:
    """The boxes that can be built."""
    return sorted(path.parent.name for path in _root().glob(f"*/{FILE}"))


def load(name: str) -> Recipe:
    """The recipe for the box ``name``.

    Raises:
        VmctlError: there is none.
    """
    if name not in names():
        raise VmctlError(
            f"there is no recipe for a box {name!r}",
            details=f"there are: {', '.join(names())}",
            hint="vmctl box build debian-12",
        )
    directory = _root() / name
    return Recipe(directory, tomllib.loads((directory / FILE).read_text(encoding="utf-8")))


def _root() -> Path:
    import vmctl_boxes

    return vmctl_boxes.RECIPES
