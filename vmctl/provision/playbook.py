"""One run of ansible-playbook through ansible-runner: the only place that knows that library and its traps.

The traps: it replaces signal handlers unless it gets a ``cancel_callback``; it looks at that only each
``pexpect_timeout`` (5 s by default); cancelling kills one process group, which Ansible's workers have left; it may
call ``sys.exit``; an ``OSError`` in an event handler is swallowed, any other exception leaves ansible-playbook behind;
it turns host key checking off; it puts extra variables on the command line and its environment into a file.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vmctl import interrupt, process
from vmctl.errors import VmctlError
from vmctl.provision import leftovers, settings
from vmctl.provision.tally import Tally
from vmctl.provision.workbench import Workbench
from vmctl.store import files

POLL = 0.1  # seconds between looks at the interrupt flag
OnEvent = Callable[[Tally, Mapping[str, Any]], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """What to run, over which machines."""

    name: str
    """Names the run's private directory."""
    playbook: Path
    inventory: str
    """Text of a YAML inventory."""
    sources: tuple[Path, ...] = ()
    """Existing inventories that come before it."""
    limit: tuple[str, ...]
    """Machines; plays on localhost run as well."""
    directory: Path
    """Where ansible-playbook runs."""
    extra_vars: Mapping[str, Any] = field(default_factory=dict)
    become: bool = False
    tags: tuple[str, ...] = ()
    skip_tags: tuple[str, ...] = ()
    verbosity: int = 0
    check: bool = False
    diff: bool = False
    color: bool = False


def play(run: Run, bench: Workbench, on_event: OnEvent) -> Tally:
    """Run a playbook to its end.

    Args:
        run: what to run.
        bench: holds the run's files, until it is closed.
        on_event: hears each event of ansible-runner, with what is known by then; must be quick.

    Returns:
        What became of each host; ``counts`` is None when the playbook never started.

    Raises:
        ProgramMissing: there is no ansible-playbook.
        Interrupted: the user asked to stop; no process of the run is left.
    """
    listener = _Listener(on_event)
    runner = _runner(run, bench, listener)
    try:
        runner.run()
    except SystemExit as error:
        raise VmctlError(f"ansible-runner gave up with status {error.code}") from error
    finally:
        if listener.stop():
            leftovers.end(bench.run)
    if listener.error:
        raise listener.error
    interrupt.check()
    return listener.tally


class _Listener:
    """Hears events and is asked whether to go on; its exceptions wait until ansible-runner is done."""

    def __init__(self, on_event: OnEvent) -> None:
        self.tally = Tally()
        self.error: BaseException | None = None
        self._on_event = on_event

    def hear(self, event: Mapping[str, Any]) -> bool:
        """Take in an event; False tells ansible-runner not to keep it in a file."""
        try:
            self.tally.add(event)
            self._on_event(self.tally, event)
        except BaseException as error:  # noqa: BLE001  raised again by `play`; in here it would be swallowed
            self.error = self.error or error
        return False

    def stop(self) -> bool:
        """Whether to end the run."""
        return interrupt.requested() or self.error is not None


def _runner(run: Run, bench: Workbench, listener: _Listener) -> Any:
    program = settings.playbook_program()
    private = bench.directory(run.name)
    inventory = private / "inventory.yml"
    files.write(inventory, run.inventory)
    if run.extra_vars:
        # A file, for what is on a command line everybody can see.
        files.write_json(private / "env" / "extravars", _jsonable(run.extra_vars))

    import ansible_runner

    runner = ansible_runner.interface.init_runner(
        private_data_dir=str(private),
        project_dir=str(run.directory),
        playbook=str(run.playbook),
        inventory=[*map(str, run.sources), str(inventory)],
        limit=",".join([*run.limit, "localhost"]),
        cmdline=_arguments(run),
        verbosity=run.verbosity,
        envvars=_environment(run, bench),
        settings={"pexpect_timeout": POLL, "suppress_output_file": True, "suppress_ansible_output": True},
        fact_cache_type="",
        event_handler=listener.hear,
        cancel_callback=listener.stop,
    )
    runner.config.command[0] = program
    return runner


def _arguments(run: Run) -> str:
    """Options that may be empty, one or many; a word with spaces or quotes stays one word."""
    words = ["--become"] if run.become else []
    words += [option for option, wanted in (("--check", run.check), ("--diff", run.diff)) if wanted]
    words += ["--tags", ",".join(run.tags)] if run.tags else []
    words += ["--skip-tags", ",".join(run.skip_tags)] if run.skip_tags else []
    return shlex.join(words)


def _environment(run: Run, bench: Workbench) -> dict[str, str]:
    told = settings.environment(run.directory, hosts=len(run.limit), color=run.color, sockets=bench.sockets)
    return {**told, leftovers.VARIABLE: bench.run}


def _jsonable(value: Any) -> Any:
    """YAML data as JSON data: dates become text, keys too."""
    if hasattr(value, "items"):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(item) for item in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def matches_any(run: Run, bench: Workbench) -> bool:
    """Whether the playbook has a host to work on in the whole inventory, without the limit."""
    inventories = [*run.sources, bench.root / run.name / "inventory.yml"]
    argv = [settings.playbook_program(), *(word for path in inventories for word in ("-i", str(path))), "--list-hosts"]
    done = process.run([*argv, str(run.playbook)], check=False, cwd=run.directory, env=_environment(run, bench))
    counts = [line.partition("hosts (")[2].partition(")")[0] for line in done.stdout.splitlines()]
    return any(count.isdigit() and int(count) for count in counts)
