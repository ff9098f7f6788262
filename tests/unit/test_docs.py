"""The documents that lag behind unless a test holds them: the commands, and links between documents."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from vmctl.cli.root import cli

REPOSITORY = Path(__file__).parents[2]
COMMANDS = (REPOSITORY / "docs" / "commands.md").read_text()
DOCUMENTS = [*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/*.md"), *REPOSITORY.glob("examples/*/*.md")]
LINK = re.compile(r"\[[^]]*\]\(([^)#:]+)(#[^)]*)?\)")
EVERYWHERE = {"--json", "--help"}


def _commands() -> Iterator[tuple[str, click.Command]]:
    """Every command that a user can type, with its name as typed."""
    context = click.Context(cli)
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from ((f"{name} {inner}", command.commands[inner]) for inner in command.commands)
        else:
            yield name, command


def _section(name: str) -> str:
    """What docs/commands.md says below the heading of a command."""
    heading = re.search(rf"^### `vmctl {re.escape(name)}[ `].*$", COMMANDS, re.MULTILINE)
    assert heading, f"docs/commands.md has no heading for `vmctl {name}`"
    return COMMANDS[heading.end() :].split("\n##")[0]


ALL = dict(_commands())


@pytest.mark.parametrize("name", ALL)
def test_every_command_and_option_is_described(name: str) -> None:
    options = {
        word
        for option in ALL[name].params
        if isinstance(option, click.Option) and not option.hidden
        for word in (*option.opts, *option.secondary_opts)
        if word.startswith("--")
    }
    text = _section(name) + ("" if name != "reload" else _section("up"))
    assert {option for option in options - EVERYWHERE if option not in text} == set()


def test_no_command_is_described_that_is_not_there() -> None:
    described = re.findall(r"^### `vmctl ((?:box |cache |snapshot )?[a-z-]+)", COMMANDS, re.MULTILINE)
    assert sorted(described) == sorted(ALL)


def test_global_options_are_described() -> None:
    options = {word for option in cli.params for word in option.opts if word.startswith("--")}
    head = COMMANDS.split("\n## ")[0]
    assert {option for option in options if option not in head} == set()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_links_lead_somewhere(document: Path) -> None:
    targets = [match[1] for match in LINK.finditer(document.read_text())]
    assert [target for target in targets if not (document.parent / target).exists()] == []


def test_every_page_is_in_the_index() -> None:
    index = (REPOSITORY / "docs" / "index.md").read_text()
    pages = {page.name for page in (REPOSITORY / "docs").glob("*.md")} - {"index.md"}
    assert {page for page in pages if f"({page})" not in index} == set()


@pytest.mark.parametrize("group", ["box", "cache", "snapshot"])
def test_help_of_a_group_cuts_no_summary_off(group: str) -> None:
    shown = CliRunner().invoke(cli, [group, "--help"], terminal_width=60).output
    assert "..." not in shown.partition("Commands:")[2]
