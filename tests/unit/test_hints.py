"""No hint makes people delete what could be the only copy: hints are what a tired person copies into a shell."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from vmctl.errors import shell_command

ROOT = Path(__file__).parents[2]
SOURCES = [*sorted((ROOT / "vmctl").rglob("*.py")), *sorted((ROOT / "providers").rglob("*.py"))]
DELETES = re.compile(
    r"\brm\b|\brmdir\b|\bshred\b|\bunlink\b|\btruncate\b|\bdestroy\b|\bundefine|vol-delete|unregistervm|\bclosemedium\b"
    r"|snapshot (delete|restore|pop)|--force\b|--recreate|box (remove|prune)|\bremove\b|\bmkfs|\bdd \b"
    r"|git clean|git reset"
    r"|(^|\s)>\s*\S"
)
ALLOWED = {
    # Asked `vmctl destroy -g` or `--graceful`, in Vagrant's words: the user wants the machine destroyed.
    ("vmctl/cli/vagrant_words.py", "destroy"),
    # Says what an option of the command would do that the user gave; the command of the hint itself only lists.
    ("vmctl/lifecycle/snapshot_commands.py", "# then save under another name; --force replaces that one"),
    # `box remove` of a name that means several: how to say which one, in the words of that command.
    ("vmctl/cli/box_choice.py", "remove"),
}
MANY = 150


def _strings(node: ast.AST) -> Iterator[str]:
    """The literal texts of an expression, f-strings as one text each."""
    if isinstance(node, ast.JoinedStr):
        yield "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "shell_command":
        yield " ".join(text for word in node.args for text in _strings(word))
    else:
        for child in ast.iter_child_nodes(node):
            yield from _strings(child)


def _is_hint(name: str) -> bool:
    return name.lower() == "hint" or name.lower().endswith("_hint") or name == "NO_OPTION"


def _values(node: ast.AST) -> Iterator[ast.expr]:
    """What a node makes a hint: an argument, a variable's value, a parameter's default."""
    if isinstance(node, ast.keyword) and node.arg and _is_hint(node.arg):
        yield node.value
    elif isinstance(node, ast.Assign | ast.AnnAssign) and node.value:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        names = [one for target in targets for one in ast.walk(target) if isinstance(one, ast.Name | ast.Attribute)]
        if any(_is_hint(one.id if isinstance(one, ast.Name) else one.attr) for one in names):
            yield node.value
    elif isinstance(node, ast.arguments):
        for argument, default in zip(node.kwonlyargs, node.kw_defaults, strict=True):
            if default and _is_hint(argument.arg):
                yield default


def _names(value: ast.expr) -> set[str]:
    """Variables and functions whose own values an expression uses, not those of which it asks an attribute."""
    bases = {id(one.value) for one in ast.walk(value) if isinstance(one, ast.Attribute)}
    return {one.id for one in ast.walk(value) if isinstance(one, ast.Name) and id(one) not in bases}


def _hints(tree: ast.Module) -> Iterator[str]:
    """Every text that may become (a part of) a hint; names and functions of the module are followed, once."""
    hints: dict[str, list[ast.AST]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    hints.setdefault(target.id, []).append(node.value)
        elif isinstance(node, ast.FunctionDef):
            hints.setdefault(node.name, []).extend(
                one.value for one in ast.walk(node) if isinstance(one, ast.Return) and one.value
            )
    waiting = [value for node in ast.walk(tree) for value in _values(node)]
    seen: set[str] = set()
    while waiting:
        value = waiting.pop()
        yield from _strings(value)
        for name in _names(value) - seen:
            seen.add(name)
            waiting.extend(one for one in hints.get(name, []) if isinstance(one, ast.expr))


def found(source: str, path: str = "") -> set[tuple[str, str]]:
    return {(path, text) for text in _hints(ast.parse(source)) if DELETES.search(text)}


def test_a_hint_quotes_what_is_filled_in_as_the_shell_needs_it() -> None:
    """Quotation marks around it are not enough: what is filled in, as a server's URL, may hold one itself."""
    quoted = [
        (path.relative_to(ROOT), text)
        for path in SOURCES
        for text in _hints(ast.parse(path.read_text()))
        if re.search(
            r"(^(vmctl|ls|mv|df|cat|curl|chmod|tail|mkdir|sudo) |-\w+ ).*'[^']*\{\}", text.partition("  # ")[0]
        )
    ]
    assert quoted == []
    assert shell_command("ls", Path("/it's")) == "ls '/it'\"'\"'s'"


def test_no_hint_deletes_what_could_be_the_only_copy() -> None:
    hints = {one for path in SOURCES for one in found(path.read_text(), str(path.relative_to(ROOT)))}
    excused = {(path, text) for path, text in hints if any(path == where and words in text for where, words in ALLOWED)}
    assert hints - excused == set()
    unused = [(where, words) for where, words in ALLOWED if not any(p == where and words in t for p, t in hints)]
    assert unused == [], "no longer needed"


def test_there_are_hints_to_look_at() -> None:
    assert sum(1 for path in SOURCES for _ in _hints(ast.parse(path.read_text()))) > MANY


@pytest.mark.parametrize(
    "source",
    [
        "raise E('x', hint=f'vmctl destroy {name} && vmctl up {name}')",
        "raise E('x', hint='rm -r ' + path)",
        "raise E('x', hint=f\"rm '{path}'\" if path else 'vmctl list')",
        "X = 'vmctl box remove y'\nraise E('x', hint=X)",
        "def x():\n    return 'virsh undefine y'\nraise E('x', hint=x())",
        "def fail(*, hint='virsh vol-delete x'): ...",
        "hint = 'vmctl snapshot save --force'",
        "self.hint = 'vmctl snapshot delete x'",
        "AGAIN_HINT = 'git reset --hard'",
        "raise E('x', hint=': > project.json')",
    ],
)
def test_a_hint_that_deletes_is_found_however_it_is_written(source: str) -> None:
    assert found(source)


@pytest.mark.parametrize("hint", ["mv -n -- a a.old", "vmctl halt web", "vmctl logs web", "vmctl up --provider a"])
def test_a_hint_that_only_looks_or_moves_aside_is_none(hint: str) -> None:
    assert not found(f"raise E('x', hint={hint!r})")
