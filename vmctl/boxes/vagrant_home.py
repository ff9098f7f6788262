"""The boxes that Vagrant keeps on this host: ``~/.vagrant.d/boxes/ORG-VAGRANTSLASH-NAME/VERSION[/ARCH]/PROVIDER/``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from vmctl.boxes import box_names, vagrant_box
from vmctl.boxes.catalogue import PREFERRED
from vmctl.boxes.versions import Version
from vmctl.errors import UsageError, VmctlError
from vmctl.user_environment import expanded

VARIABLE = "VAGRANT_HOME"
WORDS = {"-VAGRANTSLASH-": "/", "-VAGRANTCOLON-": ":"}


class Unpacked(Struct, frozen=True, kw_only=True):
    """One box, as Vagrant unpacked it."""

    name: str
    version: str
    provider: str
    directory: Path
    arch: str = ""
    """"" = Vagrant does not say."""

    def __str__(self) -> str:
        return f"{self.name} {self.version} ({self.provider})"


def directory() -> Path:
    """Where Vagrant keeps its boxes.

    Raises:
        UsageError: it keeps none on this host.
    """
    found = expanded(os.environ.get(VARIABLE) or "~/.vagrant.d") / "boxes"
    if not found.is_dir():
        raise UsageError(
            f"Vagrant has no boxes in {found}", hint=f"export {VARIABLE}=DIRECTORY, if it has another home"
        )
    return found


def boxes(home: Path) -> list[Unpacked]:
    """All that lie there, by name, oldest version first."""
    found = [one for path in home.glob("*/*") if path.is_dir() for one in _of_version(path)]
    return sorted(sorted(found, key=_order), key=lambda one: one.name)


def best(found: list[Unpacked]) -> tuple[list[Unpacked], list[tuple[Unpacked, str]]]:
    """One for each version and architecture that vmctl can use, libvirt's first; the others, and why not."""
    usable: dict[object, Unpacked] = {}
    others: list[tuple[Unpacked, str]] = []
    ranks = {provider: rank for rank, provider in enumerate(PREFERRED)}
    for one in sorted(found, key=lambda box: ranks.get(box.provider, len(ranks))):
        key = one.name, one.version, one.arch
        if one.provider not in ranks:
            others.append((one, f"vmctl cannot read boxes for {one.provider}"))
        elif key in usable:
            others.append((one, f"its box for {usable[key].provider} is taken"))
        else:
            usable[key] = one
    return [one for one in found if one in usable.values()], others


def _of_version(path: Path) -> Iterator[Unpacked]:
    name = path.parent.name
    for word, meant in WORDS.items():
        name = name.replace(word, meant)
    for inner in sorted(path.iterdir()):
        if vagrant_box.is_vagrant_box(inner):
            yield Unpacked(name=name, version=path.name, provider=inner.name, directory=inner)
        elif inner.is_dir():
            arch = box_names.architecture(inner.name)
            for one in sorted(inner.iterdir()):
                if vagrant_box.is_vagrant_box(one):
                    yield Unpacked(name=name, version=path.name, provider=one.name, directory=one, arch=arch)


def _order(one: Unpacked) -> Version:
    try:
        return Version(one.version)
    except VmctlError:
        return Version("0")
