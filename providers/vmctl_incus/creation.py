"""Making instances: what a request for one says (configuration, devices, profiles, place), and sending it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import Any

from msgspec import Struct

from vmctl import interrupt
from vmctl.driver import Definition, Disk, Tag
from vmctl.errors import UsageError, VmctlError
from vmctl.flock import held
from vmctl.spec import MachineSpec
from vmctl_incus import copies, folders, identity, instance, knobs, observation, other_hosts, proxies
from vmctl_incus.api import Api, resource
from vmctl_incus.box_copies import BoxKeeper
from vmctl_incus.folders import Memory
from vmctl_incus.identity import Mark, instance_name
from vmctl_incus.networks import ProjectNetworks
from vmctl_incus.requesting import ServerError

SMALLEST = 10
"""A box that is full has this many times the size that it takes."""


class RequestBuilder:
    """What requests to one server say."""

    def __init__(self, api: Api, memory: Memory) -> None:
        self._api = api
        self._memory = memory
        self._copying: dict[tuple[str, ...], bool] = {}

    def parts(self, definition: Definition, size: int) -> dict[str, Any]:
        """Configuration, devices and profiles of a new instance.

        Args:
            definition: the machine.
            size: of its disk, in bytes.
        """
        chosen = knobs.read(definition.spec)
        config = instance.config(definition, chosen, self._api, size)
        devices = self._devices(definition, None)
        made: dict[str, Any] = {"config": config, "devices": devices, "profiles": list(chosen.profiles)}
        return made | folders.without_shift(made) if self._memory.holds(devices) else made

    def parts_of(self, definition: Definition, size: int, found: Mapping[str, Any], ground: str) -> dict[str, Any]:
        """As ``parts``, of one that begins with the disk of another instance; also where that is from.

        Args:
            definition: the machine.
            size: of its disk, in bytes.
            found: the other instance.
            ground: key of the layer that the disk is, or stands on; "" = none.
        """
        made = self.parts(definition, size)
        if found["config"].get(identity.UNSHIFTED):
            made |= folders.without_shift(made)
        config = made["config"] | {identity.GROUND: ground}
        devices = copies.with_own_addresses(made["devices"], found)
        return made | {"source": copies.source(found), **copies.only(found, config, devices)}

    def again(self, definition: Definition, mark: Mark, found: Mapping[str, Any]) -> dict[str, Any]:
        """As ``parts``, of an instance that is there."""
        made = self.parts(definition, max(definition.spec.disk or 0, mark.disk))
        kept = {key: value for key, value in found["config"].items() if key.startswith(instance.KEPT)}
        made |= {"config": {**made["config"], **kept}, "devices": self._devices(definition, found)}
        unshifted = made["config"].get(identity.UNSHIFTED) or self._memory.holds(made["devices"])
        return made | folders.without_shift(made) if unshifted else made

    def place(self, spec: MachineSpec) -> str:
        """Which member of a cluster makes it, unless told: the one on this host; "" = the remote server chooses."""
        local = str(self._api.environment.get("server_name")) if self._api.endpoint.is_local else ""
        return (knobs.target(spec) or local) if self._api.is_clustered else ""

    def check_base(self, definition: Definition, base: Disk) -> None:
        """See that the box is one for this server, and fits.

        Raises:
            UsageError: it is not, or does not.
        """
        known = self._api.environment.get("architectures") or [base.arch]
        if base.arch not in known:
            raise UsageError(
                f"the box is for {base.arch}, and {self._api.endpoint.url} runs {', '.join(known)}",
                hint="vmctl box list -i    # take one for this host, or `provider: libvirt`, which emulates",
            )
        if definition.spec.disk is not None and definition.spec.disk < base.virtual_size // SMALLEST:
            raise UsageError(
                f"machines.{definition.spec.name}.disk: the box does not fit into {definition.spec.disk} bytes"
            )

    def limits(self, spec: MachineSpec) -> str:
        """What to tell where the Vmfile's size of the disk means nothing; "" = nothing."""
        if spec.disk is None or instance.limits_size(self._api, pool := self._pool(spec)):
            return ""
        return f"{spec.name}: the storage pool {pool!r} is a plain directory, which does not limit `disk`"

    def copies(self, spec: MachineSpec) -> bool:
        """Whether a machine's storage pool copies disks, and does not clone them; asked once."""
        if any(knobs.faults(spec)):
            return False
        chosen = knobs.read(spec)
        key = (chosen.pool, *chosen.profiles)
        if key not in self._copying:
            with suppress(VmctlError):  # `check` tells of it
                self._copying[key] = not instance.clones(self._api, self._pool(spec))
        return self._copying.get(key, False)

    def _pool(self, spec: MachineSpec) -> str:
        chosen = knobs.read(spec)
        return instance.root_device(self._api, chosen, instance.profile_devices(self._api, chosen))["pool"]

    def _devices(self, definition: Definition, found: Mapping[str, Any] | None) -> dict[str, Any]:
        chosen = knobs.read(definition.spec)
        made = instance.devices(definition, chosen, self._api)
        if other_hosts.is_local(self._api, observation.location(found) if found else chosen.target):
            return made
        return made | {proxies.SSH: other_hosts.device(definition.spec.ssh_port, found["devices"] if found else None)}


class Creator(Struct, frozen=True):
    """Has instances made by one server, in one of its projects; what failed is removed again."""

    api: Api
    requests: RequestBuilder
    boxes: BoxKeeper
    networks: ProjectNetworks
    locks: Path
    destroy: Callable[[str, Tag], None]
    """``IncusDriver.destroy``."""

    def of_box(self, definition: Definition, base: Disk, size: int, place: str) -> None:
        """Make one that begins with its box.

        Args:
            definition: the machine.
            base: the box.
            size: of its disk, in bytes.
            place: member of a cluster; "" = the server chooses.
        """
        parts = self.requests.parts(definition, size)
        ground = self.boxes.ground(base, parts, place)
        if ground is not None:
            try:
                self.make(definition, self.requests.parts_of(definition, size, ground, ""), place)
            except ServerError:
                if self.api.found(resource("instances", str(ground["name"]))) is not None:
                    raise
            else:
                return
        image = {"type": "image", "fingerprint": self.boxes.image(base)}
        self.make(definition, {"source": image, **parts}, place)

    def make(self, definition: Definition, parts: Mapping[str, Any], member: str) -> None:
        """Make one from the parts of a request; a failed attempt leaves nothing."""
        body = {"name": instance_name(definition.name), "type": "container", **parts}
        try:
            with self.networks.held_for(definition):
                self.networks.ensure(definition)
                self.api.change("POST", resource("instances"), body, taking=self._one_at_a_time(), target=member)
        except BaseException:
            with interrupt.shielded(), suppress(VmctlError):  # what failed first is what matters
                self.destroy(definition.name, definition.tag)
            raise

    def _one_at_a_time(self) -> AbstractContextManager[None]:
        """A cluster puts an instance where there are fewest, and would choose alike for those that come at once."""
        return held(self.locks / "incus-placement") if self.api.is_clustered else nullcontext()
