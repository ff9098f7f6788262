"""Running the Vmfile's provisioners on the servers of a target."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vmctl import provision
from vmctl.provision import provision_state
from vmctl.remotes.server_hosts import ServerHosts
from vmctl.remotes.server_inventory import RemoteHost
from vmctl.store import locks

if TYPE_CHECKING:
    from vmctl.provision.passwords import Passwords
    from vmctl.provision.target import Mode, Summary
    from vmctl.workspace import Workspace


def planned(
    host_set: ServerHosts, hosts: Sequence[RemoteHost], only: Sequence[str], start: str = ""
) -> dict[str, list[str]]:
    """Names of servers → names of the provisioners that each would get, without servers that would get none.

    Raises:
        UsageError: no provisioner has a name of ``only``.
    """
    provision_state.check_names(host_set.provisioners, [*only, *([start] if start else [])])
    work = {
        target.name: provision_state.pending(target, None, only=only, start=start) for target in host_set.targets(hosts)
    }
    return {name: [item.name for item in items] for name, items in work.items() if items}


def run(
    workspace: Workspace,
    host_set: ServerHosts,
    hosts: Sequence[RemoteHost],
    *,
    only: Sequence[str],
    mode: Mode,
    start: str = "",
    passwords: Passwords | None = None,
) -> Summary:
    """Run everything that the servers are to get, done before or not: others may have changed them meanwhile.

    Raises:
        UsageError, ProvisionFailed, Unreachable: as ``vmctl.provision.run``.
    """
    workspace.ensure_id()
    layout = workspace.layout
    what = f"target {host_set.target}"
    with locks.hold(layout.target_lock(host_set.target), what, timeout=workspace.lock_timeout, report=workspace.report):
        targets = host_set.targets(hosts)
        return provision.run(
            host_set, targets, layout=layout, only=only, start=start, force=True, mode=mode, passwords=passwords,
            report=workspace.report,
        )  # fmt: skip
