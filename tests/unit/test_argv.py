"""Whatever a name looks like, no program takes it for an option: `--` stands before every operand."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from vmctl.driver import Address
from vmctl.errors import VmctlError
from vmctl.layout import HomeLayout
from vmctl.login import Login
from vmctl.machine_names import recorded
from vmctl.ssh import session_argv
from vmctl.store import files, project_identity

REPOSITORY = Path(__file__).parents[2]
ROOTS = ("vmctl", "providers", "boxes", "playbooks")
WITHOUT = {"ip", "unshare"}
"""Programs that know no `--` (its operands are addresses that were parsed), or whose own argv follows one."""
FINDERS = {"process.find", "settings.program", "settings.playbook_program", "shutil.which"}


def sources() -> Iterator[tuple[Path, ast.Module]]:
    for root in ROOTS:
        for path in sorted((REPOSITORY / root).rglob("*.py")):
            yield path.relative_to(REPOSITORY), ast.parse(path.read_text())


def finds(node: ast.expr) -> str | None:
    """The program that an expression finds; None = it is no such call."""
    if not isinstance(node, ast.Call) or ast.unparse(node.func) not in FINDERS:
        return None
    return str(node.args[0].value) if isinstance(node.args[0], ast.Constant) else "?"


def command_lines(tree: ast.Module) -> Iterator[ast.List | ast.Tuple | ast.Call]:
    """Lists, tuples and calls of ``as_root`` that begin with a program."""
    programs = {
        target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and finds(node.value) and finds(node.value) not in WITHOUT
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        words = words_of(node)
        if words and (
            finds(words[0]) not in {None, *WITHOUT}
            or (isinstance(words[0], ast.Name) and words[0].id in programs)
            or (isinstance(words[0], ast.Constant) and words[0].value == "ssh")
        ):
            assert isinstance(node, ast.List | ast.Tuple | ast.Call)
            yield node


def words_of(node: ast.AST) -> list[ast.expr]:
    if isinstance(node, ast.List | ast.Tuple):
        return node.elts
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "as_root":
        return node.args
    return []


def operands_without_end_of_options(words: list[ast.expr]) -> list[str]:
    found = []
    for before, word in itertools.pairwise(words):
        if isinstance(word, ast.Constant) and word.value == "--":
            break
        value_of_option = isinstance(before, ast.Constant) and str(before.value).startswith("-")
        own_option = isinstance(word, ast.JoinedStr) and ast.unparse(word)[2:].startswith("-")
        if not (isinstance(word, ast.Constant | ast.Starred) or value_of_option or own_option):
            found.append(ast.unparse(word))
    return found


def test_end_of_options_stands_before_every_operand() -> None:
    lines = [(path, node) for path, tree in sources() for node in command_lines(tree)]
    assert len(lines) > 20
    wrong = {
        f"{path}:{node.lineno}": found
        for path, node in lines
        if (found := operands_without_end_of_options(words_of(node)))
    }
    assert wrong == {}


@pytest.mark.parametrize("name", ["-oProxyCommand=touch x", "-w", "../../x", "a/b", "", "x" * 40, "Web", "a\nb"])
def test_what_can_not_be_a_machines_name_is_none(private_home: Path, tmp_path: Path, name: str) -> None:
    home, root = HomeLayout(private_home), tmp_path / "p"
    root.mkdir()
    layout = project_identity.ensure(root, home).layout(home)
    with pytest.raises(VmctlError, match="cannot name a machine"):
        layout.machine(name)
    files.make_directory(layout.machines / "web")
    if name and "/" not in name:
        (layout.machines / name).mkdir()
    assert recorded(layout) == ("web",)


def test_a_session_with_a_name_that_looks_like_an_option(tmp_path: Path) -> None:
    place = tmp_path / "x"
    login = Login(
        machine="-oProxyCommand=x", address=Address(host="h", port=1), user="u", key=place, known_hosts=place,
        config=place,
    )  # fmt: skip
    assert session_argv(login, "id")[1:] == ["-F", str(place), "--", "-oProxyCommand=x", "id"]
    assert session_argv(login, options=["-v"])[-3:] == ["-v", "--", "-oProxyCommand=x"]
