"""Vagrant's words on vmctl's command line: taken where they mean the same, else the error names ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

COMMANDS: Mapping[str, tuple[str, ...]] = {
    "global-status": ("list",),
    "rsync": ("sync",),
    "rsync-auto": ("sync", "--watch"),
}
"""Vagrant's commands that are ours by another name."""

ONE_BY_ONE = {"--no-parallel": ("--parallel", "1")}
FORCE = {"-f": ("--force",)}
OPTIONS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "destroy": {"-f": ("--yes",), "--force": ("--yes",), **ONE_BY_ONE},
    "halt": FORCE,
    "init": FORCE,
    "list": {"--prune": ()},
    "reload": FORCE,
    "snapshot save": FORCE,
    "up": {"--no-destroy-on-error": (), "--no-install-provider": (), **ONE_BY_ONE},
}
"""Options that are ours by another name, or what vmctl does anyway (nothing stands for them)."""

NAMES_OF = {"up": "--only", "provision": "--only"}
PROVISION_WITH = "--provision-with"

NO_COMMAND: Mapping[str, str] = {
    "autocomplete": "vmctl completion bash",
    "cap": "vmctl status --json",
    "cloud": "vmctl box add URL",
    "connect": "vmctl ssh",
    "docker-exec": "vmctl exec -- PROGRAM",
    "docker-logs": "vmctl logs",
    "docker-run": "vmctl exec -- PROGRAM",
    "help": "vmctl --help",
    "list-commands": "vmctl --help",
    "login": "vmctl box add URL",
    "plugin": "pip install PACKAGE    # providers are Python packages",
    "powershell": "vmctl ssh",
    "provider": "vmctl status",
    "push": "vmctl provision --target TARGET",
    "rdp": "vmctl ssh",
    "share": "vmctl port",
    "version": "vmctl --version",
    "winrm": "vmctl exec -- PROGRAM",
    "winrm-config": "vmctl ssh-config",
}
"""Vagrant's commands that vmctl does not have, and what comes next to each."""

NO_OPTION: Mapping[str, Mapping[str, str]] = {
    "destroy": {"-g": "vmctl halt && vmctl destroy", "--graceful": "vmctl halt && vmctl destroy"},
    "suspend": {"-a": "vmctl list", "--all-global": "vmctl list"},
    "up": {"--install-provider": "make libvirt"},
    "resume": {"--provision": "vmctl up --provision", PROVISION_WITH: "vmctl up --only NAME"},
    "reload": {PROVISION_WITH: "vmctl reload && vmctl provision --only NAME"},
    "init": {"-m": "vmctl init", "--minimal": "vmctl init", "--box-version": "vmctl init 'NAME@VERSION'"},
    "box add": {"--box-version": "vmctl box add 'NAME@VERSION'"},
}
GROUPS = ("snapshot", "box")


def translated(words: Sequence[str]) -> list[str]:
    """A command and its arguments in vmctl's words; what follows ``--`` is somebody else's."""
    command, *rest = words
    renamed, *added = COMMANDS.get(command, (command,))
    rest = [*added, *rest]
    cut = rest.index("--") if "--" in rest else len(rest)
    path = f"{renamed} {rest[0]}" if renamed in GROUPS and rest else renamed
    return [renamed, *_options(path, rest[:cut]), *rest[cut:]]


def _options(path: str, words: Sequence[str]) -> list[str]:
    same = OPTIONS.get(path, {})
    found: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        option, equals, value = word.partition("=")
        if option == PROVISION_WITH and path in NAMES_OF and (equals or rest):
            value = value if equals else rest.pop(0)
            found += [part for name in value.split(",") for part in (NAMES_OF[path], name)]
        else:
            found += same.get(word, (word,))
    return found


def refusal(words: Sequence[str]) -> tuple[str, str] | None:
    """Why a command line of Vagrant's has no counterpart, and the command that comes next to it."""
    command, *rest = words
    if command in NO_COMMAND:
        return f"vmctl has no command '{command}' like Vagrant's", NO_COMMAND[command]
    path = f"{command} {rest[0]}" if command in GROUPS and rest else command
    for word in rest[: rest.index("--") if "--" in rest else len(rest)]:
        if hint := NO_OPTION.get(path, {}).get(word.partition("=")[0]):
            return f"'{path}' has no option {word.partition('=')[0]} like Vagrant's", hint
    return None
