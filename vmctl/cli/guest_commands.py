"""`vmctl ssh`, `ssh-config` and `exec`."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import click

from vmctl.cli import completion
from vmctl.cli.app import App, command
from vmctl.cli.fan_out import answer, execute
from vmctl.errors import UsageError

if TYPE_CHECKING:
    from vmctl.process import Completed
    from vmctl.ssh import Connection
    from vmctl.workspace import Workspace

PASS_ON = {"ignore_unknown_options": True, "allow_interspersed_args": False}


def only_machine(app: App, name: str | None) -> tuple[Workspace, str]:
    """The one machine that a command is about: the named one, else the primary one, else the only one.

    Raises:
        UsageError: the name means several, or there are several to choose from.
    """
    workspace = app.select([name] if name else [], salvage=True)
    primary = [spec.name for spec in workspace.project.machines if spec.primary]
    if primary and not name:
        return workspace, primary[0]
    if len(app.names) != 1:
        raise UsageError("which machine?", hint=f"name one of: {', '.join(app.names)}")
    return workspace, app.names[0]


@command(context_settings=PASS_ON)
@click.option("-c", "--command", "line", metavar="COMMAND", help="Run this instead of a shell; returns its status.")
@click.option("-t/-T", "--tty/--no-tty", "tty", default=None, help="Force / refuse a terminal for the command.")
@click.option(
    "--target",
    metavar="TARGET",
    shell_complete=completion.targets,
    help="Into a server of this target of `remotes:`, not a machine.",
)
@click.argument(
    "words",
    nargs=-1,
    type=click.UNPROCESSED,
    metavar="[MACHINE] [-- SSH_OPTION...]",
    shell_complete=completion.first_word,
)
def ssh(app: App, words: tuple[str, ...], line: str | None, *, tty: bool | None, target: str | None) -> int | None:
    """Open a shell in a machine, or run a command there; a real OpenSSH session.

    What follows `--` goes to ssh: `vmctl ssh web -- -L 8080:localhost:80`.
    """
    from vmctl import logins
    from vmctl.ssh import run_session, session_argv

    name, line, tty, options = _ssh_words(words, line, tty=tty)
    if target:
        from vmctl.cli import on_servers

        return on_servers.ssh(app, target, name, line, tty=tty, options=options)
    workspace, name = only_machine(app, name)
    if line is None:
        if app.json:
            raise UsageError("an interactive shell has no JSON answer", hint=f"vmctl ssh {name} -c COMMAND --json")
        logins.check_running(workspace, name)
        argv = session_argv(logins.login(workspace, name), tty=tty, options=options)
        app.close()
        os.execv(argv[0], argv)  # noqa: S606  a fixed program, arguments as a list
    if app.json:
        return answer(app, _captured(workspace, name, line))
    with logins.explained(workspace, name):
        return run_session(logins.login(workspace, name), line, tty=tty, options=options)


def _ssh_words(
    words: Sequence[str], line: str | None, *, tty: bool | None
) -> tuple[str | None, str | None, bool | None, tuple[str, ...]]:
    """Machine, command, terminal and ssh's options; ours may also follow the machine's name."""
    name = None if not words or words[0].startswith("-") else words[0]
    rest = list(words if name is None else words[1:])
    while rest and rest[0] != "--":
        if rest[0] in ("-c", "--command") and len(rest) > 1:
            line, rest = rest[1], rest[2:]
        elif rest[0] in ("-t", "-T"):
            tty, rest = rest[0] == "-t", rest[1:]
        else:
            break
    return name, line, tty, tuple(rest[1:] if rest[:1] == ["--"] else rest)


def _captured(workspace: Workspace, name: str, words: str | Sequence[str]) -> Completed:
    with _link(workspace, name) as connection:
        return connection.run(words, check=False)


@contextmanager
def _link(workspace: Workspace, name: str) -> Iterator[Connection]:
    from vmctl import logins

    with logins.connect(workspace, name) as connection, logins.explained(workspace, name):
        yield connection


@command("ssh-config", query=True)
@click.argument("names", nargs=-1, metavar="[MACHINE]...", shell_complete=completion.machines)
def ssh_config(app: App, names: tuple[str, ...]) -> None:
    """Print OpenSSH configuration for machines: `vmctl ssh-config >> ~/.ssh/config`, then `ssh web`."""
    from vmctl import logins
    from vmctl.ssh import render

    workspace = app.select(names, salvage=True)
    found = [logins.login(workspace, name) for name in app.names]
    machines = {
        login.machine: {
            "host": login.address.host,
            "port": login.address.port,
            "user": login.user,
            "key": str(login.key),
            "known_hosts": str(login.known_hosts),
        }
        for login in found
    }
    app.result({"machines": machines}, render(found))


@command("exec", context_settings=PASS_ON)
@click.option(
    "--target",
    metavar="TARGET",
    shell_complete=completion.targets,
    help="On servers of this target of `remotes:`, not on machines.",
)
@click.argument("machine", shell_complete=completion.hosts)
@click.argument("argv", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- PROGRAM [ARGUMENT]...")
def exec_(app: App, machine: str, argv: tuple[str, ...], target: str | None) -> int:
    """Run a program in a machine, its arguments passed exactly; returns its status.

    MACHINE may be a glob that means several: they run it at the same time, each line of output bears the machine's
    name, and the highest status is returned.
    """
    from vmctl import logins
    from vmctl.ssh import run_session

    words = argv[1:] if argv[0] == "--" else argv
    if not words:
        raise UsageError("exec needs a program to run", hint=f"vmctl exec {machine} -- uname -a")
    if target:
        from vmctl.cli import on_servers

        return on_servers.execute(app, target, machine, words)
    workspace = app.select([machine], salvage=True)
    if len(app.names) > 1:
        return execute(app, app.names, words, partial(_link, workspace))
    (name,) = app.names
    if app.json:
        return answer(app, _captured(workspace, name, words))
    with logins.explained(workspace, name):
        return run_session(logins.login(workspace, name), shlex.join(words))
