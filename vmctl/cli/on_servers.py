"""What commands with ``--target`` share: the servers that are meant, and the question before they are changed."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from vmctl import terminal
from vmctl.cli import fan_out
from vmctl.cli.app import App
from vmctl.errors import UsageError
from vmctl.events import Warned

if TYPE_CHECKING:
    from vmctl.process import Completed
    from vmctl.provision.passwords import Passwords
    from vmctl.provision.summary import Summary
    from vmctl.provision.target import Mode
    from vmctl.remotes.hosts import RemoteHost, ServerInventory
    from vmctl.spec import Remote

SSH_FAILED = 255  # ssh's own status when it could not connect; a remote command may end with it too
MANY = 8  # names that a question still holds


def inventory_of(app: App, target: str, passwords: Passwords | None = None) -> ServerInventory:
    """The servers of a target."""
    from vmctl.remotes import server_inventory

    found = server_inventory.load(app.project, server_inventory.find(app.project, target), passwords)
    for text in found.warnings:
        app.report(Warned(text=f"the inventory of {target}: {text}"))
    return found


def chosen(
    app: App, target: str, patterns: Sequence[str], passwords: Passwords | None = None
) -> tuple[ServerInventory, tuple[RemoteHost, ...]]:
    """The servers that patterns mean, all without any."""
    from vmctl.remotes import hosts

    known = inventory_of(app, target, passwords)
    return known, hosts.select(known, patterns)


def only_server(app: App, target: str, name: str | None) -> RemoteHost:
    """The one server that a command is about.

    Raises:
        UsageError: the name means several, or there are several to choose from.
    """
    _, hosts = chosen(app, target, [name] if name else [])
    if len(hosts) != 1:
        raise UsageError("which server?", hint=f"name one of: {', '.join(host.name for host in hosts)}")
    return hosts[0]


def confirm(app: App, remote: Remote, question: str, *, yes: bool, named: str | None) -> None:
    """Have somebody agree to change servers.

    Raises:
        UsageError: nobody can be asked, or the name is another one; the error names the option that answers.
        Abort: the answer is no.
    """
    if named is not None and named != remote.name:
        raise UsageError(f"--confirm {named}: the target is {remote.name}", hint=f"add --confirm {remote.name}")
    if named is not None or (yes and remote.confirm == "ask"):
        return
    if remote.confirm == "ask":
        app.confirm(question, flag="--yes")
        return
    if app.json or not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(
            f"cannot ask for confirmation without a terminal: {question}",
            details="Its `confirm: name` wants the target's name.",
            hint=f"add --confirm {remote.name}",
        )
    app.close()
    asked = terminal.harmless(f"{question} Type the target's name to go on")
    answer = click.prompt(asked, default="", show_default=False, err=True)
    if answer != remote.name:
        raise click.Abort


def provision(
    app: App,
    target: str,
    patterns: Sequence[str],
    *,
    only: Sequence[str],
    mode: Mode,
    start: str = "",
    yes: bool = False,
    named: str | None = None,
) -> Summary:
    """Provision servers, after asking.

    Raises:
        TasksFailed, MachinesUnreachable: as ``vmctl.provision.run``; ``summary`` says what became of each server.
    """
    from vmctl.provision.passwords import Passwords
    from vmctl.provision.summary import Summary
    from vmctl.remotes import server_hosts

    passwords = Passwords()
    server_inventory, hosts = chosen(app, target, patterns, passwords)
    host_set = server_hosts.ServerHosts(app.project, server_inventory)
    work = server_hosts.planned(host_set, hosts, only, start)
    if not work:
        return Summary({})
    if not mode.check:
        confirm(app, server_inventory.remote, _question(work, target), yes=yes, named=named)
    wanted = [host for host in hosts if host.name in work]
    return server_hosts.run(app.workspace, host_set, wanted, only=only, mode=mode, start=start, passwords=passwords)


def _question(work: dict[str, list[str]], target: str) -> str:
    items = list(dict.fromkeys(name for names in work.values() for name in names))
    names = ", ".join(work) if len(work) <= MANY else f"{len(work)} servers"
    return f"Run {', '.join(items)} on {names} of {target}?"


def ssh(app: App, target: str, name: str | None, line: str | None, *, tty: bool | None, options: Sequence[str]) -> int:
    """A shell on a server, or a command there."""
    from vmctl import process
    from vmctl.ssh import server_options
    from vmctl.ssh.openssh import OpenSsh

    host = only_server(app, target, name)
    destination = host.reached()
    if app.json:
        if line is None:
            hint = f"vmctl ssh --target {target} {host.name} -c COMMAND --json"
            raise UsageError("an interactive shell has no JSON answer", hint=hint)
        return fan_out.answer(app, _captured(host, line))
    terminal = [] if tty is None else ["-t" if tty else "-T"]
    argv = destination.argv(server_options.STRICT if line is None else server_options.TYPED, *terminal, *options)
    if line is None:
        app.close()
        os.execv(argv[0], argv)  # noqa: S606  a fixed program, arguments as a list
    status = process.foreground([*argv, line])
    if status == SSH_FAILED:
        OpenSsh.connect(destination).close()  # was that ssh or the command? whoever can log in now could log in then
    return status if status >= 0 else 128 - status


def execute(app: App, target: str, name: str, words: Sequence[str]) -> int:
    """Run a program on one server or on several."""
    _, hosts = chosen(app, target, [name])
    if len(hosts) == 1 and not app.json:
        return ssh(app, target, hosts[0].name, shlex.join(words), tty=None, options=())
    if len(hosts) == 1:
        return fan_out.answer(app, _captured(hosts[0], words))

    from vmctl.ssh.openssh import OpenSsh

    by_name = {host.name: host for host in hosts}
    return fan_out.execute(app, list(by_name), words, lambda name: OpenSsh.connect(by_name[name].reached()))


def _captured(host: RemoteHost, words: str | Sequence[str]) -> Completed:
    from vmctl.ssh.openssh import OpenSsh

    with OpenSsh.connect(host.reached()) as link:
        return link.run(words, check=False)
