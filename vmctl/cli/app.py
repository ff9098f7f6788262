"""What every command shares: options, the project, the console, and the one place where errors become exit codes.

A command is written as::

    @command()                                    # adds --json, passes the App
    @click.argument("names", nargs=-1)
    def halt(app: App, names: tuple[str, ...]) -> int | None:
        '''Shut machines down.'''
        ...
        app.report(event)                         # while working
        app.result({"machines": [...]}, "text")   # at the end: JSON object or text on stdout
        return 0                                  # exit code; None = 0
"""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from vmctl import terminal
from vmctl.console import Console
from vmctl.errors import UsageError, VmctlError
from vmctl.events import Event, Warned
from vmctl.layout import VMFILE, HomeLayout, home
from vmctl.user_environment import expanded, in_working_directory, require_text, working_directory

if TYPE_CHECKING:
    from vmctl.spec import BoxRef, Project
    from vmctl.vmfile import VmfileInvalid
    from vmctl.workspace import Workspace

logger = logging.getLogger(__name__)


@dataclass
class App:
    """One invocation of vmctl."""

    console: Console = field(default_factory=Console)
    directory: Path = field(default_factory=working_directory)
    vmfile: Path | None = None
    overrides: Mapping[str, str] = field(default_factory=dict)
    lock_timeout: float | None = None
    verbosity: int = 0
    locked: bool = False
    """Whether the boxes are those of ``Vmfile.lock``; set before the project is first asked for."""
    alias: bool = False
    """Whether vmctl's table of aliases counts for all machines (``--alias``); set as ``locked`` is."""
    salvage: bool = False
    """Whether the command can do without a valid Vmfile, where machines are recorded; set as ``locked`` is."""
    names: tuple[str, ...] = ()
    """The machines that the command is about, once ``select`` was called."""

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> App:
        """Make sense of the global options."""
        directory = in_working_directory(expanded(options["directory"] or "."))
        if not directory.is_dir():
            raise UsageError(f"there is no directory {directory}")
        vmfile = options["vmfile"]
        for path in (directory, vmfile or "", home()):
            require_text(path)
        return cls(
            console=Console(verbosity=options["verbose"], quiet=options["quiet"], color=options["color"]),
            directory=directory,
            vmfile=directory / expanded(vmfile) if vmfile else None,
            overrides=_overrides(options["sets"]),
            lock_timeout=options["lock_timeout"],
            verbosity=options["verbose"],
        )

    def adjust(self, *, as_json: bool, more: int, less: bool, patience: float | None) -> None:
        """Apply the options that stand behind the command's name."""
        self.console.json = self.console.json or as_json
        self.console.quiet = self.console.quiet or less
        self.console.verbosity = self.verbosity = self.verbosity + more
        self.lock_timeout = self.lock_timeout if patience is None else patience

    @property
    def json(self) -> bool:
        """Whether the answer goes to a program."""
        return self.console.json

    def report(self, event: Event) -> None:
        """Show an event."""
        self.console.report(event)

    def result(self, data: Mapping[str, Any], text: str = "") -> None:
        """Show the command's answer: ``data`` with --json, else ``text``."""
        self.console.result(data, text)

    def done(self, data: Mapping[str, Any], text: str = "") -> None:
        """Show what an action did: its last JSON line, or ``text``."""
        self.console.result({"event": "result", **data}, text)

    def confirm(self, question: str, *, flag: str) -> None:
        """Ask; anything but yes ends the command.

        Raises:
            UsageError: nobody can be asked (no terminal, or --json); the error names the flag that answers.
        """
        if self.json or not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise UsageError(f"cannot ask for confirmation without a terminal: {question}", hint=f"add {flag}")
        self.console.close()
        click.confirm(terminal.harmless(question), abort=True, err=True)

    def select(
        self, wanted: Sequence[str], *, orphans: bool = False, salvage: bool = False, rising: bool = False
    ) -> Workspace:
        """The workspace that ``wanted`` (names, globs, or one id from `vmctl list`) is about; sets ``names``.

        Args:
            wanted: nothing = all machines.
            rising: the command brings machines up: nothing wanted = those that start by themselves.
            orphans: also machines that still exist but are no longer in the Vmfile.
            salvage: where the Vmfile is invalid, warn and go on with the machines that were created.
        """
        self.salvage = salvage
        if len(wanted) == 1 and (elsewhere := self._elsewhere(wanted[0])):
            root, name = elsewhere
            self.directory, self.vmfile = root, root / VMFILE  # never one of a directory above
            self.__dict__.pop("project", None)
            wanted = (name,)
        self._refuse_servers(wanted)
        self.names = self.workspace.all_names(wanted) if orphans else self.workspace.names(wanted)
        if rising and not wanted:
            self.names = self.workspace.default_names()
        return self.workspace

    def _refuse_servers(self, wanted: Sequence[str]) -> None:
        """Say of servers what they are, where a command is about machines.

        Raises:
            UsageError: a name is a target's or a server's, or the Vmfile has servers alone.
        """
        remotes = self.workspace.project.remotes
        known = self.workspace.all_names() if remotes else ()
        for remote in remotes:
            for name in set(wanted) - set(known):
                if name == remote.name or any(name == server.name for server in remote.servers):
                    what = "a target of" if name == remote.name else f"a server of {remote.name}, below"
                    raise UsageError(
                        f"'{name}' is {what} `remotes:`, not a machine",
                        details="vmctl provisions servers and logs in; it never makes, stops or removes them.",
                        hint=f"vmctl provision --target {remote.name}",
                    )
        if remotes and not known:
            hint = f"vmctl provision --target {remotes[0].name}"
            raise UsageError("the Vmfile has servers (`remotes:`) and no machines", hint=hint)

    def _elsewhere(self, wanted: str) -> tuple[Path, str] | None:
        from vmctl import machine_names

        try:
            if wanted in self.workspace.all_names():
                return None
        except VmctlError:
            self.__dict__.pop("workspace", None)
        found = machine_names.find_by_id(self.home, wanted)
        if found:
            self.__dict__.pop("workspace", None)
        return found

    def reload(self) -> Project:
        """Read the Vmfile again."""
        self.__dict__.pop("project", None)
        return self.project

    def vmfile_path(self) -> Path:
        """The Vmfile in force: the option, else searched upward from the directory. One directory has one spelling."""
        from vmctl import vmfile

        path = self.vmfile or vmfile.find(self.directory)
        return path.parent.resolve() / path.name

    @functools.cached_property
    def project(self) -> Project:
        """The Vmfile, loaded and checked."""
        from vmctl.vmfile import VmfileInvalid

        path = self.vmfile_path()
        try:
            return self._load(path)
        except VmfileInvalid as error:
            project = self._salvaged(path, error) if self.salvage else None
            if project is None:
                raise
            return project

    def _salvaged(self, path: Path, error: VmfileInvalid) -> Project | None:
        """The machines that were created, in place of a Vmfile that cannot be obeyed."""
        from vmctl.vmfile.variables import OPTION
        from vmctl.workspace import from_records

        project = from_records(path, self.home)
        if not project.machines or any(fault.place.file.startswith(OPTION) for fault in error.faults):
            return None
        text = f"{error.brief}; going on with the machines that were created"
        self.report(Warned(text=text, hint="vmctl validate"))
        return project

    def with_box(self, box: BoxRef | None) -> Project:
        """The Vmfile read again, with another box for all machines where one is given."""
        return self._load(self.vmfile_path(), box)

    def _load(self, path: Path, box: BoxRef | None = None) -> Project:
        from vmctl import vmfile
        from vmctl.boxes import box_defaults

        defaults = box_defaults(self.home)
        if not self.locked:
            return vmfile.load(
                path, overrides=self.overrides, box_defaults=defaults, box=box, alias=self.alias
            )  # fmt: skip
        from vmctl.boxes import locking

        lock = locking.read(locking.path_for(path))
        loaded = vmfile.load(
            path, overrides=self.overrides, box_defaults=lambda ref: defaults(locking.pinned(ref, lock)), box=box,
            alias=self.alias,
        )  # fmt: skip
        return locking.pin(loaded, lock)

    @functools.cached_property
    def workspace(self) -> Workspace:
        """The project with its records and drivers."""
        from vmctl.workspace import Workspace

        return Workspace(self.project, home=self.home, report=self.report, lock_timeout=self.lock_timeout)

    @functools.cached_property
    def home(self) -> HomeLayout:
        """The data directory of vmctl."""
        return HomeLayout(home())

    def close(self) -> None:
        """End the live display."""
        self.console.close()


