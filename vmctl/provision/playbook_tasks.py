"""What plays and tasks do that no key can hold, as far as their data tells."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from vmctl.provision.playbook_data import PAIR, Variables, mappings, pairs, scalars

THIS_HOST = frozenset({"localhost", "127.0.0.1", "::1"})
COMMANDS = frozenset({"shell", "command", "raw", "script", "expect"})
READING = frozenset({
    "vars_files", "include_vars", "import_tasks", "include_tasks", "import_playbook", "include", "import_role",
    "include_role", "roles", "dependencies", "script",
})  # fmt: skip
"""Keys whose values name files of this host."""
DATA, TEXT, PLAYBOOK = "data", "text", "playbook"
"""What Ansible makes of a file: it reads it as YAML, as a template or program, or as a playbook with all around it."""
PLAYBOOKS = frozenset({"import_playbook", "include"})
FILE_KEYS = ("src", "file", "dir", "role", "name", "cmd", "_raw_params", "tasks_from", "vars_from")
"""What of their values does, where they are mappings."""
IN_GUEST = frozenset({"slurp", "mount", "file", "stat"})
"""Modules whose ``src`` is in the guest."""
PROGRAM = re.compile(r"(?<![\s{])\s+(?![^{]*\}\})")
"""What separates a command's words: no space inside an expression."""
ACTION = frozenset({"action", "local_action"})
"""The old form of a task, whose value begins with its module."""
OWN_SERVER = re.compile(r"https?://(?:127(?:\.\d+){3}|localhost|\[::1\])(?::\d+)?(?:/|$)")
"""What a guest asks of itself."""
OF_DATA = frozenset({
    "items", "list", "flattened", "dict", "dictionary", "together", "nested", "cartesian", "sequence", "subelements",
    "indexed_items",
})  # fmt: skip
"""What follows `with_` where a task is repeated over data alone; all else looks something up on this host."""
NO_TERMS = frozenset({"true", "false", "yes", "no", "on", "off", "", "none", "0", "1"})
CLONES = {"git": "version", "subversion": "revision", "hg": "revision"}
DOWNLOAD = re.compile(
    r"\b(?:curl|wget|aria2c)\b|\bgit\s+(?:-\S+\s+(?:[\w./]+\s+)?)*(?:clone|pull|fetch|submodule)\b"
    r"|\bsvn\s+(?:co|checkout|export)\b|\bhg\s+clone\b"
)
VERIFICATION = re.compile(r"\b(sha\d+sum|b2sum|gpg|gpgv|minisign|cosign)\b|\b[0-9a-f]{40}\b")
INSTANCE = re.compile(
    r"\bmachine-id\b|\buuidgen\b|/proc/sys/kernel/random/uuid\b|\bproduct_(?:uuid|serial)\b|\bhostid\b|\bssh_host_\w+_key"
    r"|\bsystemd-id128\b"
)


def of_script(text: str) -> str:
    """Why the outcome of a script is in no key; "" = nothing tells."""
    if DOWNLOAD.search(text) and not VERIFICATION.search(text):
        return "downloads something and verifies nothing"
    if found := INSTANCE.search(text):
        return f"uses what differs from machine to machine ({found[0]})"
    return ""


def reasons(data: Any, variables: Variables) -> Iterator[str]:
    """Why what a file's plays and tasks do is in no key."""
    for task in mappings(data):
        for host in hosts(task, variables):
            if any(part.strip() in THIS_HOST for part in re.split(r"[,:]", host)):
                yield "acts on this host"
        for key in ("connection", "ansible_connection"):
            if any("local" in variables.texts(text, task) for text in scalars(task.get(key))):
                yield "acts on this host"
        for module, value in _modules(task):
            yield from _of_module(module, value, task, variables)
        for key, value in task.items():
            if str(key).startswith("with_") and _looks_up(str(key).removeprefix("with_"), value):
                yield f"looks up something on this host ({key})"


def _looks_up(plugin: str, value: Any) -> bool:
    """Whether a task is repeated over more than data; a mere variable of such a name is a word or two."""
    return plugin.removeprefix("ansible.builtin.") not in OF_DATA and str(value).lower() not in NO_TERMS


