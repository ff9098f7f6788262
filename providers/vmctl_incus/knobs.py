"""The ``incus:`` section: every knob with its kind, its meaning and its default."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from msgspec import Struct, field

from vmctl import knobs
from vmctl.knobs import Checked, Fault, Field, ListOf, Mismatch, flag, parsed, text
from vmctl.spec import MachineSpec

PROVIDER = "incus"
CONTAINER, VIRTUAL_MACHINE = "container", "virtual-machine"
KEYS_OF_VMCTL = {
    "limits.cpu": "cpus",
    "limits.memory": "memory",
    "security.privileged": "incus.privileged",
    "security.nesting": "incus.nesting",
    "raw.idmap": "synced_folders",
}
"""Keys of the server's configuration that vmctl sets itself, and what in the Vmfile they follow."""
RESERVED = ("user.vmctl", "volatile.", "image.", "boot.autostart")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


def _config(value: Any) -> Iterator[str]:
    if not isinstance(value, Mapping):
        yield "must map keys of the server's configuration to values"
        return
    for key, one in value.items():
        if not isinstance(key, str) or not NAME.fullmatch(key):
            yield f"{key!r} is not a key"
        elif key in KEYS_OF_VMCTL:
            yield f"{key}: write `{KEYS_OF_VMCTL[key]}` instead"
        elif key.startswith(RESERVED):
            yield f"{key}: vmctl or the server sets it"
        elif isinstance(one, list | dict) or one is None:
            yield f"{key}: must be a single value"


def _spelled(value: Any) -> str:
    """A value as the server spells it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _type(value: Any) -> str:
    if value == VIRTUAL_MACHINE:
        raise Mismatch(
            "virtual-machine is not supported yet; vmctl makes containers here, and virtual machines with libvirt"
        )
    if value != CONTAINER:
        raise Mismatch(f"must be {CONTAINER}")
    return CONTAINER


TYPE = parsed("a type", _type, {"const": CONTAINER})
NAMED = text("a name", NAME.pattern, "not a name that the server could know")
URL = text("a URL", r"[^\x00-\x1f\x7f]+", "not a URL")
CONFIG = Checked(
    _config,
    {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}},
    lambda value: {key: _spelled(one) for key, one in value.items()},
)


class IncusKnobs(Struct, frozen=True, kw_only=True):
    """What the user asked of Incus or LXD beyond the common keys."""

    type: Annotated[str, Field(TYPE, "What machines are; virtual-machine is not supported yet.")] = CONTAINER
    privileged: Annotated[bool, Field(flag(), "Whether root in the container is root of the host.")] = False
    nesting: Annotated[bool, Field(flag(), "Whether containers may run inside it (Docker, Podman).")] = False
    profiles: Annotated[tuple[str, ...], Field(ListOf(NAMED), "The server's profiles.")] = ("default",)
    pool: Annotated[str, Field(NAMED, "Storage pool of the disk; default: that of its profiles.")] = ""
    network: Annotated[str, Field(NAMED, "The server's network that NIC 1 is on; default: that of its profiles.")] = ""
    target: Annotated[str, Field(NAMED, "Member of a cluster to make it on; default: the server's choice.")] = ""
    config: Annotated[
        Mapping[str, str], Field(CONFIG, "Further keys of the instance's configuration, as the server spells them.")
    ] = field(default_factory=dict)
    remote: Annotated[str, Field(NAMED, "A server that the command `incus` or `lxc` knows by this name.")] = ""
    url: Annotated[str, Field(URL, "The server's address, https:// or unix://.")] = ""
    project: Annotated[str, Field(NAMED, "The server's project that machines are in.")] = ""


def options(spec: MachineSpec) -> Mapping[str, Any]:
    """The section as written."""
    return spec.options.get(PROVIDER) or {}


def target(spec: MachineSpec) -> str:
    """The member that the Vmfile wants; knobs that ``check`` refuses mean none."""
    value = options(spec).get("target")
    return value if isinstance(value, str) else ""


def read(spec: MachineSpec) -> IncusKnobs:
    """The knobs of a machine that ``faults`` found nothing wrong with."""
    return knobs.read(IncusKnobs, options(spec))


def faults(spec: MachineSpec) -> Iterator[Fault]:
    """All that is wrong with the section."""
    return knobs.faults(IncusKnobs, PROVIDER, options(spec))
