"""One run of ansible-playbook through ansible-runner: the only place that knows that library and its traps.

The traps: it replaces signal handlers unless it gets a ``cancel_callback``; it looks at that only each
``pexpect_timeout`` (5 s by default); cancelling kills one process group, which Ansible's workers have left; it may
call ``sys.exit``; an ``OSError`` in an event handler is swallowed, any other exception leaves ansible-playbook behind;
it turns host key checking off; it puts extra variables on the command line and its environment into a file.

Guests are not made to have that library (``ansible_in_guest``), and our callback cannot take its place here: it hears
nothing of what Ansible says before and beside plays (a syntax error, ``vars_prompt``), nor can it be asked to stop.
Both tell the same events, which ``PlayRecap`` reads.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from vmctl import interrupt, json_text, process, user_environment
from vmctl.errors import VmctlError
from vmctl.provision import passwords, run_directory, settings
from vmctl.provision.ansible_events import PlayRecap
from vmctl.provision.inventory_groups import OTHERS
from vmctl.provision.run_directory import RunDirectory
from vmctl.store import files

INVENTORY, TARGETS = "inventory.yml", "targets.json"
GROUP = "vmctl_targets"  # of the hosts that a run is about
FATAL = "fatal"  # file that our callback writes
PLUGINS = ("vmctl_playbooks", "callback_plugins")
EXTRA_VARS = Path("env", "extravars")  # where ansible-runner looks for them
ENVIRONMENT = Path("env", "envvars")  # where it keeps them
POLL = 0.1  # seconds between looks at the interrupt flag
OnEvent = Callable[[PlayRecap, Mapping[str, Any]], None]


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
    others: tuple[str, ...] | None = None
    """The other hosts of the inventory, on which nothing may run; those that a play adds (add_host) are none of them.
    None: they are not known, so that only the targets can be named, and plays on added hosts do not run."""
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


def play(run: Run, run_files: RunDirectory, on_event: OnEvent) -> PlayRecap:
    """Run a playbook to its end.

    Args:
        run: what to run.
        run_files: holds the run's files, until it is closed.
        on_event: hears each event of ansible-runner, with what is known by then; must be quick.

    Returns:
        What became of each host; ``counts`` is None when the playbook never started.

    Raises:
        ProgramMissing: there is no ansible-playbook.
        Interrupted: the user asked to stop; no process of the run is left.
    """
    private = run_files.directory(run.name)
    listener = _Listener(on_event, private)
    with passwords.served(run.passwords, run_files.sockets) as secret_words:
        runner = _runner(run, run_files, private, listener, secret_words)
        try:
            runner.run()
        except SystemExit as error:
            raise VmctlError(f"ansible-runner gave up with status {error.code}") from error
        finally:
            if listener.stop():
                run_directory.end_processes(run_files.run)
    if listener.error:
        raise listener.error
    interrupt.check()
    listener.recap.status = runner.rc
    listener.recap.fatal = listener.fatal
    return listener.recap


class _Listener:
    """Hears events and is asked whether to go on; its exceptions wait until ansible-runner is done."""

    def __init__(self, on_event: OnEvent, private: Path) -> None:
        self.recap = PlayRecap()
        self.error: BaseException | None = None
        self._on_event = on_event
        self._private = private

    @property
    def fatal(self) -> frozenset[str]:
        """Hosts whose failure ended the play for all of its hosts."""
        path, recap = self._private / FATAL, PlayRecap()
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
            recap.add(json_text.loads(line))
        return recap.fatal

    def hear(self, event: Mapping[str, Any]) -> bool:
        """Take in an event; False tells ansible-runner not to keep it in a file."""
        try:
            if event.get("event") == "playbook_on_start":
                (self._private / EXTRA_VARS).unlink(missing_ok=True)  # Ansible has read it
            elif event.get("event") == "playbook_on_vars_prompt":
                name = (event.get("event_data") or {}).get("varname", "?")
                raise VmctlError(  # noqa: TRY301  where Ansible waits for an answer, nobody gives one
                    f"the playbook asks for the variable '{name}' (vars_prompt)",
                    hint="write it in the Vmfile, under `extra_vars:`",
                )
            self.recap.add(event)
            self._on_event(self.recap, event)
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


def _runner(run: Run, run_files: RunDirectory, private: Path, listener: _Listener, secret_words: Sequence[str]) -> Any:
    program = settings.playbook_program(run.program, run.directory)
    files.write(private / INVENTORY, run.inventory)
    if targets := _targets(run):
        files.write_json(private / TARGETS, targets)
    if run.extra_vars:
        # A file, for what is on a command line everybody can see.
        files.write_json(private / EXTRA_VARS, jsonable(run.extra_vars))

    import ansible_runner

    runner = ansible_runner.interface.init_runner(
        private_data_dir=str(private),
        project_dir=str(run.directory),
        playbook=str(run.playbooks[0]),
        inventory=_inventories(run, private),
        limit=_limit(run),
        cmdline=shlex.join([*run.words, *secret_words]),
        verbosity=run.verbosity,
        envvars=_environment(run, run_files),
        settings={"pexpect_timeout": POLL, "suppress_output_file": True, "suppress_ansible_output": True},
        fact_cache_type="",
        event_handler=listener.hear,
        cancel_callback=listener.stop,
        status_handler=listener.status,
    )
    for name in user_environment.OF_ONE_REPOSITORY - run.environment.keys():  # it has copied all of ours
        runner.config.env.pop(name, None)
    runner.config.command[0] = program
    runner.config.command += [str(path) for path in run.playbooks[1:]]
    return runner


def _inventories(run: Run, private: Path) -> list[str]:
    own = [path for path in (private / INVENTORY, private / TARGETS) if path.exists()]
    return [str(path) for path in (*run.sources, *own)]


def _targets(run: Run) -> dict[str, Any]:
    """An inventory that says which hosts the run is about, whatever else names them; {} = there is nothing to say."""
    variables = {"ansible_python_interpreter": run.interpreter} if run.interpreter else {}
    found: dict[str, Any] = {}
    if run.interpreter or (run.limit and run.others is None):
        found[GROUP] = {"hosts": dict.fromkeys(run.targets, variables)}
    if run.others:
        found[OTHERS] = {"hosts": {name: {} for name in run.others}}
    return found


def _limit(run: Run) -> str | None:
    """Ansible's pattern for the hosts that the run is about.

    Where the others are known, it leaves those out and nothing else: Ansible looks anew at each play who is meant, and
    so finds hosts that an earlier play has added.
    """
    if run.others is None:
        return f"{run.limit}:&{GROUP}" if run.limit else ",".join([*run.targets, "localhost"])
    if not run.others:
        return run.limit or None
    return but_for_others(run.limit)


def but_for_others(limit: str = "") -> str:
    """Ansible's pattern for the hosts that a run is about, added ones too, where the inventory has ``OTHERS``."""
    return f"{limit or 'all:localhost'}:!{OTHERS}"


