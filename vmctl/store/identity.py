"""A project's identity: an id that lives in the project's directory, and the index that finds the directory again."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vmctl.errors import VmctlError
from vmctl.events import Report, ignore
from vmctl.layout import PROJECT_DIRECTORY, HomeLayout, ProjectLayout
from vmctl.store import files, locks


def project_layout(root: Path) -> ProjectLayout:
    """Where a project keeps its state."""
    return ProjectLayout(root / PROJECT_DIRECTORY)


def read(layout: ProjectLayout) -> str | None:
    """The project's id; None before its first `up`."""
    data = files.read_json(layout.id_file)
    if data is None:
        return None
    if not isinstance(data, Mapping) or not isinstance(data.get("id"), str):
        raise files.damaged(layout.id_file, "it holds no project id")
    return str(data["id"])


def ensure(layout: ProjectLayout, home: HomeLayout, *, report: Report = ignore) -> str:
    """The project's id, made now if there is none; enters the project in the index.

    Raises:
        VmctlError: the directory is a copy of another project that still exists; both would claim the same machines.
    """
    files.make_directory(layout.root)
    with locks.hold(layout.lock, "the project", report=report):
        if not layout.gitignore.exists():
            files.write(layout.gitignore, "*\n", mode=0o644)
        project = read(layout)
        if project is None:
            project = uuid.uuid4().hex
            files.write_json(layout.id_file, {"id": project, "created": round(time.time())})
    _enter(project, layout, home, report)
    return project


def _enter(project: str, layout: ProjectLayout, home: HomeLayout, report: Report) -> None:
    root = str(layout.root.parent)
    known = index(home).get(project)
    if known == root:
        return
    if known is not None and read(project_layout(Path(known))) == project:
        raise VmctlError(
            f"{root} is a copy of {known}, with the same project id",
            details="Two directories can not own the same machines.",
            hint=f"rm -r '{layout.root}'    # the copy then gets an identity of its own",
        )
    with locks.hold(home.locks / "projects", "the index of projects", report=report):
        files.write_json(home.projects, {**index(home), project: root})


def index(home: HomeLayout) -> Mapping[str, str]:
    """All known projects: id → last known directory.

    Raises:
        VmctlError: the index is damaged. Moved away, it is made again, project by project, by each one's next `up`.
    """
    data: Any = files.read_json(home.projects)
    if data is None:
        return {}
    if not isinstance(data, Mapping) or not all(isinstance(root, str) for root in data.values()):
        raise files.damaged(home.projects, "it is no index of projects")
    return data


def forget(project: str, home: HomeLayout) -> None:
    """Take a project out of the index (its last machine is gone)."""
    with locks.hold(home.locks / "projects", "the index of projects"):
        files.write_json(home.projects, {key: root for key, root in index(home).items() if key != project})
