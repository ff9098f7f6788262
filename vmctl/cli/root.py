"""The ``vmctl`` command group: which module holds which command, so that only that one is imported."""

from __future__ import annotations

import importlib
from typing import Any

import click

from vmctl import __version__

SUMMARIES: dict[str, tuple[str, str, str]] = {
    # command: (module, attribute, summary for --help)
    "init": ("vmfile_commands", "init", "Write a Vmfile in this directory."),
    "up": ("up_command", "up", "Create, start, share folders with and provision machines."),
    "halt": ("power", "halt", "Shut machines down."),
    "suspend": ("power", "suspend", "Save machines' memory to disk and stop them."),
    "resume": ("power", "resume", "Continue suspended machines."),
    "reload": ("power", "reload", "Restart machines and apply changes to the Vmfile."),
    "destroy": ("destroy", "destroy", "Remove machines and everything vmctl made for them."),
    "status": ("status", "status", "Show this project's machines."),
    "list": ("list", "list_", "Show all machines of all projects."),
    "plan": ("up_command", "plan", "Show what `up` would do."),
    "snapshot": ("snapshot", "snapshot", "Save machines' states by name, and restore them."),
    "ssh": ("guest_commands", "ssh", "Open a shell in a machine, or run a command there."),
    "ssh-config": ("guest_commands", "ssh_config", "Print OpenSSH configuration for machines."),
    "exec": ("guest_commands", "exec_", "Run a program in machines, arguments passed exactly."),
    "upload": ("transfer", "upload", "Copy a file or directory into a machine."),
    "sync": ("transfer", "sync", "Send rsync folders again, once or at every change."),
    "logs": ("logs", "logs", "Show a machine's serial console output."),
    "port": ("status", "port", "Show forwarded ports."),
    "provision": ("provision", "provision", "Run provisioners on running machines."),
    "test": (
        "test_command",
        "test",
        "Try the project on machines of their own: up, idempotence, reboot, verify.",
    ),
    "drift": ("provision", "drift", "Show which hosts differ from what the playbooks say."),
    "history": ("history_command", "history", "Show what provisioning ran where, and with what result."),
    "inventory": ("inventory_command", "inventory", "Show the Ansible inventory, or install it as a script."),
    "box": ("box_commands", "box", "Manage base boxes."),
    "cache": (
        "cache_command",
        "cache",
        "Show and remove what is kept for machines to come: layers, memory, copies of boxes.",
    ),
    "package": ("package", "package", "Make a box from a halted machine."),
    "adopt": (
        "vmfile_commands",
        "adopt",
        "Make this directory the project that it was before it was restored or cloned again.",
    ),
    "validate": ("vmfile_commands", "validate", "Check the Vmfile."),
    "config": ("vmfile_commands", "config", "Show the effective configuration."),
    "completion": ("completion", "completion", "Print the completion script for a shell."),
    "schema": ("vmfile_commands", "schema", "Print the Vmfile's JSON Schema."),
}


class LazyGroup(click.Group):
    """A group that imports a command's module only when that command runs."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  click's signature
        """All commands, in the order of a machine's life."""
        return list(SUMMARIES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  as above
        """Import and return one command."""
        entry = SUMMARIES.get(cmd_name)
        if entry is None:
            return None
        module, attribute, _ = entry
        command: click.Command = getattr(importlib.import_module(f"vmctl.cli.{module}"), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click's; Vagrant's words are taken or answered with ours, misspelt commands with a suggestion."""
        from vmctl.cli import vagrant_words

        if refused := vagrant_words.refusal(args):
            from vmctl.errors import UsageError

            raise UsageError(refused[0], hint=refused[1])
        try:
            return super().resolve_command(ctx, vagrant_words.translated(args))
        except click.UsageError as error:
            from vmctl.errors import suggest

            raise click.UsageError(f"there is no command '{args[0]}'{suggest(args[0], SUMMARIES)}", ctx) from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  as above
        """Write the summaries without importing any command."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, _, summary) in SUMMARIES.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, "--version", prog_name="vmctl")
@click.option("-C", "--directory", metavar="DIR", help="Run as if started in DIR.")
@click.option("-f", "--vmfile", metavar="FILE", envvar="VMCTL_VMFILE", help="Use this Vmfile.")
@click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="Override a variable of `vars:`.")
@click.option(
    "--lock-timeout",
    type=click.FloatRange(min=0),
    default=None,
    metavar="SECONDS",
    help="How long to wait for another vmctl (default: forever).",
)
@click.option("-v", "--verbose", count=True, help="Show completed steps and how long they took.")
@click.option("-q", "--quiet", is_flag=True, help="Print results and errors only.")
@click.option("--color/--no-color", default=None, help="Force colours on or off.")
@click.pass_context
def cli(ctx: click.Context, /, **options: Any) -> None:
    """Declare virtual machines in a Vmfile; bring them up, shared and provisioned."""
    from vmctl.cli.app import App

    ctx.obj = App.from_options(options)
    ctx.call_on_close(ctx.obj.close)