def _environment(run: Run, run_files: RunDirectory) -> dict[str, str]:
    variables = settings.environment(
        run.directory,
        hosts=len(run.targets),
        color=run.color,
        sockets=run_files.sockets,
        own=run.environment,
        content=run.content,
    )
    plugins = str(resources.files(PLUGINS[0]) / PLUGINS[1])
    further = variables.get("ANSIBLE_CALLBACK_PLUGINS") or os.environ.get("ANSIBLE_CALLBACK_PLUGINS")
    variables["ANSIBLE_CALLBACK_PLUGINS"] = f"{further}:{plugins}" if further else plugins
    return {**variables, run_directory.VARIABLE: run_files.run, "VMCTL_FATAL": str(run_files.root / run.name / FATAL)}


def jsonable(value: Any) -> Any:
    """YAML data as JSON data: dates become text, keys too."""
    if hasattr(value, "items"):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def matches_any(run: Run, run_files: RunDirectory, limit: str = "") -> bool:
    """Whether the playbooks have a host to work on in the whole inventory, or in what ``limit`` leaves of it."""
    program = settings.playbook_program(run.program, run.directory)
    with passwords.served(run.passwords, run_files.sockets) as secret_words:
        inventories = [f"--inventory={path}" for path in _inventories(run, run_files.root / run.name)]
        words = [*inventories, *run.words, *secret_words, "--list-hosts"]
        words += [f"--limit={limit}"] if limit else []
        argv = [program, *words, "--", *(str(path) for path in run.playbooks)]
        done = process.run(argv, check=False, cwd=run.directory, env=_environment(run, run_files), named=True)
    counts = [line.partition("hosts (")[2].partition(")")[0] for line in done.stdout.splitlines()]
    return any(count.isdigit() and int(count) for count in counts)
