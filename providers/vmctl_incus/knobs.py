"""The ``incus:`` section: names, values, defaults, and the faults in it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from vmctl.errors import suggest
from vmctl.spec import MachineSpec
from vmctl_incus import servers

PROVIDER = "incus"
CONTAINER, VIRTUAL_MACHINE = "container", "virtual-machine"
ELSEWHERE = {
    "limits.cpu": "cpus",
    "limits.memory": "memory",
    "security.privileged": "incus.privileged",
    "security.nesting": "incus.nesting",
    "raw.idmap": "synced_folders",
}
"""Keys of the server's configuration that vmctl sets itself, and what in the Vmfile they follow."""
RESERVED = ("user.vmctl", "volatile.", "image.", "boot.autostart")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


@dataclass(frozen=True, kw_only=True)
class Knobs:
    """What the user asked of Incus or LXD beyond the common keys."""

    type: str = CONTAINER
    privileged: bool = False
    """Whether root in the container is root of the host."""
    nesting: bool = False
    """Whether containers may run inside it (Docker, Podman)."""
    profiles: tuple[str, ...] = ("default",)
    pool: str = ""
    """Storage pool of its disk; "" = that of its profiles, else the only one."""
    network: str = ""
    """The server's network that its NIC 1 is on; "" = that of its profiles."""
    target: str = ""
    """The member of a cluster that it is made on; "" = the server's choice."""
    config: Mapping[str, str] = field(default_factory=dict)
    """Further keys of the instance's configuration, as the server spells them."""


@dataclass(frozen=True)
class Fault:
    """Something wrong with a machine, by its path below the machine ("incus.pool")."""

    path: str
    message: str


NAMES = (*(each.name for each in fields(Knobs)), *servers.KEYS)


def options(spec: MachineSpec) -> Mapping[str, Any]:
    """The section as written."""
    return spec.options.get(PROVIDER) or {}


def read(spec: MachineSpec) -> Knobs:
    """The knobs of a machine that ``faults`` found nothing wrong with."""
    given = {key: value for key, value in options(spec).items() if value is not None and key not in servers.KEYS}
    if "profiles" in given:
        given["profiles"] = tuple(given["profiles"])
    if "config" in given:
        given["config"] = {key: _spelled(value) for key, value in given["config"].items()}
    return Knobs(**given)


def faults(spec: MachineSpec) -> Iterator[Fault]:
    """All that is wrong with the section."""
    for name, value in options(spec).items():
        path = f"{PROVIDER}.{name}"
        if name not in NAMES:
            known = f"; known: {', '.join(NAMES)}"
            yield Fault(path, f"unknown key{suggest(str(name), NAMES) or known}")
        elif value is not None:
            yield from (Fault(path, message) for message in CHECKS[name](value))


def _spelled(value: Any) -> str:
    """A value as the server spells it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _boolean(value: Any) -> Iterator[str]:
    if not isinstance(value, bool):
        yield "must be true or false"


def _text(value: Any) -> Iterator[str]:
    if not isinstance(value, str) or not value.isprintable() or not value:
        yield "must be text"


def _name(value: Any) -> Iterator[str]:
    if not isinstance(value, str) or not NAME.fullmatch(value):
        yield f"{value!r} is not a name that the server could know"


def _type(value: Any) -> Iterator[str]:
    if value == VIRTUAL_MACHINE:
        yield "virtual-machine is not supported yet; vmctl makes containers here, and virtual machines with libvirt"
    elif value != CONTAINER:
        yield f"must be {CONTAINER}"


def _profiles(value: Any) -> Iterator[str]:
    if not isinstance(value, list):
        yield "must be a list of names"
    else:
        yield from (message for each in value for message in _name(each))


def _config(value: Any) -> Iterator[str]:
    if not isinstance(value, Mapping):
        yield "must map keys of the server's configuration to values"
        return
    for key, one in value.items():
        if not isinstance(key, str) or not NAME.fullmatch(key):
            yield f"{key!r} is not a key"
        elif key in ELSEWHERE:
            yield f"{key}: write `{ELSEWHERE[key]}` instead"
        elif key.startswith(RESERVED):
            yield f"{key}: vmctl or the server keeps it"
        elif isinstance(one, list | dict) or one is None:
            yield f"{key}: must be a single value"


CHECKS: Mapping[str, Callable[[Any], Iterator[str]]] = {
    "type": _type,
    "privileged": _boolean,
    "nesting": _boolean,
    "profiles": _profiles,
    "pool": _name,
    "network": _name,
    "target": _name,
    "config": _config,
    "remote": _name,
    "url": _text,
    "project": _name,
}
