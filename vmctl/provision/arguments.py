"""What an `ansible` entry says, as words for ansible-playbook's command line and as its environment."""

from __future__ import annotations

from vmctl.spec import Ansible


def words(item: Ansible, *, check: bool = False, diff: bool = False) -> list[str]:
    """Options that may be absent, one or many; passwords and variables are told in other ways.

    Args:
        item: the provisioner.
        check: only look what would change, whatever the entry says.
        diff: show what changes in files, whatever the entry says.
    """
    found = [f"--extra-vars=@{path}" for path in item.extra_vars_files]
    found += vault_files(item)
    flags = {
        "--become": item.become,
        "--check": check or item.check,
        "--diff": diff or item.diff,
    }
    found += [flag for flag, is_set in flags.items() if is_set]
    values = {
        "--become-user": item.become_user,
        "--tags": ",".join(item.tags),
        "--skip-tags": ",".join(item.skip_tags),
        "--start-at-task": item.start_at_task,
        "--forks": item.forks,
    }
    found += [f"{option}={value}" for option, value in values.items() if value]
    return [*found, *item.raw_arguments]


def vault_files(item: Ansible) -> list[str]:
    """Options for the vaults whose passwords are in files."""
    return [f"--vault-id={vault}@{path}" for vault, path in item.vault.items() if path]


def environment(item: Ansible) -> dict[str, str]:
    """Variables that the entry sets."""
    found = dict(item.env)
    if item.config_file:
        found["ANSIBLE_CONFIG"] = str(item.config_file)
    if item.strategy:
        found["ANSIBLE_STRATEGY"] = item.strategy
    return found
