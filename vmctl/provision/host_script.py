"""A `shell` entry with `on: host`: the script runs here, for one machine after the other."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from vmctl import process
from vmctl.events import Output, Report
from vmctl.provision import scripts
from vmctl.provision.failure import label
from vmctl.provision.provisioner_result import ProvisionerResult, failed
from vmctl.provision.shell_provisioner import DETAIL_LINES, SOURCE
from vmctl.provision.target import Counts, Target
from vmctl.spec import Shell


def provision(item: Shell, targets: Sequence[Target], root: Path, report: Report) -> list[ProvisionerResult]:
    """Run the script for each target, in the project's directory.

    Raises:
        UsageError: the script cannot be read.
        VmctlError: it cannot be downloaded.
        Interrupted: the user asked to stop; the script has been ended.
    """
    script = scripts.content(item, report)
    with tempfile.TemporaryDirectory(prefix="vmctl-") as place:  # private (0700)
        path = Path(place, "script")
        path.write_bytes(script)
        path.chmod(0o700)
        argv = [*scripts.interpreter(script, inline=item.inline is not None), str(path), *item.args]
        return [_one(item, target, argv, root, report) for target in targets]


def _one(item: Shell, target: Target, argv: Sequence[str], root: Path, report: Report) -> ProvisionerResult:
    if item.creates and (root / Path(item.creates).expanduser()).exists():
        return ProvisionerResult(machine=target.name, counts=Counts(ok=1))
    lines: list[str] = []

    def on_line(line: str) -> None:
        lines.append(line)
        report(Output(machine=target.name, line=line, source=SOURCE))

    try:
        status = process.stream(
            argv, on_line, cwd=root, env={**item.env, **target.environment, "VMCTL_MACHINE": target.name}, named=True
        )
    except (process.ProgramMissing, process.CommandFailed) as error:
        return failed(target.name, _brief(item, target, error.brief), error.details)
    if status != 0:
        brief = _brief(item, target, f"ended with status {status}")
        return failed(target.name, brief, "\n".join(lines[-DETAIL_LINES:]))
    return ProvisionerResult(machine=target.name, counts=Counts(ok=1, changed=1))


def _brief(item: Shell, target: Target, what: str) -> str:
    return f"{target.name}: the script{scripts.name_of(item)} on the host {what} (provisioner {label(item)})"