def _modules(task: Mapping[Any, Any]) -> Iterator[tuple[str, Any]]:
    """A task's keys, without their collection, and values; one is its module. For ``action``, what that names."""
    for key, value in task.items():
        if key in ACTION and isinstance(value, str):
            name, _, rest = value.strip().partition(" ")
            yield name.rpartition(".")[2], rest
        elif key in ACTION and isinstance(value, Mapping):
            yield str(value.get("module")).rpartition(".")[2], value
        else:
            yield str(key).rpartition(".")[2], value


def _of_module(module: str, value: Any, task: Mapping[Any, Any], variables: Variables) -> Iterator[str]:
    arguments = _arguments(value, task)
    if module in COMMANDS and (reason := of_script("\n".join(scalars(value)))):
        yield reason
    if module == "uri" and not _asks_itself(arguments, task, variables):
        yield "asks a server (uri)"
    if module == "fetch" and "src" in arguments:
        yield "brings files to this host (fetch)"
    if module == "get_url" and arguments and "checksum" not in arguments:
        yield "downloads a file without a checksum (get_url)"
    if module in CLONES and arguments and CLONES[module] not in arguments:
        yield f"clones a repository without a version ({module})"
    for text in (one for name in ("src", "deb") for one in scalars(arguments.get(name))):
        if any("://" in one for one in variables.texts(text, task)):
            yield f"downloads an archive ({module})"
    for text in named_by(module, value, task):
        if any(one.startswith(("/", "~")) for one in variables.texts(text, task)):
            yield f"reads a file outside of the project ({module})"


def _asks_itself(arguments: Mapping[Any, Any], task: Mapping[Any, Any], variables: Variables) -> bool:
    """Whether a request stays in the guest, which is in the key."""
    texts = [text for url in scalars(arguments.get("url")) for text in variables.texts(url, task)]
    return bool(texts) and all(OWN_SERVER.match(text) for text in texts)


def hosts(play: Mapping[Any, Any], variables: Variables) -> list[str]:
    """What a play's ``hosts:`` may come to, word by word."""
    hosts = play.get("hosts")
    words = [str(one) for one in hosts] if isinstance(hosts, Mapping) else list(scalars(hosts))
    return [text for word in words for text in variables.texts(word, play)]


def is_for_all(data: Any, variables: Variables) -> bool:
    """Whether each play of a file is for all hosts, whatever they are called."""
    plays = [play for play in mappings(data) if "hosts" in play]
    return all(hosts(play, variables) == ["all"] for play in plays)


def named_by(module: str, value: Any, task: Mapping[Any, Any]) -> Iterator[str]:
    """The files of this host that a key of a task (or play) names, as they are written."""
    if module in READING:
        for one in value if isinstance(value, list) else [value]:
            parts = _arguments(one, {})
            named = [parts[key] for key in FILE_KEYS if key in parts]
            for text in scalars(named or ([] if isinstance(one, Mapping) else one)):
                only = PAIR.sub("", text).strip() if not named else text
                yield PROGRAM.split(only)[0] if module == "script" else only
        return
    arguments = _arguments(value, task)
    is_there = _is_true(arguments.get("remote_src")) or arguments.get("state") in {"link", "hard"}
    if "src" in arguments and not is_there and module not in IN_GUEST:
        yield from scalars(arguments["src"])


def names(data: Any, variables: Variables) -> Iterator[tuple[str, str]]:
    """All files of this host that tasks and plays name, and what Ansible makes of them.

    That is ``DATA``, ``TEXT``, ``PLAYBOOK`` or, where it puts them as they are, "". ``UNKNOWN`` is in them for what
    cannot be told.
    """
    for task in mappings(data):
        for module, value in _modules(task):
            how = TEXT if module in {"script", "template"} else DATA if module in READING else ""
            how = PLAYBOOK if module in PLAYBOOKS else how
            for text in named_by(module, value, task):
                for one in variables.texts(text, task):
                    yield one, how


def _arguments(value: Any, task: Mapping[Any, Any]) -> Mapping[Any, Any]:
    """A module's arguments, in either form; {} = it has none of either."""
    further = task.get("args")
    more = further if isinstance(further, Mapping) else {}
    if isinstance(value, Mapping):
        return {**more, **value}
    return {**more, **pairs(value)} if isinstance(value, str) else {}


def _is_true(value: Any) -> bool:
    return str(value).lower() in {"true", "yes", "on", "1", "y", "t"}
