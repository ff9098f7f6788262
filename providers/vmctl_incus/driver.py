"""The driver for Incus and LXD: what vmctl asks of a hypervisor, in the words of their REST API."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from vmctl import interrupt
from vmctl.driver import CONTAINER, UNTOLD, Address, Definition, Disk, Features, Host, Observed, State, Tag
from vmctl.errors import UsageError, VmctlError, WrongState
from vmctl.flock import held
from vmctl.powers import Snapshot
from vmctl.spec import MachineSpec
from vmctl_incus import (
    checks,
    elsewhere,
    folders,
    handle,
    identity,
    images,
    instance,
    knobs,
    networks,
    seeding,
    servers,
    states,
)
from vmctl_incus.door import Door, resource
from vmctl_incus.errors import ServerError
from vmctl_incus.handle import Handle
from vmctl_incus.identity import Mark, instance_name
from vmctl_incus.snapshots import Snapshotter

PRESS = 1
"""Seconds that the server waits for a guest to shut down, once it has pressed the button; vmctl waits by itself."""
CANNOT_SHIFT = "idmapping abilities are required"
"""What the server says when a folder's file system cannot be mounted with other owners, whatever its kernel can."""


class IncusDriver:
    """One server of Incus or LXD: containers."""

    name = "incus"

    def __init__(self, host: Host) -> None:
        self._host = host
        self._wanted = servers.Wanted.of(host.options)

    @cached_property
    def _door(self) -> Door:
        return Door(*servers.resolve(self._wanted, self._host.where))

    @property
    def features(self) -> Features:
        """What containers can do, on every host."""
        return _features((folders.KIND,), here=True)

    def features_of(self, spec: MachineSpec) -> Features:
        """As ``features``; folders whose owners cannot be mapped are not offered, nor any to machines elsewhere."""
        here = elsewhere.is_here(self._door, _target(spec))
        return _features(folders.kinds(spec) if here else (), here=here)

    @property
    def where(self) -> str:
        """Which server, and which of its projects."""
        return servers.place(self._door.endpoint, self._door.project)

    def usable(self) -> str:
        """Why neither Incus nor LXD can be used here, or ""."""
        try:
            return checks.unusable(self._door)
        except VmctlError as error:
            return f"{error.brief} ({error.hint})" if error.hint else error.brief

    def check(self, definition: Definition) -> None:
        """Refuse what cannot work, all faults of the machine at once."""
        spec = definition.spec
        found = list(checks.offline(spec, self._wanted))
        if not found:
            seen = handle.look(self._door, definition.name)
            found += checks.faults(definition, self._door, seen[0] if seen else None)
        if found:
            raise checks.refusal(spec, found)
        self._tell_limits(spec)

    def create(self, definition: Definition, base: Disk) -> None:
        """Make the instance from the box's image; a failed attempt leaves nothing."""
        if self._found(definition.name, definition.tag) is not None:
            return
        self._check_base(definition, base)
        source = {"type": "image", "fingerprint": images.ensure(self._door, base, self._locks)}
        self._make(definition, source, definition.spec.disk or base.virtual_size)

    def update(self, definition: Definition) -> None:
        """Make a stopped instance's configuration and devices match."""
        one = self._off(definition.name, definition.tag).settled()
        with self._networks_held(definition):
            networks.ensure(self._door, definition)
            one.put(lambda found: self._wanted_of(definition, one.mark, found))
        self._prune(definition.tag.project)

    def start(self, name: str, tag: Tag) -> None:
        """Start, or go on after a pause."""
        one = self._ours(name, tag)
        if one.state is State.PAUSED:
            one.act("unfreeze")
        elif one.state not in (State.RUNNING, State.STARTING):
            one.settled()
            said = seeding.put(self._door, one.name, one.mark, self._host.home)
            one.patch({**said, identity.RUN: secrets.token_hex(8)})
            self._start(one)

    def stop(self, name: str, tag: Tag, *, force: bool = False) -> None:
        """Press the power button and return, or cut the power."""
        one = self._found(name, tag)
        if one is None or one.is_off:
            return
        if force:
            one.cut()
        elif one.state is not State.PAUSED:
            body = {"action": "stop", "force": False, "timeout": PRESS}
            with suppress(ServerError):  # it may have pressed it already
                self._door.begin("PUT", f"{one.path}/state", body)

    def destroy(self, name: str, tag: Tag) -> None:
        """Remove the instance with its snapshots, and networks that nobody uses any more."""
        one = self._found(name, tag)
        if one is not None:
            if not one.is_off:
                one.cut()
            one.delete()
        self._prune(tag.project)

    def states(self) -> Mapping[str, Observed]:
        """All instances with vmctl's tag, in one call; also those that the server cannot tell of now."""
        observed = {}
        for found in self._door.get(resource("instances"), recursion=1) or ():
            if mark := identity.read(found.get("config")):
                observed[mark.name] = _observed(found, mark)
            elif handle.untold(found):
                observed[str(found["name"])] = _untold(handle.Away(self._door, "", str(found.get("location", ""))))
        return observed

    def observe(self, name: str) -> Observed | None:
        """One instance with vmctl's tag."""
        try:
            seen = handle.look(self._door, name)
        except handle.Away as error:
            return _untold(error)
        mark = identity.read(seen[0].get("config")) if seen else None
        return _observed(seen[0], mark) if seen and mark and mark.name == name else None

    def address(self, name: str, tag: Tag) -> Address | None:
        """The host's end of the SSH forward; of a machine elsewhere, that of its server."""
        one = self._found(name, tag)
        return instance.address(one.found) if one else None

    def console(self, name: str, tag: Tag) -> bytes:
        """What the instance wrote to its console; of a running one, what came since it was asked last."""
        return self._door.text(f"{self._ours(name, tag).path}/console")

    # -- Snapshots

    def snapshots(self, name: str, tag: Tag) -> tuple[Snapshot, ...]:
        """The instance's snapshots, parents first."""
        return Snapshotter(self._door, self._ours(name, tag)).all()

    def save_snapshot(self, name: str, tag: Tag, snapshot: str, *, replace: bool = False, note: str = "") -> Snapshot:
        """Keep the root file system as it is now; memory is not kept."""
        return Snapshotter(self._door, self._ours(name, tag)).save(snapshot, replacing=replace, note=note)

    def restore_snapshot(self, name: str, tag: Tag, snapshot: str) -> None:
        """Go back to a snapshot; a running instance is cut off first."""
        one = self._ours(name, tag)
        snapshotter = Snapshotter(self._door, one)
        if all(each.name != snapshot for each in snapshotter.all()):
            raise WrongState(f"{name} has no snapshot {snapshot!r}", hint="vmctl snapshot list")
        if not one.is_off:
            one.cut()
        snapshotter.restore(snapshot)

    def remove_snapshot(self, name: str, tag: Tag, snapshot: str) -> None:
        """Forget a snapshot; what builds on it is kept."""
        Snapshotter(self._door, self._ours(name, tag)).remove(snapshot)

    # -- parts of the above

    def _make(self, definition: Definition, source: Mapping[str, Any], size: int) -> None:
        chosen, own = knobs.read(definition.spec), instance_name(definition.name)
        config = instance.config(definition, chosen, self._door, size) | {identity.SNAPSHOT: "", identity.SEEDED: ""}
        try:
            with self._networks_held(definition):
                networks.ensure(self._door, definition)
                body = {"name": own, "source": source, "type": "container", "config": config}
                body |= {"devices": self._devices(definition, chosen, None)}
                place = self._placed(definition.spec)
                body |= {"profiles": list(chosen.profiles)}
                self._door.change("POST", resource("instances"), body, taking=self._one_at_a_time(), **place)
        except BaseException:
            with interrupt.shielded(), suppress(VmctlError):  # what failed first is what matters
                self.destroy(definition.name, definition.tag)
            raise

    def _devices(self, definition: Definition, chosen: knobs.Knobs, found: Mapping[str, Any] | None) -> dict[str, Any]:
        made = instance.devices(definition, chosen, self._door)
        if elsewhere.is_here(self._door, _location(found) if found else chosen.target):
            return made
        return made | {instance.SSH: elsewhere.device(definition.spec.ssh_port, found["devices"] if found else None)}

    def _placed(self, spec: MachineSpec) -> dict[str, str]:
        """Which member of a cluster makes it, unless told: the one on this host; of a remote, the server chooses."""
        local = str(self._door.environment.get("server_name")) if self._door.endpoint.is_local else ""
        target = (_target(spec) or local) if self._door.is_clustered else ""
        return {"target": target} if target else {}

    def _check_base(self, definition: Definition, base: Disk) -> None:
        known = self._door.environment.get("architectures") or [base.arch]
        if base.arch not in known:
            raise UsageError(
                f"the box is for {base.arch}, and {self._door.endpoint.url} runs {', '.join(known)}",
                hint="use a box for this host, or `provider: libvirt`, which emulates",
            )
        if definition.spec.disk is not None and definition.spec.disk < base.virtual_size // 10:
            raise UsageError(
                f"machines.{definition.spec.name}.disk: the box does not fit into {definition.spec.disk} bytes"
            )

    def _tell_limits(self, spec: MachineSpec) -> None:
        """Say so where the Vmfile's size of the disk means nothing here."""
        chosen = knobs.read(spec)
        if spec.disk is not None:
            pool = instance.root_device(self._door, chosen, instance.profile_devices(self._door, chosen))["pool"]
            if not instance.limits_size(self._door, pool):
                text = f"{spec.name}: the storage pool {pool!r} is a plain directory, which does not limit `disk`"
                self._host.warn(text, "")

    def _wanted_of(self, definition: Definition, mark: Mark, found: Mapping[str, Any]) -> dict[str, Any]:
        """Configuration, devices and profiles of an instance that is there."""
        chosen = knobs.read(definition.spec)
        size = max(definition.spec.disk or 0, mark.disk)
        kept = {key: value for key, value in found["config"].items() if key.startswith(instance.KEPT)}
        config = {**instance.config(definition, chosen, self._door, size), **kept}
        devices = self._devices(definition, chosen, found)
        body = {"config": config, "devices": devices, "profiles": list(chosen.profiles)}
        return body | folders.without_shift(body) if config.get(identity.UNSHIFTED) else body

    def _start(self, one: Handle) -> None:
        if not elsewhere.is_here(self._door, _location(one.found)):
            elsewhere.start(self._door, one)
            return
        try:
            one.act("start")
        except ServerError as error:
            if CANNOT_SHIFT not in error.brief:
                raise
            one.put(folders.without_shift)
            one.act("start")

    def _found(self, name: str, tag: Tag) -> Handle | None:
        return handle.take(self._door, name, tag)

    def _ours(self, name: str, tag: Tag) -> Handle:
        """As ``_found``, but absence is an error too."""
        one = self._found(name, tag)
        if one is None:
            raise WrongState(f"there is no machine {name} in {self._door.product}", hint="vmctl up")
        return one

    def _off(self, name: str, tag: Tag) -> Handle:
        """As ``_ours``; it must be off."""
        one = self._ours(name, tag)
        if not one.is_off:
            raise WrongState(f"{name} is {one.found['status'].lower()}; it must be off", hint="vmctl halt")
        return one

    def _one_at_a_time(self) -> AbstractContextManager[None]:
        """A cluster puts an instance where there are fewest, and would choose alike for those that come at once."""
        return held(self._locks / "incus-placement") if self._door.is_clustered else nullcontext()

    @property
    def _locks(self) -> Path:
        return self._host.home / "locks"

    def _networks_held(self, definition: Definition) -> AbstractContextManager[None]:
        """While networks of the project have no machine yet, nobody of this user's removes them."""
        return self._held(definition.tag.project) if definition.nics else nullcontext()

    def _held(self, project: str) -> AbstractContextManager[None]:
        return held(self._locks / f"incus-networks-{project[:32]}")

    def _prune(self, project: str) -> None:
        if networks.unused(self._door, project):
            with self._held(project):
                networks.prune(self._door, project)


def _features(kinds: tuple[Any, ...], *, here: bool) -> Features:
    return Features(formats=(CONTAINER,), folders=kinds, nic1_address="", user_network=here)


def _target(spec: MachineSpec) -> str:
    """The member that the Vmfile wants; knobs that ``check`` refuses mean none."""
    said = knobs.options(spec).get("target")
    return said if isinstance(said, str) else ""


def _member(found: Mapping[str, Any]) -> str:
    return "" if (location := _location(found)) == elsewhere.UNCLUSTERED else location


def _location(found: Mapping[str, Any]) -> str:
    """The member that has an instance."""
    return str(found.get("location", ""))


def _observed(found: Mapping[str, Any], mark: Mark) -> Observed:
    state = states.state(found["status"])
    run = mark.run if state in (State.RUNNING, State.PAUSED) else ""
    return Observed(state=state, tag=mark.tag, run=run, raw=str(found["status"]), member=_member(found))


def _untold(error: handle.Away) -> Observed:
    return Observed(state=State.UNKNOWN, tag=UNTOLD, raw=error.raw, member=error.member)