def _overrides(sets: Sequence[str]) -> dict[str, str]:
    pairs = [item.partition("=") for item in sets]
    if bad := [key for key, equals, _ in pairs if not equals or not key]:
        raise UsageError(f"--set {bad[0]}: expected KEY=VALUE", hint="vmctl --set app_port=8080 up")
    return {key: value for key, _, value in pairs}


class Subcommands(click.Group):
    """A group whose --help tells what each of its commands does in full, where click would cut it off."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the summaries, wrapped."""
        found = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl([(name, one.get_short_help_str(limit=sys.maxsize)) for name, one in found if one])


def command(
    name: str | None = None, *, query: bool = False, **attributes: Any
) -> Callable[[Callable[..., int | None]], click.Command]:
    """Make a click command that is called with the ``App`` first.

    A ``query`` only tells: with --json it prints one object and nothing else.
    It takes ``--json``; and ``-v``, ``-q`` and ``--lock-timeout`` may follow the command as well as precede it.
    """

    def decorate(function: Callable[..., int | None]) -> click.Command:
        @click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")
        @click.option("-v", "--verbose", "more", count=True, hidden=True)
        @click.option("-q", "--quiet", "less", is_flag=True, hidden=True)
        @click.option("--lock-timeout", "patience", type=click.FloatRange(min=0), hidden=True)
        @click.pass_obj
        @functools.wraps(function)
        def call(app: App, /, *args: Any, **kwargs: Any) -> int | None:
            app.console.query = query
            app.adjust(**{name: kwargs.pop(name) for name in ("as_json", "more", "less", "patience")})
            return function(app, *args, **kwargs)

        made = cast("Callable[[Any], click.Command]", click.command(name, **attributes))
        return made(call)

    return decorate
