"""Ansible needs Python in the guest; a guest that has none yet gets it from the bootstrap playbook of vmctl's own."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from vmctl.errors import Unreachable
from vmctl.events import Warned
from vmctl.provision import playbook, provision_state
from vmctl.provision.context import RunContext
from vmctl.provision.parallel import each
from vmctl.provision.target import Target
from vmctl.spec import Ansible

PROBE = "command -v python3 >/dev/null || test -x /usr/libexec/platform-python"


def ensure(item: Ansible, targets: Sequence[Target], number: int, context: RunContext) -> None:
    """Have Python in machines that Ansible has never worked on; where that fails, warn and let the playbook tell.

    Servers are left as they are: what is installed there is for their playbooks to say.

    Raises:
        Interrupted: the user asked to stop.
    """
    fresh = [target for target in targets if target.layout and not provision_state.has_had_ansible(target.layout)]
    if not fresh or context.mode.check or item.python_interpreter or "ansible_python_interpreter" in item.extra_vars:
        return
    lacking = [target for target, lacks in zip(fresh, each(fresh, _lacks_python), strict=True) if lacks]
    if lacking:
        _bootstrap(lacking, number, context)


def _lacks_python(target: Target) -> bool:
    try:
        with target.connect() as connection:
            return connection.run(PROBE, check=False).status != 0
    except Unreachable:
        return False  # Ansible will say so, of this machine, and go on with the others


def _bootstrap(targets: Sequence[Target], number: int, context: RunContext) -> None:
    names = tuple(target.name for target in targets)
    run = playbook.Run(
        name=f"{number}-bootstrap",
        playbooks=(bundled("bootstrap.yml"),),
        inventory=context.host_set.inventory(None),
        targets=names,
        others=context.host_set.others(None, names),
        directory=context.host_set.root,
        color=context.color,
    )
    recap = context.play(run)
    for name in names:
        if recap.counts is None or name in recap.bad or name not in recap.counts:
            text = f"there is no python3 in the guest, and it could not be installed: {recap.failures.get(name, '')}"
            context.report(Warned(machine=name, text=text, hint=f"vmctl ssh {name}"))


def bundled(name: str) -> Path:
    """A playbook that ships with vmctl."""
    return Path(str(resources.files("vmctl_playbooks") / name))
