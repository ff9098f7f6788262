"""A command line that makes no sense: what is wrong with it, and what to write instead."""

from __future__ import annotations

from collections.abc import Sequence

import click

from vmctl.errors import UsageError


def explain(error: click.ClickException, argv: Sequence[str]) -> UsageError:
    """The error for people; an option on the wrong side of the command is shown its place."""
    context: click.Context | None = getattr(error, "ctx", None)
    misplaced = None
    if context and isinstance(error, click.NoSuchOption):
        misplaced = _before(context, error.option_name) or _behind(context, error.option_name, argv)
    if misplaced:
        return misplaced
    return UsageError(error.format_message(), hint=f"{context.command_path if context else 'vmctl'} --help")


def _before(context: click.Context, word: str) -> UsageError | None:
    root = context.find_root()
    option = _option(root.command, word)
    if option is None:
        return None
    command = context.command_path.removeprefix(f"{root.command_path} ")
    hint = f"{root.command_path} {_written(option, word)} {command}"
    return UsageError(f"the option {word} stands before the command", hint=hint)


def _behind(context: click.Context, word: str, argv: Sequence[str]) -> UsageError | None:
    command, path = context.command, context.command_path
    for each in argv:
        if isinstance(command, click.Group) and (found := command.get_command(context, each)):
            command, path = found, f"{path} {each}"
    option = _option(command, word)
    if option is None:
        return None
    return UsageError(f"the option {word} stands behind the command", hint=f"{path} {_written(option, word)}")


def _option(command: click.Command, word: str) -> click.Parameter | None:
    return next((one for one in command.params if word in (*one.opts, *one.secondary_opts)), None)


def _written(option: click.Parameter, word: str) -> str:
    return f"{word} {option.metavar}" if option.metavar else word
