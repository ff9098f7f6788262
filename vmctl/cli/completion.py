"""Completion of names in bash, zsh and fish: what arguments and options can mean here, and the script for a shell.

The shell runs vmctl at each press of the key, so a completion only reads: the Vmfile, the store of boxes, and for
snapshots the hypervisor. It never says why there is nothing: a message would land in the line that is being typed.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import click

from vmctl.cli.app import App, command
from vmctl.errors import VmctlError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from vmctl.spec import Project

VARIABLE = "_VMCTL_COMPLETE"
"""The environment variable by which the shell's script asks (click's mechanism)."""
SHELLS = ("bash", "zsh", "fish")
FISH_FORGET = "complete --erase --command vmctl\n"
"""fish comes with completions for OpenBSD's program of the same name."""
Complete = Callable[[click.Context, click.Parameter, str], "list[CompletionItem]"]


@command("completion", query=True)
@click.argument("shell", type=click.Choice(SHELLS))
def completion(app: App, shell: str) -> None:
    """Print the script that makes a shell complete vmctl's commands, options and names.

    bash: eval "$(vmctl completion bash)" in ~/.bashrc; zsh: the same in ~/.zshrc;
    fish: vmctl completion fish > ~/.config/fish/completions/vmctl.fish
    """
    from click.shell_completion import BashComplete, FishComplete, ZshComplete

    from vmctl.cli.root import cli

    made = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}[shell](cli, {}, "vmctl", VARIABLE)
    script = made.source_template % made.source_vars()  # source() would run the shell to learn its version
    if shell == "fish":
        script = FISH_FORGET + script
    app.result({"shell": shell, "script": script}, script.rstrip("\n"))


def _completes(find: Callable[[App, click.Context], Iterable[str]]) -> Complete:
    """The names that ``find`` knows and that begin with what was typed, without those on the line already."""

    @functools.wraps(find)
    def complete(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        written = context.params.get(parameter.name or "") or ()
        used: Sequence[str] = written if isinstance(written, tuple) else ()
        try:
            names = list(find(App.from_options(context.find_root().params), context))
        except (VmctlError, OSError, click.ClickException):
            return []
        return [
            CompletionItem(name) for name in dict.fromkeys(names) if name.startswith(incomplete) and name not in used
        ]

    return complete


def _project(app: App) -> Project:
    app.salvage = True
    return app.project


@_completes
def machines(app: App, _context: click.Context) -> Iterable[str]:
    """Machines of the Vmfile, and those that have left it but still exist."""
    _project(app)
    return app.workspace.all_names()


def _hosts(app: App, context: click.Context) -> Iterable[str]:
    target = context.params.get("target")
    if not target:
        _project(app)
        return app.workspace.all_names()
    return [server.name for remote in _project(app).remotes if remote.name == target for server in remote.servers]


@_completes
def hosts(app: App, context: click.Context) -> Iterable[str]:
    """The servers of ``--target``, else machines."""
    return _hosts(app, context)


@_completes
def first_word(app: App, context: click.Context) -> Iterable[str]:
    """As ``hosts``, for the one name with which a line of words begins."""
    return [] if context.params.get("words") else _hosts(app, context)


@_completes
def targets(app: App, _context: click.Context) -> Iterable[str]:
    """The targets of ``remotes:``."""
    return [remote.name for remote in _project(app).remotes]


@_completes
def provisioners(app: App, _context: click.Context) -> Iterable[str]:
    """The provisioners of all machines and servers."""
    project = _project(app)
    return [item.name for item in (*project.provisioners, *(each.provisioner for each in project.for_servers))]


@_completes
def snapshots(app: App, _context: click.Context) -> Iterable[str]:
    """The snapshots of the project's machines; the hypervisor is asked."""
    from vmctl.lifecycle import snapshot_commands

    _project(app)
    found = snapshot_commands.listing(app.workspace, app.workspace.all_names())
    return [snapshot.name for kept in found.values() for snapshot in kept]


@_completes
def boxes(app: App, _context: click.Context) -> Iterable[str]:
    """The boxes in the store."""
    from vmctl.boxes.box_store import BoxStore

    return BoxStore(app.home).names()


@_completes
def known_boxes(app: App, _context: click.Context) -> Iterable[str]:
    """The boxes in the store, and those that vmctl knows how to fetch or build."""
    from vmctl.boxes import builtin, recipe
    from vmctl.boxes.box_store import BoxStore

    return sorted({*BoxStore(app.home).names(), *recipe.names(), *builtin.entries()})


@_completes
def recipes(_app: App, _context: click.Context) -> Iterable[str]:
    """The boxes that vmctl knows how to build."""
    from vmctl.boxes import recipe

    return recipe.names()


@_completes
def providers(_app: App, _context: click.Context) -> Iterable[str]:
    """The providers that are installed."""
    from vmctl import registry

    return registry.names()
