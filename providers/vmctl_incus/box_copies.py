"""What the server keeps of boxes for machines to come: their images, and grounds.

An unprivileged container's files belong to other numbers than those of its box, and the server gives them to these when
an instance first starts: a second or more for each new machine. A ground is an instance that had that done and never
ran; where the pool clones disks, machines begin with it. There is one for each box, pool, member and map of numbers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from msgspec import Struct, structs

from vmctl import interrupt
from vmctl.driver import Disk
from vmctl.errors import VmctlError, WrongState
from vmctl.flock import held, is_held
from vmctl.powers import Layer
from vmctl_incus import copies, handle, identity, images, instance
from vmctl_incus.api import Api, resource
from vmctl_incus.identity import BOX, BOX_SIZE
from vmctl_incus.requesting import ServerError, is_absent
from vmctl_incus.snapshots import seconds

NAME = "vmctl-box-{}-{}"
NEVER = "never"
STARTS_NEVER = {"type": "unix-char", "source": "/dev/vmctl-never", "path": "/dev/vmctl-never"}
"""A device that there is not: the server refuses the start, which it does after it has changed the owners."""
OWN_MAPS = "security.idmap."
"""Settings that give an instance numbers of its own, which no other could begin with."""


class BoxKeeper(Struct, frozen=True):
    """The boxes of one server, in one of its projects."""

    api: Api
    locks: Path

    def all(self) -> tuple[Layer, ...]:
        """One for each box, under its digest; needed are those that a machine was made from."""
        found: dict[str, Layer] = {}
        grounds, used = self._instances()
        copies_found = [
            (str(image["fingerprint"]), int(image.get("size") or 0), str(image.get("uploaded_at", "")))
            for image in self.api.get(resource("images"), recursion=1) or ()
            if images.is_ours(image)
        ]
        for one in grounds:
            config = one["config"]
            size = identity.number(config.get(BOX_SIZE))
            copies_found.append((_box(config), size, str(one.get("created_at", ""))))
        for digest, size, made in copies_found:
            new = Layer(key=digest, size=size, made=seconds(made), needed=digest in used)
            old = found.get(digest, new)
            found[digest] = structs.replace(new, size=max(new.size, old.size), made=max(new.made, old.made))
        return tuple(found.values())

    def remove(self, digest: str) -> bool:
        """Remove a box's image and grounds, unless a machine was made from them; whether they are gone."""
        grounds, used = self._instances()
        if digest in used:
            return False
        for one in grounds:
            if _box(one["config"]) == digest:
                self._delete(str(one["name"]))
        try:
            self.api.change("DELETE", resource("images", digest))
        except ServerError as error:
            return is_absent(error)  # else somebody makes a machine from it right now
        return True

    def image(self, base: Disk) -> str:
        """Have the box's image on the server, and none that no machine was made from; its fingerprint."""
        return images.ensure(self.api, base, self.locks, self._make_room)

    def ground(self, base: Disk, parts: Mapping[str, Any], member: str) -> Mapping[str, Any] | None:
        """The instance for a new machine to begin with, made where there is none; None = it begins with the image.

        Args:
            base: the box.
            parts: the machine's, as its request will say them.
            member: where in a cluster it will be; "" = not known, or there is none.
        """
        (root,) = copies.root(parts).items()
        if not self._pays(parts, root[1]["pool"], member):
            return None
        idmap = parts["config"].get("raw.idmap", "")
        name = _name(base.digest, root[1]["pool"], member, idmap)
        if found := self._find(name, base.digest):
            return found
        with held(self._lock(base.digest)):
            return self._find(name, base.digest) or self._made(name, base, root, idmap, member)

    def _pays(self, parts: Mapping[str, Any], pool: str, member: str) -> bool:
        config = parts["config"]
        if config.get("security.privileged") == "true" or any(key.startswith(OWN_MAPS) for key in config):
            return False
        return bool(member or not self.api.is_clustered) and instance.clones(self.api, pool)

    def _find(self, name: str, digest: str) -> Mapping[str, Any] | None:
        seen = self.api.found(resource("instances", name))
        return seen[0] if seen and seen[0]["config"].get(BOX) == digest else None

    def _made(
        self, name: str, base: Disk, root: tuple[str, Mapping[str, str]], idmap: str, member: str
    ) -> Mapping[str, Any] | None:
        """A new one; None where the server refuses some of it, which is no reason for a machine to fail."""
        fingerprint = self.image(base)
        config = {"boot.autostart": "false", **({"raw.idmap": idmap} if idmap else {})}
        disk = {key: value for key, value in root[1].items() if key != "size"}
        body = {
            "name": name,
            "type": "container",
            "description": f"vmctl: box {base.digest[:12]}",
            "source": {"type": "image", "fingerprint": fingerprint},
            "profiles": [],
            "config": {**config, identity.UNFINISHED: base.digest},
            "devices": {root[0]: disk, NEVER: STARTS_NEVER},
        }
        try:
            self._delete(name)  # what a vmctl that was killed left
            self.api.change("POST", resource("instances"), body, target=member)
            return self._finished(name, base, {root[0]: disk})
        except BaseException as error:
            with interrupt.shielded(), suppress(VmctlError):  # what failed first is what matters
                self._delete(name)
            if isinstance(error, ServerError | WrongState):
                return None
            raise

    def _finished(self, name: str, base: Disk, devices: Mapping[str, Any]) -> Mapping[str, Any]:
        one = handle.kept(self.api, name)
        with suppress(ServerError):  # as it must
            one.act("start")
        one.again()
        marks = {BOX: base.digest, BOX_SIZE: str(base.path.stat().st_size)}

        def body(found: Mapping[str, Any]) -> dict[str, Any]:
            config = {key: value for key, value in found["config"].items() if key != identity.UNFINISHED}
            return {"config": {**config, **marks}, "devices": dict(devices)}

        one.put(body)
        return one.found

    def _make_room(self) -> None:
        for copy in self.all():
            if not copy.needed:  # it comes again when a machine is made from it
                self.remove(copy.key)

    def _instances(self) -> tuple[list[dict[str, Any]], set[str]]:
        """Grounds, also half-made ones of killed vmctls, and the digests of what all other instances were made from."""
        listed = [each for each in self.api.instances() if each.get("config")]
        grounds = [each for each in listed if _box(each["config"]) and not self._is_in_the_making(each["config"])]
        others = (each["config"] for each in listed if each not in grounds)
        return grounds, {str(config.get("volatile.base_image")) for config in others}

    def _delete(self, name: str) -> None:
        with suppress(WrongState):
            one = handle.kept(self.api, name)
            if _box(one.config):
                one.bring_down()
                one.delete()

    def _is_in_the_making(self, config: Mapping[str, str]) -> bool:
        """Whether a vmctl of this user's makes a ground right now, which needs its image; it holds the lock then."""
        digest = config.get(identity.UNFINISHED)
        return bool(digest) and is_held(self._lock(str(digest)))

    def _lock(self, digest: str) -> Path:
        return self.locks / f"incus-ground-{digest[:32]}"


def _box(config: Mapping[str, str]) -> str:
    """The digest of the box that a ground, finished or not, is of; "" = it is none."""
    return config.get(BOX) or config.get(identity.UNFINISHED) or ""


def _name(digest: str, *parts: str) -> str:
    """What the server calls a ground."""
    return NAME.format(digest[:24], hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12])
