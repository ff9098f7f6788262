"""Commands that only ask leave everything as it was, in a project that is at work and in one that never was."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.harness import Project

QUESTIONS = (
    "status", "plan", "list", "config --origins", "validate", "schema", "port", "history", "logs", "ssh-config",
    "snapshot list", "box list", "box du", "box prune --dry-run", "cache list", "cache du", "inventory", "drift",
    "provision --check", "completion bash",
)  # fmt: skip
NOT_MEANT = ("fake", "hosts", "vmctl.log")
"""The fake hypervisor's own files, and the debug log, below vmctl's home."""


def files(project: Project) -> dict[Path, bytes | None]:
    """All that is there, but for what the hypervisor and the debug log keep, and who held which lock last."""
    roots = [project.root, *(path for path in project.home.iterdir() if path.name not in NOT_MEANT)]
    paths = {path for root in roots for path in (root, *root.rglob("*"))}
    paths -= {path for path in paths if path.suffix == ".holder" and path.with_suffix("") in paths}
    return {path: path.read_bytes() if path.is_file() else None for path in paths}


@pytest.mark.parametrize("words", QUESTIONS)
@pytest.mark.parametrize("made", [False, True], ids=["new", "made"])
def test_a_question_changes_nothing(project: Project, words: str, *, made: bool) -> None:
    project.vmfile("machines: {web: {ports: ['auto:80']}}\n")
    if made:
        project.vmctl("up")
    before = files(project)
    project.vmctl(*words.split(), status=None)
    assert files(project) == before


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("fakeguests: {fail: {check: no room}}\n", 1),
        ("machines: {a: {}, b: {ports: ['auto:80']}}\nfakeguests: {fail: {check: no room}}\n", 1),
        ("provision: [{ansible: {playbook: site.yml, ask_become_pass: true}}]\n", 2),
    ],
)
def test_an_up_that_is_refused_makes_no_project(project: Project, text: str, status: int) -> None:
    (project.root / "site.yml").write_text("- hosts: all\n")
    project.vmfile(text)
    before = files(project)
    project.vmctl("up", status=status)
    assert files(project) == before
