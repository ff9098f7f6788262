"""The scripts of docs/onboarding.md, run as they stand there, with the vmctl that is installed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.harness import Project

PAGE = Path(__file__).parents[2] / "docs" / "onboarding.md"
SCRIPTS = re.findall(r"^```(?:sh|python)\n(#!.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
FAILS = "provision: [{shell: {inline: 'echo no luck; exit 3', become: false}, name: luck}]\n"


@pytest.fixture(autouse=True)
def on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")


def run(project: Project, number: int, *words: str) -> subprocess.CompletedProcess[str]:
    script = project.root / f"script-{number}"
    script.write_text(SCRIPTS[number])
    script.chmod(0o755)
    done = subprocess.run(
        [f"./{script.name}", *words], cwd=project.root, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        check=False, timeout=300,
    )  # fmt: skip
    print(done.stdout, done.stderr)  # noqa: T201  pytest shows it when the test fails
    return done


def test_the_page_has_the_three_scripts() -> None:
    assert len(SCRIPTS) == 3


def test_setup_says_what_each_status_means_and_can_be_run_again(project: Project) -> None:
    project.vmfile("box: [\n")
    assert run(project, 0).returncode == 2
    project.vmfile(FAILS)
    failed = run(project, 0)
    assert (failed.returncode, "Provisioning failed" in failed.stderr) == (4, True)
    project.vmfile(FAILS.replace("exit 3", "exit 0"))
    for _ in range(2):
        done = run(project, 0)
        assert (done.returncode, "Ready. Go in: vmctl ssh" in done.stdout) == (0, True)


def test_ci_returns_the_programs_status_and_leaves_nothing(project: Project) -> None:
    project.vmfile("machines: {web: }\n")
    assert run(project, 1, "web", "sh", "-c", 'test "$1" = "a b" && exit 7', "sh", "a b").returncode == 7
    assert project.states() == {"web": "not created"}
    project.vmfile(FAILS)
    failed = run(project, 1, "default", "true")
    assert failed.returncode == 4
    assert "no luck" in failed.stderr
    assert "next: correct it, then: vmctl up default" in failed.stderr
    assert project.states() == {"default": "not created"}


def test_a_program_follows_along(project: Project) -> None:
    project.vmfile("machines: {web: }\n")
    done = run(project, 2)
    assert done.returncode == 0
    assert "... web: starting" in done.stdout
    assert re.search(r"^web: create, ssh \S+@127\.0\.0\.1 -p \d+$", done.stdout, re.MULTILINE)
    assert run(project, 2, "db").returncode == 2
