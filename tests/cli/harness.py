"""vmctl run in process, in a project directory on fake machines."""

from __future__ import annotations

import getpass
import io
import json
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vmctl.boxes.box import Box
from vmctl.cli.root import cli
from vmctl.cli.running import run
from vmctl.layout import HomeLayout, ProjectLayout
from vmctl.store import project_identity


@dataclass
class Ran:
    """What one command did."""

    status: int
    out: str
    err: str

    @property
    def answer(self) -> dict[str, Any]:
        """Its last JSON line."""
        last: dict[str, Any] = json.loads(self.out.splitlines()[-1])
        return last

    def events(self, name: str) -> list[dict[str, Any]]:
        """The events of one kind."""
        return [row for row in map(json.loads, self.out.splitlines()) if row.get("event") == name]


@dataclass
class Project:
    """A project directory, and vmctl run in it."""

    root: Path
    home: Path

    @property
    def layout(self) -> ProjectLayout:
        """Where vmctl keeps what it knows of the project."""
        place = project_identity.find(self.root, HomeLayout(self.home))
        assert place is not None, "the project has not been up yet"
        return place.layout(HomeLayout(self.home))

    def vmfile(self, text: str) -> None:
        """Write the Vmfile; machines share nothing unless told."""
        head = "box: tiny\nprovider: fakeguests\n"
        folders = "" if "synced_folders" in text else "synced_folders: []\n"
        (self.root / "Vmfile").write_text(head + folders + text)

    def vmctl(self, *words: str, status: int | None = 0) -> Ran:
        """Run a command in this process."""
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            got = run(cli, ["-C", str(self.root), *words])
        shown = f"$ vmctl {' '.join(words)}\n{out.getvalue()}{err.getvalue()}[status {got}]"
        print(shown)  # noqa: T201  pytest shows it when the test fails
        assert status is None or got == status, shown
        return Ran(got, out.getvalue(), err.getvalue())

    def states(self) -> dict[str, str]:
        """What `vmctl status` says."""
        return {row["name"]: row["state"] for row in self.vmctl("status", "--json").answer["machines"]}


def make_box(home: Path, name: str = "tiny", **facts: Any) -> Box:
    """Put a box into the store whose image nobody will boot; its login user is whoever runs the tests."""
    digest = "0" * 64
    directory = HomeLayout(home).boxes / name / "1.0" / "x86_64"
    directory.mkdir(parents=True)
    box = Box(
        directory=directory, name=name, version="1.0", arch="x86_64", digest=digest, format="qcow2",
        virtual_size=2**30, size=7, source="a test", user=getpass.getuser(), **facts,
    )  # fmt: skip
    (directory / "box.json").write_text(json.dumps(box.to_json() | {"directory": None}))
    box.path.write_bytes(b"QFI\xfb...")
    return box
