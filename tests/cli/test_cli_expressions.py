"""A stranger's Vmfile, and every command that reads it: no expression does anything."""

import os
from pathlib import Path

import pytest

from tests.cli.harness import Project

COMMANDS = [
    ("validate",), ("config",), ("plan",), ("up",), ("status",), ("port",), ("inventory", "--list"), ("ssh-config",),
    ("provision",), ("box", "lock"), ("reload",), ("resume",), ("test",), ("ssh", "-c", "true"),
]  # fmt: skip
CODE = "{{ (vars['nodes']['x'].source.directory.home() / 'f').write_text('x') }}"
ENVIRONMENT = "{{ env['update']({'PATH': '/evil', 'LD_PRELOAD': '/evil.so'}) }}"
READ = "{{ vars['nodes']['x'].source.directory.joinpath('/etc/hostname').read_text() }}"
HUGE = "{{ 'a'.ljust(10**9) }}"
TEXT = f"""\
vars: {{x: 1}}
hostname: "{CODE}"
message: "{ENVIRONMENT}"
memory: "{READ}"
cpus: "{HUGE}"
"""


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_no_command_runs_what_an_expression_says(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    project.vmfile(TEXT)
    before = dict(os.environ)
    ran = project.vmctl(*words, status=2)
    assert ran.err.count("nothing can be called in an expression") == 4
    assert not (tmp_path / "f").exists()
    assert dict(os.environ) == before


def test_the_fault_has_its_place_and_the_filter_to_use(project: Project) -> None:
    project.vmfile("vars: {x: web}\nmessage: '{{ vars.x.upper() }}'\n")
    ran = project.vmctl("validate", status=2)
    assert "Vmfile:5:10: message: {{ vars.x.upper() }}: nothing can be called" in ran.err
    assert "use the filter: {{ x | upper }}" in ran.err
