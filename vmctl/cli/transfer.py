"""`vmctl upload` and `sync`: files from the host into machines."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vmctl.cli import completion
from vmctl.cli.app import App, command
from vmctl.cli.fan_out import AT_ONCE
from vmctl.cli.guest_commands import only_machine
from vmctl.cli.shared_options import FromDirectory
from vmctl.errors import Interrupted, Unreachable, UsageError, VmctlError, shell_command
from vmctl.events import Warned

if TYPE_CHECKING:
    from vmctl.ssh import Connection
    from vmctl.workspace import Workspace

SSH_FAILED = 255


@command()
@click.argument("source", type=FromDirectory())
@click.argument("target", default=".", metavar="[TARGET]")
@click.argument("machine", required=False, shell_complete=completion.machines)
def upload(app: App, source: Path, target: str, machine: str | None) -> None:
    """Copy a file or directory into a machine; TARGET is relative to the login user's home, which is the default."""
    from vmctl import logins, process
    from vmctl.provision import copyable

    workspace, name = only_machine(app, machine)
    with logins.explained(workspace, name), copyable.copyable(source.absolute()) as (tree, contents):
        for path, why in contents.skipped.items():
            app.report(Warned(machine=name, text=f"{path} is left out: {why}"))
        login = logins.login(workspace, name)
        scp = process.find("scp", package="openssh-client")
        words = [scp, "-F", str(login.config), "-r", "-p", "-q", "--", str(tree), f"{name}:{target}"]
        completed = process.run(words, check=False)
        if completed.status == SSH_FAILED:
            raise Unreachable(f"machine {name} could not be reached", details=completed.stderr.strip())
        if completed.status:
            raise process.CommandFailed(completed, hint=shell_command("vmctl", "ssh", name, "-c", f"ls -ld {target}"))
    app.done({"machine": name, "source": str(source), "target": target}, f"{source} -> {name}:{target}")


@command()
@click.argument("names", nargs=-1, metavar="[MACHINE]...", shell_complete=completion.machines)
@click.option("--watch", is_flag=True, help="Keep watching and send changes as they happen, until Ctrl-C.")
def sync(app: App, names: tuple[str, ...], *, watch: bool) -> None:
    """Send the folders that are copied by rsync again, and mount live ones that are not mounted; -v lists files.

    What the guest made in a folder stays; only what an earlier copy sent and the host has removed is removed.
    """
    workspace = app.select(names)
    machines = [_Synced(app, workspace, name) for name in app.names]
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="vmctl") as pool:
        kinds = dict(zip(app.names, pool.map(_Synced.once, machines), strict=True))
        if watch:
            _require_copies(kinds)
            list(pool.map(_Synced.watch, machines))
    app.done({"machines": kinds}, "\n".join(f"{name}: {_text(kind)}" for name, kind in kinds.items()))


def _require_copies(kinds: dict[str, dict[str, str]]) -> None:
    if not any("rsync" in kind.values() for kind in kinds.values()):
        raise UsageError("nothing to watch: every folder is live in the guest already")


def _text(kinds: dict[str, str]) -> str:
    return ", ".join(f"{guest} ({kind})" for guest, kind in kinds.items()) or "no folders"


@dataclass
class _Synced:
    """One machine's folders; keeps its connection from one copy to the next."""

    app: App
    workspace: Workspace
    name: str
    kinds: dict[str, str] | None = None
    _connection: Connection | None = None

    def once(self) -> dict[str, str]:
        """Bring all folders up to date; how each is shared."""
        from vmctl import logins

        with logins.explained(self.workspace, self.name):
            self._attach()
        return self.kinds or {}

    def watch(self) -> None:
        """Go on doing so for the folders that are copies; ends by an exception."""
        from vmctl import folders
        from vmctl.workspace import require_known

        spec = require_known(self.workspace.survey([self.name])[0])
        copies = [folder for folder in spec.folders if (self.kinds or {}).get(folder.guest) == "rsync"]
        try:
            if copies:
                folders.watch(self.name, copies, self._attach, self.app.report)
        except VmctlError as error:
            if not isinstance(error, Interrupted):  # told now: other machines may go on for long
                self.app.report(Warned(machine=self.name, text=error.brief, hint=error.hint))
            raise

    def _attach(self) -> None:
        from vmctl import folders, logins
        from vmctl.powers import features_of
        from vmctl.workspace import require_known

        (machine,) = self.workspace.survey([self.name])
        spec, login = require_known(machine), logins.login(self.workspace, self.name)
        features = features_of(self.workspace.driver(machine.provider), spec)
        shares = folders.shares(spec, features, user_uid=machine.record.uid if machine.record else None)
        report, listing = self.app.report, self.app.verbosity > 0
        self.kinds = self._connected(
            lambda connection: folders.attach(
                connection, spec, shares, features=features, login=login, report=report, listing=listing
            )
        )

    def _connected(self, use: Callable[[Connection], dict[str, str]]) -> dict[str, str]:
        from vmctl import logins

        if self._connection is None:
            self._connection = logins.connect(self.workspace, self.name)
        try:
            return use(self._connection)
        except Unreachable:
            self._connection.close()
            self._connection = None
            raise
