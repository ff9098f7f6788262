"""One run of ansible-playbook through ansible-runner: the only place that knows that library and its traps.

The traps: it replaces signal handlers unless it gets a ``cancel_callback``; it looks at that only each
``pexpect_timeout`` (5 s by default); cancelling kills one process group, which Ansible's workers have left; it may
call ``sys.exit``; an ``OSError`` in an event handler is swallowed, any other exception leaves ansible-playbook behind;
it turns host key checking off; it puts extra variables on the command line and its environment into a file.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vmctl import interrupt, process
from vmctl.errors import VmctlError
from vmctl.provision import leftovers, passwords, settings
from vmctl.provision.tally import Tally
from vmctl.provision.workbench import Workbench
from vmctl.store import files

INVENTORY, TARGETS = "inventory.yml", "targets.json"
GROUP = "vmctl_targets"  # of the hosts that a run with a limit is about
EXTRA_VARS = Path("env", "extravars")  # where ansible-runner looks for them
ENVIRONMENT = Path("env", "envvars")  # where it keeps them
POLL = 0.1  # seconds between looks at the interrupt flag
OnEvent = Callable[[Tally, Mapping[str, Any]], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """What to run, over which machines."""

    name: str
    """Names the run's private directory."""
    playbooks: tuple[Path, ...]
    inventory: str
    """Text of a YAML inventory."""
    sources: tuple[Path, ...] = ()
    """Existing inventories that come before it."""
    targets: tuple[str, ...]
    """Hosts to work on; plays on localhost run as well, unless there is a limit."""
    limit: str = ""
    """Ansible's pattern; only those of the targets that match it."""
    interpreter: str = ""
    """The targets' Python; "" = whichever Ansible finds."""
    directory: Path
    """Where ansible-playbook runs."""
    words: tuple[str, ...] = ()
    """Further words of the command line."""
    passwords: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Further words, each completed by a file with that password."""
    extra_vars: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    program: str = ""
    """As the Vmfile names it."""
    content: Path | None = None
    """Directory with roles and collections that were installed for the run."""
    verbosity: int = 0
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
    private = bench.directory(run.name)
    listener = _Listener(on_event, private)
    with passwords.told(run.passwords, bench.sockets) as secret_words:
        runner = _runner(run, bench, private, listener, secret_words)
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

    def __init__(self, on_event: OnEvent, private: Path) -> None:
        self.tally = Tally()
        self.error: BaseException | None = None
        self._on_event = on_event
        self._private = private

    def hear(self, event: Mapping[str, Any]) -> bool:
        """Take in an event; False tells ansible-runner not to keep it in a file."""
        try:
            if event.get("event") == "playbook_on_start":
                (self._private / EXTRA_VARS).unlink(missing_ok=True)  # Ansible has read it
            elif event.get("event") == "playbook_on_vars_prompt":
                name = (event.get("event_data") or {}).get("varname", "?")
                raise VmctlError(  # noqa: TRY301  where Ansible waits for an answer, nobody gives one
                    f"the playbook asks for the variable '{name}' (vars_prompt)",
                    hint="set it in the Vmfile: extra_vars",
                )
            self.tally.add(event)
            self._on_event(self.tally, event)
        except BaseException as error:  # noqa: BLE001  raised again by `play`; in here it would be swallowed
            self.error = self.error or error
        return False

    def status(self, status: Mapping[str, Any], runner_config: Any) -> None:
        """Remove what ansible-runner has written of the environment, which may hold secrets."""
        if status.get("status") == "running":
            (Path(runner_config.artifact_dir) / "command").unlink(missing_ok=True)
            (self._private / ENVIRONMENT).unlink(missing_ok=True)

    def stop(self) -> bool:
        """Whether to end the run."""
        return interrupt.requested() or self.error is not None


def _runner(run: Run, bench: Workbench, private: Path, listener: _Listener, secret_words: Sequence[str]) -> Any:
    program = settings.playbook_program(run.program, run.directory)
    files.write(private / INVENTORY, run.inventory)
    if run.limit or run.interpreter:
        files.write_json(private / TARGETS, _targets(run))
    if run.extra_vars:
        # A file, for what is on a command line everybody can see.
        files.write_json(private / EXTRA_VARS, jsonable(run.extra_vars))

    import ansible_runner

    runner = ansible_runner.interface.init_runner(
        private_data_dir=str(private),
        project_dir=str(run.directory),
        playbook=str(run.playbooks[0]),
        inventory=_inventories(run, private),
        limit=f"{run.limit}:&{GROUP}" if run.limit else ",".join([*run.targets, "localhost"]),
        cmdline=shlex.join([*run.words, *secret_words]),
        verbosity=run.verbosity,
        envvars=_environment(run, bench),
        settings={"pexpect_timeout": POLL, "suppress_output_file": True, "suppress_ansible_output": True},
        fact_cache_type="",
        event_handler=listener.hear,
        cancel_callback=listener.stop,
        status_handler=listener.status,
    )
    for name in process.OF_ONE_REPOSITORY - run.environment.keys():  # it has copied all of ours
        runner.config.env.pop(name, None)
    runner.config.command[0] = program
    runner.config.command += [str(path) for path in run.playbooks[1:]]
    return runner


def _inventories(run: Run, private: Path) -> list[str]:
    own = [path for path in (private / INVENTORY, private / TARGETS) if path.exists()]
    return [str(path) for path in (*run.sources, *own)]


def _targets(run: Run) -> dict[str, Any]:
    """An inventory that says which hosts the run is about, whatever else names them."""
    variables = {"ansible_python_interpreter": run.interpreter} if run.interpreter else {}
    return {GROUP: {"hosts": dict.fromkeys(run.targets, variables)}}


def _environment(run: Run, bench: Workbench) -> dict[str, str]:
    told = settings.environment(
        run.directory,
        hosts=len(run.targets),
        color=run.color,
        sockets=bench.sockets,
        own=run.environment,
        content=run.content,
    )
    return {**told, leftovers.VARIABLE: bench.run}


def jsonable(value: Any) -> Any:
    """YAML data as JSON data: dates become text, keys too."""
    if hasattr(value, "items"):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def matches_any(run: Run, bench: Workbench, limit: str = "") -> bool:
    """Whether the playbooks have a host to work on in the whole inventory, or in what ``limit`` leaves of it."""
    program = settings.playbook_program(run.program, run.directory)
    with passwords.told(run.passwords, bench.sockets) as secret_words:
        inventories = [f"--inventory={path}" for path in _inventories(run, bench.root / run.name)]
        words = [*inventories, *run.words, *secret_words, "--list-hosts"]
        words += [f"--limit={limit}"] if limit else []
        argv = [program, *words, "--", *(str(path) for path in run.playbooks)]
        done = process.run(argv, check=False, cwd=run.directory, env=_environment(run, bench))
    counts = [line.partition("hosts (")[2].partition(")")[0] for line in done.stdout.splitlines()]
    return any(count.isdigit() and int(count) for count in counts)
