"""The table of bad Vmfiles (tests/data/vmfile_bad.txt), and projects to load them in."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from vmctl import vmfile
from vmctl.spec import Project
from vmctl.vmfile import compose
from vmctl.vmfile.faults import Faults
from vmctl.vmfile.nodes import Source, plain

TABLE = Path(__file__).parents[1] / "data" / "vmfile_bad.txt"
HEAD = re.compile(r"^=== (?P<name>.*?)(?: \((?P<note>beyond schema|not YAML)\))?\n", re.MULTILINE)
FAULT = ">>> "


@dataclass(frozen=True)
class Bad:
    name: str
    text: str
    faults: tuple[str, ...]
    note: str


def bad() -> list[Bad]:
    table = TABLE.read_text()
    heads = list(HEAD.finditer(table))
    ends = [head.start() - 1 for head in heads[1:]] + [len(table)]
    cases = []
    for head, end in zip(heads, ends, strict=True):
        lines = table[head.end() : end].splitlines(keepends=True)
        text = "".join(line for line in lines if not line.startswith(FAULT))
        faults = tuple(line.removeprefix(FAULT).rstrip("\n") for line in lines if line.startswith(FAULT))
        cases.append(Bad(head["name"], text, faults, head["note"] or ""))
    return cases


def fill(root: Path) -> Path:
    """Make what Vmfiles of the tests refer to; the working directory of tests that expect `Vmfile:1:1`."""
    (root / "src").mkdir()
    for name in ("bootstrap.sh", "site.yml"):
        (root / name).touch()
    return root


def load(root: Path, text: str, **options: object) -> Project:
    (root / "Vmfile").write_text(text)
    settings: dict[str, object] = {"environ": {}, **options}
    return vmfile.load(root / "Vmfile", **settings)  # type: ignore[arg-type]  # tests pass what load() takes


def values(text: str) -> object:
    """What a schema validator sees of a Vmfile."""
    node = compose.compose(text, Source("Vmfile", Path("/")), Faults())
    return plain(node) if node else {}
