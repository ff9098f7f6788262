"""Whose an instance is: keys of its configuration that mean nothing to the server. No keys, no touch."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from vmctl.driver import Definition, Tag

PREFIX = "user.vmctl."
PROJECT, MACHINE, VERSION, ROOT = (PREFIX + name for name in ("project", "machine", "version", "root"))
NAME = PREFIX + "name"
"""The name that vmctl calls it by, which may hold what the server's names may not."""
SEED, SEEDED = PREFIX + "seed", PREFIX + "seeded"
"""The seed's path on vmctl's host, and the digest of the one that was put into the instance last."""
RUN = PREFIX + "run"
"""Another one each time that vmctl starts the instance; a guest that restarts itself goes on with the same."""
UNSHIFTED = PREFIX + "unshifted"
"""Set once the server could not mount a folder with other owners, whatever its kernel can: it need not try again."""
DISK = PREFIX + "disk"
"""Size of the disk, in bytes; kept also where the pool cannot limit it."""
SNAPSHOT = PREFIX + "snapshot"
"""What the present state builds on (``vmctl_incus.snapshots``)."""
LAYER = PREFIX + "layer"
"""Of a layer, which is an instance that never starts: its key (``vmctl_incus.layers``)."""
GROUND = PREFIX + "ground"
"""Key of the layer that an instance, or another layer, began with."""
BOX, BOX_SIZE = PREFIX + "box", PREFIX + "box.size"
"""Of a ground, which is an instance that never starts: its box's digest and bytes (``vmctl_incus.box_copies``)."""
UNFINISHED = PREFIX + "box.unfinished"
"""Of a ground that is being made, or was when vmctl was killed: its box's digest."""
VALID = re.compile(r"[A-Za-z]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
LONGEST_STEM = 52


class Mark(Struct, frozen=True, kw_only=True):
    """What vmctl wrote on an instance."""

    tag: Tag
    name: str
    seed: str = ""
    seeded: str = ""
    run: str = ""
    disk: int = 0
    ground: str = ""


def instance_name(name: str) -> str:
    """What a machine is called on the server: its name, or one made of it where that is not a hostname."""
    if VALID.fullmatch(name):
        return name
    stem = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")[:LONGEST_STEM].rstrip("-")
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{stem}-{digest}" if stem[:1].isalpha() else f"vm-{stem}-{digest}"


def keys(definition: Definition) -> dict[str, str]:
    """The tag's keys, for an instance's configuration."""
    tag = definition.tag
    return {
        PROJECT: tag.project,
        MACHINE: tag.machine,
        VERSION: tag.version,
        ROOT: tag.root,
        NAME: definition.name,
        SEED: str(definition.seed or ""),
    }


def read(config: Mapping[str, object] | None) -> Mark | None:
    """What vmctl wrote into a configuration; None = it is not vmctl's."""
    own = {key: value for key, value in (config or {}).items() if isinstance(value, str)}
    if not (own.get(PROJECT) and own.get(MACHINE) and own.get(NAME)):
        return None
    tag = Tag(project=own[PROJECT], machine=own[MACHINE], version=own.get(VERSION, ""), root=own.get(ROOT, ""))
    return Mark(tag=tag, name=own[NAME], seed=own.get(SEED, ""), seeded=own.get(SEEDED, ""), run=own.get(RUN, ""),
                disk=number(own.get(DISK)), ground=own.get(GROUND, ""))  # fmt: skip


def number(value: object) -> int:
    """A number that vmctl wrote; 0 = it is none."""
    text = str(value)
    return int(text) if text.isascii() and text.isdecimal() else 0


def seed_within(mark: Mark, home: Path) -> Path | None:
    """The file of the seed; None = there is none, or it lies where vmctl keeps none."""
    path = Path(mark.seed)
    return path if mark.seed and path.is_relative_to(home) and ".." not in path.parts else None
