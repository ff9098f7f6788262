"""Names completed by real shells, which run vmctl as a user's would at each press of the key."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.harness import Project

VMFILE = """\
machines:
  web-1: {}
  web-2: {}
  db: {}
provision:
  - name: install
    shell: {inline: "true"}
  - name: configure
    shell: {inline: "true"}
    machines: [db]
remotes:
  lab:
    hosts: {s1: 127.0.0.1, s2: 127.0.0.2}
"""
BASH = r"""
eval "$(vmctl completion bash)"
COMP_WORDS=($1); [[ "$1" != *" " ]] || COMP_WORDS+=("")
COMP_CWORD=$(( ${#COMP_WORDS[@]} - 1 ))
_vmctl_completion vmctl
printf "%s\n" "${COMPREPLY[@]}"
"""
FISH = "vmctl completion fish | source; complete -C$argv[1]"
# zsh completes only where a line is edited; what its function adds to the line is printed instead.
ZSH = r"""
autoload -Uz compinit && compinit -u -D
eval "$(vmctl completion zsh)"
compadd() { print -l -- "${(@P)@[-1]}" }
_describe() { print -l -- "${(@)${(@P)3}%%:*}" }
words=(${(z)1}); [[ "$1" != *" " ]] || words+=("")
CURRENT=$#words
_vmctl_completion
"""
SHELLS = {
    "bash": ["bash", "--norc", "-c", BASH, "bash"],
    "fish": ["fish", "--no-config", "-c", FISH],
    "zsh": ["zsh", "-f", "-c", ZSH, "zsh"],
}
CASES = {
    "vmctl halt we": ["web-1", "web-2"],
    "vmctl halt web-1 we": ["web-2"],
    "vmctl halt x": [],
    "vmctl ssh d": ["db"],
    "vmctl exec --target lab ": ["s1", "s2"],
    "vmctl provision --only ": ["install", "configure"],
    "vmctl drift --target ": ["lab"],
    "vmctl provision --target lab s": ["s1", "s2"],
    "vmctl box remove t": ["tiny"],
    "vmctl box build deb": ["debian-12"],
    "vmctl up --provider libv": ["libvirt"],
    "vmctl dest": ["destroy"],
}


def _completed(project: Project, shell: str, line: str) -> list[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [*SHELLS[shell], line],
        cwd=project.root,
        env={**os.environ, "PATH": path, "VMCTL_HOME": str(project.home)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert not done.stderr, done.stderr
    return [row.split("\t")[0] for row in done.stdout.splitlines() if row]


def test_names_are_completed(project: Project) -> None:
    project.vmfile(VMFILE)
    assert {line: _completed(project, "bash", line) for line in CASES} == CASES


@pytest.mark.parametrize("shell", ["fish", "zsh"])
@pytest.mark.parametrize("line", ["vmctl halt web-1 we", "vmctl provision --target lab s", "vmctl dest"])
def test_other_shells_complete_the_same(project: Project, shell: str, line: str) -> None:
    project.vmfile(VMFILE)
    assert _completed(project, shell, line) == CASES[line]


def test_what_can_not_be_read_completes_to_nothing_and_says_nothing(project: Project) -> None:
    project.vmfile("machines: [")
    assert _completed(project, "bash", "vmctl halt ") == []
    (project.root / "Vmfile").unlink()
    assert _completed(project, "bash", "vmctl halt ") == []


def test_snapshots_are_completed(project: Project) -> None:
    project.vmfile("machines: {web: {}}\n")
    project.vmctl("up")
    project.vmctl("snapshot", "save", "before")
    project.vmctl("snapshot", "save", "after")
    assert sorted(_completed(project, "bash", "vmctl snapshot restore ")) == ["after", "before"]
    assert _completed(project, "bash", "vmctl snapshot delete bef") == ["before"]
    project.vmctl("destroy", "--yes")


def test_the_script_is_an_answer_for_programs(project: Project) -> None:
    project.vmfile("")
    assert project.vmctl("completion", "bash").out.startswith("_vmctl_completion() {")
    answer = project.vmctl("completion", "zsh", "--json").answer
    assert answer["shell"] == "zsh"
    assert answer["script"].startswith("#compdef vmctl")
