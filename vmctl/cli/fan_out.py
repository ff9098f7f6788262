"""`vmctl exec` on several hosts at the same time, machines or servers: each line of output bears its host's name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from vmctl.cli.app import App
from vmctl.errors import VmctlError
from vmctl.events import Output

if TYPE_CHECKING:
    from vmctl.process import Completed
    from vmctl.ssh.link import Link

AT_ONCE = 8


def execute(
    app: App, names: Sequence[str], words: Sequence[str], connect: Callable[[str], AbstractContextManager[Link]]
) -> int:
    """The highest status; a host that could not be reached is an error after all others have ended."""
    from vmctl.lifecycle.outcome import Outcome

    def run(name: str) -> Completed | VmctlError:
        def tell(line: str) -> None:
            app.console.output(Output(machine=name, line=line, source=words[0]))

        try:
            with connect(name) as link:
                return link.run(words, check=False, on_line=tell)
        except VmctlError as error:
            return error

    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="vmctl") as pool:
        ended = dict(zip(names, pool.map(run, names), strict=True))
    failed = {name: end for name, end in ended.items() if isinstance(end, VmctlError)}
    Outcome(done=[name for name in ended if name not in failed], failed=failed).raise_failure()
    statuses = {name: end.status for name, end in ended.items() if not isinstance(end, VmctlError)}
    app.done({"machines": {name: {"status": status} for name, status in statuses.items()}})
    return max(statuses.values())


def answer(app: App, completed: Completed) -> int:
    """What a program printed, for --json; its status."""
    app.done({"status": completed.status, "stdout": completed.stdout, "stderr": completed.stderr})
    return completed.status
