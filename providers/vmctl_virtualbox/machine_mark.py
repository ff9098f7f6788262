"""Which VirtualBox machine is whose.

A machine's UUID follows from its name in vmctl, so finding it needs no search, and renaming or moving it in the GUI
changes nothing. Its tag lies in VirtualBox's global extradata, written before the machine is made: one call reads
the tags of all machines, and a machine whose making was killed is known, and known to be unfinished.
(A machine's own extradata would need one call for each machine, and can only be written once the machine is there.)
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from msgspec import to_builtins

from vmctl import json_text
from vmctl.driver import Tag
from vmctl_virtualbox import answers
from vmctl_virtualbox.vboxmanage import VBoxManage

NAMESPACE = uuid.UUID("5a6f7d1e-3c0b-5a53-9a5e-0c8f1d2b7e64")
PREFIX = "vmctl/"


@dataclass(frozen=True)
class MachineMark:
    """What vmctl writes down about one of its machines, inside VirtualBox."""

    name: str
    """``Definition.name`` when it was made."""
    tag: Tag
    complete: bool = False
    """Whether ``create`` came to its end."""
    seed: str = ""
    """The NoCloud image on the DVD drive, which VirtualBox would otherwise remember after the machine is gone."""
    pre_boot: tuple[tuple[str, ...], ...] = field(default=())
    post_boot: tuple[tuple[str, ...], ...] = field(default=())
    since: str = ""
    """When it went on, as VirtualBox has it, after vmctl had it pause for a moment…"""
    run: str = ""
    """…and since when it was running then: to vmctl it is running since that."""

    def run_since(self, since: str) -> str:
        """What a start of the machine is called that VirtualBox says it is running ``since``."""
        return self.run if self.run and since == self.since else since

    def completed(self) -> MachineMark:
        """The mark of the finished machine."""
        return replace(self, complete=True)


def identifier(name: str) -> str:
    """The UUID of the machine ``name``."""
    return str(uuid.uuid5(NAMESPACE, name))


def write(door: VBoxManage, mark: MachineMark) -> None:
    """Write a mark, in place of an older one of the same machine."""
    door("setextradata", "global", PREFIX + identifier(mark.name), json.dumps(to_builtins(mark)))


def remove(door: VBoxManage, name: str) -> None:
    """Forget a mark. None there: nothing to do."""
    door("setextradata", "global", PREFIX + identifier(name))


def read(door: VBoxManage) -> dict[str, MachineMark]:
    """All marks, by UUID."""
    return parse(answers.extradata(door("getextradata", "global", "enumerate")))


def parse(extradata: Mapping[str, str]) -> dict[str, MachineMark]:
    """The marks among VirtualBox's global extradata. One that is damaged counts as none: no tag, no touch."""
    found = {}
    for key, text in extradata.items():
        if key.startswith(PREFIX) and (mark := _mark(text)) and key == PREFIX + identifier(mark.name):
            found[identifier(mark.name)] = mark
    return found


def _mark(text: str) -> MachineMark | None:
    try:
        value: Any = json_text.loads(text)
        return MachineMark(
            name=str(value["name"]),
            tag=Tag(**{key: str(value["tag"][key]) for key in ("project", "machine", "version", "root")}),
            complete=value["complete"] is True,
            seed=str(value["seed"]),
            pre_boot=_commands(value["pre_boot"]),
            post_boot=_commands(value["post_boot"]),
            since=str(value.get("since", "")),
            run=str(value.get("run", "")),
        )
    except (ValueError, KeyError, TypeError):
        return None


def _commands(value: Any) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(map(str, words)) for words in value)
