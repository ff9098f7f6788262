"""Layers: instances that never start, each with a machine's disk as it was, named and tagged by the layer's key.

A pool that can clone keeps only what differs, and freezing takes a moment; a plain directory is copied. A layer is
finished, and is one, once it bears its key; until then it says which instance it is made of, so that it goes with that
one if vmctl was killed meanwhile. An instance that began with a layer says so, for as long as its disk does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

from msgspec import Struct

from vmctl import interrupt
from vmctl.driver import State
from vmctl.errors import VmctlError, WrongState
from vmctl.flock import held
from vmctl.powers import Layer
from vmctl_incus import copies, handle, identity, instance
from vmctl_incus.api import Api, resource
from vmctl_incus.handle import Handle
from vmctl_incus.identity import GROUND, LAYER, PREFIX
from vmctl_incus.snapshots import seconds

MADE_OF = PREFIX + "layer.of"
"""Of a layer that is not finished: the instance that it is made of."""
HOLDS, SIZE = PREFIX + "layer.holds", PREFIX + "layer.size"
"""Bytes of all its files, and of those that the layer or box below it has not."""
NAME = "vmctl-layer-{}"
KEY = re.compile("[0-9a-f]{64}")
IN_A_NAME = 40
"""Digits of the key."""
COUNT = """
set --
while read -r _ _ _ _ where _; do
  [ "$where" = / ] || set -- "$@" "--exclude=$where"
done </proc/self/mountinfo
exec du -skx "$@" / 2>/dev/null
"""
"""Folders of the host may lie on the same file system, so ``-x`` does not leave them out."""
PATIENCE = 20.0
"""Seconds for the guest."""
POSSIBLE = (State.RUNNING, State.PAUSED, State.STOPPED, State.CRASHED)


class LayerKeeper(Struct, frozen=True):
    """The layers of one server, in one of its projects."""

    api: Api
    locks: Path

    def all(self) -> tuple[Layer, ...]:
        """Every finished one."""
        listed = self._listed()
        grounds = {config.get(GROUND) for _, config in listed}
        return tuple(
            Layer(
                key=config[LAYER],
                size=identity.number(config.get(SIZE)),
                made=seconds(str(found.get("created_at", ""))),
                needed=config[LAYER] in grounds,
            )
            for found, config in listed
            if _is_layer(found, config)
        )

    def find(self, key: str) -> Mapping[str, Any] | None:
        """The instance that is a layer; None = there is none of that key."""
        seen = self.api.found(resource("instances", _name(key)))
        return seen[0] if seen and seen[0]["config"].get(LAYER) == key else None

    def kept(self, key: str) -> AbstractContextManager[None]:
        """While a layer is looked at and used, nobody of this user's removes it."""
        return held(self.locks / f"incus-layer-{key[:IN_A_NAME]}")

    def freeze(self, one: Handle, key: str) -> bool:
        """As ``IncusDriver.freeze``."""
        if one.state not in POSSIBLE:
            text = f"{one.mark.name} is {one.state.value}: no layer can be made of it now"
            raise WrongState(text, hint="vmctl status")
        with self.kept(key):
            if self.find(key):
                return False
            self.sweep(one.name, key)
            holds = _held(self.api, one)
            try:
                self._finish(self._copied(one, key), one, key, holds)
                one.patch({GROUND: key})
            except BaseException:
                with interrupt.shielded(), suppress(VmctlError):  # what failed first is what matters
                    self._delete(_name(key))
                raise
            return True

    def remove(self, key: str) -> bool:
        """As ``IncusDriver.remove_layer``."""
        with self.kept(key):
            if any(config.get(GROUND) == key for _, config in self._listed()):
                return False
            if self.find(key):
                self._delete(_name(key))
            return True

    def sweep(self, own: str, key: str = "") -> None:
        """Remove what a vmctl that was killed left of layers of an instance, or of one layer."""
        for found, config in self._listed():
            if config.get(MADE_OF) == own or (key and found["name"] == _name(key) and MADE_OF in config):
                self._delete(str(found["name"]))

    def _copied(self, one: Handle, key: str) -> Handle:
        """A copy of an instance, not yet a layer."""
        found = one.found
        config = copies.kept(found, copies.OF_THE_DISK) | {MADE_OF: one.name, "boot.autostart": "false"}
        parts = copies.only(found, config, copies.root(found))
        body = {"name": _name(key), "type": "container", "source": copies.source(found), **parts}
        member = str(found["location"]) if self.api.is_clustered else ""
        self.api.change("POST", resource("instances"), body | {"profiles": found["profiles"]}, target=member)
        return handle.kept(self.api, _name(key))

    def _finish(self, copy: Handle, one: Handle, key: str, holds: int) -> None:
        below = self._below(one)
        (root,) = copies.root(one.found).values()
        own = max(0, holds - below) if instance.clones(self.api, root["pool"]) else holds or below
        marks = {LAYER: key, GROUND: one.mark.ground, HOLDS: str(holds or below), SIZE: str(own)}
        prefixes = (*copies.OF_THE_SERVER, *copies.OF_THE_DISK, "boot.")
        rest = {"devices": copies.root(copy.found), "description": f"vmctl: layer {key[:12]}"}
        copy.put(lambda found: {"config": copies.kept(found, prefixes) | marks, **rest})

    def _below(self, one: Handle) -> int:
        """Bytes of the layer or the box that an instance began with."""
        if one.mark.ground and (layer := self.find(one.mark.ground)):
            return identity.number(layer["config"].get(HOLDS))
        image = self.api.found(resource("images", one.config.get("volatile.base_image") or "none"))
        return int(image[0].get("size") or 0) if image else 0

    def _delete(self, name: str) -> None:
        with suppress(WrongState):
            handle.kept(self.api, name).after_operations().delete()

    def _listed(self) -> list[tuple[Mapping[str, Any], Mapping[str, str]]]:
        return [(each, each.get("config") or {}) for each in self.api.instances()]


def _name(key: str) -> str:
    """What the server calls a layer."""
    return NAME.format(key[:IN_A_NAME])


def _is_layer(found: Mapping[str, Any], config: Mapping[str, str]) -> bool:
    key = config.get(LAYER, "")
    return bool(KEY.fullmatch(key)) and found["name"] == _name(key)


def _held(api: Api, one: Handle) -> int:
    """Bytes in a running instance's root file system; 0 = not known.

    The guest counts, for few storage pools can tell.
    """
    if one.state is not State.RUNNING or not api.can("container_exec_recording"):
        return 0
    with suppress(VmctlError):  # guests without a shell or du
        words = {"command": ["/bin/sh", "-c", COUNT], "environment": {"PATH": "/usr/bin:/bin"}}
        options = {"wait-for-websocket": False, "record-output": True, "interactive": False}
        done = api.change("POST", f"{one.path}/exec", {**words, **options}, within=PATIENCE)
        logs = (done.get("metadata") or {}).get("output") or {}
        kibibytes = _taken(api, [str(path) for _, path in sorted(logs.items())])
        return kibibytes * 1024
    return 0


def _taken(api: Api, logs: list[str]) -> int:
    """The number that a command printed; its logs are removed."""
    printed = [api.text(path) for path in logs]
    for path in logs:
        api.change("DELETE", path)
    first = printed[0].split()[:1] if printed else []
    return int(first[0]) if first and first[0].isdigit() else 0
