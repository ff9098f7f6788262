"""A project's claim: what its directory says of itself. Guests can change it, so it is only ever compared."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from vmctl import json_text
from vmctl.errors import VmctlError
from vmctl.layout import PROJECT_DIRECTORY, TreeLayout
from vmctl.store import files

IGNORE_ALL = "*\n"
LONGEST = 4096  # bytes; a longer file is not a claim, and its end may be far away


class Claim(Struct, frozen=True):
    """Which project a directory claims to be, and the proof."""

    id: str
    proof: str
    """``ProjectPlace.claim``; "" of a vmctl that kept its state here."""


def read(root: Path) -> Claim | None:
    """What a directory claims; None = nothing that makes sense."""
    try:
        with files.open_to_read(_tree(root).claim) as stream:
            written = stream.read(LONGEST + 1)
        data = json_text.loads(written.decode()) if len(written) <= LONGEST else None
    except (VmctlError, OSError, ValueError):
        return None
    if not isinstance(data, Mapping) or not isinstance(data.get("id"), str):
        return None
    proof = data.get("claim", "")
    return Claim(data["id"], proof if isinstance(proof, str) else "")


def write(root: Path, claim: Claim) -> None:
    """Have the directory claim this, out of version control."""
    prepare(root)
    if read(root) != claim:
        files.write_json(_tree(root).claim, {"id": claim.id, "claim": claim.proof})


def prepare(root: Path) -> TreeLayout:
    """Make the project's ``.vmctl``, which keeps itself out of version control."""
    tree = _tree(root)
    files.make_directory(tree.root)
    if not files.exists(tree.gitignore):
        files.write(tree.gitignore, IGNORE_ALL, mode=0o644)
    return tree


def _tree(root: Path) -> TreeLayout:
    return TreeLayout(root / PROJECT_DIRECTORY)
