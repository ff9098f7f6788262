"""The driver for Incus and LXD: what vmctl asks of a hypervisor, in the words of their REST API."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from msgspec import structs

from vmctl.driver import CONTAINER, Address, Definition, Disk, Features, Forward, Host, Observed, State, Tag
from vmctl.errors import VmctlError, WrongState
from vmctl.knobs import refusal
from vmctl.powers import Exported, Layer, Snapshot
from vmctl.spec import MachineSpec
from vmctl_incus import (
    checks,
    folders,
    handle,
    images,
    knobs,
    observation,
    other_hosts,
    proxies,
    servers,
    starting,
)
from vmctl_incus.api import Api
from vmctl_incus.box_copies import BoxKeeper
from vmctl_incus.creation import Creator, RequestBuilder
from vmctl_incus.handle import Handle
from vmctl_incus.identity import instance_name
from vmctl_incus.layers import LayerKeeper
from vmctl_incus.networks import ProjectNetworks
from vmctl_incus.observation import member
from vmctl_incus.requesting import ServerError
from vmctl_incus.snapshots import Snapshotter

PRESS = 1
"""Seconds that the server waits for a guest to shut down, once it has pressed the button; vmctl waits by itself."""


class IncusDriver:
    """One server of Incus or LXD: containers."""

    name = "incus"

    def __init__(self, host: Host) -> None:
        self._host = host
        self._wanted = servers.Wanted.of(host.options)

    @cached_property
    def _api(self) -> Api:
        return Api(*servers.resolve(self._wanted, self._host.where))

    @property
    def features(self) -> Features:
        """What containers can do, on every host."""
        return _features((folders.KIND,), here=True)

    def features_of(self, spec: MachineSpec) -> Features:
        """As ``features``; no folders on other hosts, nor such whose owners cannot be mapped."""
        here = other_hosts.is_local(self._api, knobs.target(spec))
        found = _features(folders.kinds(spec) if here else (), here=here, copies=self._requests.copies(spec))
        return structs.replace(found, kernel=str(self._api.environment.get("kernel_version", "")))

    @property
    def where(self) -> str:
        """Which server, and which of its projects."""
        return servers.place(self._api.endpoint, self._api.project)

    def usable(self) -> str:
        """Why neither Incus nor LXD can be used here, or ""."""
        try:
            return checks.unusable(self._api)
        except VmctlError as error:
            return f"{error.brief} ({error.hint})" if error.hint else error.brief

    def check(self, definition: Definition) -> None:
        """Refuse what cannot work, all faults of the machine at once."""
        spec = definition.spec
        found = list(checks.offline(spec, self._wanted))
        if not found:
            seen = observation.fetch(self._api, definition.name)
            found += checks.faults(definition, self._api, seen[0] if seen else None)
        if found:
            raise refusal(spec, found)
        if warning := self._requests.limits(spec):
            self._host.warn(warning, "")

    def create(self, definition: Definition, base: Disk) -> None:
        """Make the instance from the box's image; a failed attempt leaves nothing."""
        if self._found(definition.name, definition.tag) is not None:
            return
        self._requests.check_base(definition, base)
        size, place = definition.spec.disk or base.virtual_size, self._requests.place(definition.spec)
        if not base.layer:
            self._creator.of_box(definition, base, size, place)
            return
        with self._layers.kept(base.layer):
            layer = self._layers.find(base.layer)
            if layer is None:
                raise WrongState(f"there is no layer {base.layer[:12]}", hint="vmctl up --cold")
            self._creator.make(definition, self._requests.parts_of(definition, size, layer, base.layer), place)

    def update(self, definition: Definition) -> None:
        """Make a stopped instance's configuration and devices match."""
        one = self._off(definition.name, definition.tag).after_operations()
        with self._networks.held_for(definition):
            self._networks.ensure(definition)
            one.put(lambda found: self._requests.again(definition, one.mark, found))
        self._networks.prune(definition.tag.project)

    def start(self, name: str, tag: Tag) -> None:
        """Start, or go on after a pause."""
        one = self._ours(name, tag)
        if one.state is State.PAUSED:
            one.act("unfreeze")
        elif one.is_off and one.after_operations().is_off:  # an earlier vmctl may have begun to start it
            starting.start(self._api, one, self._host.home, self._memory)

    def stop(self, name: str, tag: Tag, *, force: bool = False) -> None:
        """Press the power button and return, or cut the power."""
        one = self._found(name, tag)
        if one is None:
            return
        with suppress(handle.Gone):
            self._stop(one, force=force)

    def _stop(self, one: Handle, *, force: bool) -> None:
        if force:
            one.bring_down()
        elif (one.after_operations() if one.is_off else one).state not in (*observation.OFF, State.PAUSED):
            body = {"action": "stop", "force": False, "timeout": PRESS}
            with suppress(ServerError):  # it may have pressed it already
                self._api.begin("PUT", f"{one.path}/state", body)

    def destroy(self, name: str, tag: Tag) -> None:
        """Remove the instance with its snapshots, and networks that nobody uses any more."""
        one = self._found(name, tag)
        if one is not None:
            with suppress(handle.Gone):
                one.bring_down()
                one.delete()
        self._layers.sweep(instance_name(name))
        images.sweep(self._api, instance_name(name))
        self._networks.prune(tag.project)

    def states(self) -> Mapping[str, Observed]:
        """All instances with vmctl's tag, in one call; also those that the server cannot tell of now."""
        return observation.machines(self._api)

    def observe(self, name: str) -> Observed | None:
        """One instance with vmctl's tag."""
        return observation.machine(self._api, name)

    def address(self, name: str, tag: Tag) -> Address | None:
        """The host's end of the SSH forward; of a machine on another host, that of its server."""
        one = self._found(name, tag)
        return proxies.address(one.found) if one else None

    def console(self, name: str, tag: Tag) -> bytes:
        """What the instance wrote to its console; of a running one, what came since it was asked last."""
        return self._api.text(f"{self._ours(name, tag).path}/console")

    def set_forwards(self, name: str, tag: Tag, forwards: tuple[Forward, ...]) -> None:
        """Exchange the proxy devices of a running instance but for SSH's."""
        one = self._ours(name, tag)
        if one.state is not State.RUNNING:
            raise WrongState(f"{name} is {one.found['status'].lower()}; it must run", hint="vmctl up")
        proxies.exchange(one, forwards)

    # -- Snapshots

    def snapshots(self, name: str, tag: Tag) -> tuple[Snapshot, ...]:
        """The instance's snapshots, parents first."""
        return Snapshotter(self._api, self._ours(name, tag)).all()

    def save_snapshot(self, name: str, tag: Tag, snapshot: str, *, replace: bool = False, note: str = "") -> Snapshot:
        """Keep the root file system as it is now; memory is not kept."""
        return Snapshotter(self._api, self._ours(name, tag)).save(snapshot, replacing=replace, note=note)

    def restore_snapshot(self, name: str, tag: Tag, snapshot: str) -> None:
        """Go back to a snapshot; a running instance is cut off first."""
        one = self._ours(name, tag)
        snapshotter = Snapshotter(self._api, one)
        if all(each.name != snapshot for each in snapshotter.all()):
            raise WrongState(f"{name} has no snapshot {snapshot!r}", hint="vmctl snapshot list")
        if not one.is_off:
            one.cut()
        snapshotter.restore(snapshot)

    def remove_snapshot(self, name: str, tag: Tag, snapshot: str) -> None:
        """Forget a snapshot; what builds on it is kept."""
        Snapshotter(self._api, self._ours(name, tag)).remove(snapshot)

    # -- Layers

    def layers(self) -> tuple[Layer, ...]:
        """All of the server's project, whoever made them."""
        return self._layers.all()

    def freeze(self, name: str, tag: Tag, key: str) -> bool:
        """Keep the root file system as it is now, apart from the instance; that goes on."""
        return self._layers.freeze(self._ours(name, tag), key)

    def remove_layer(self, key: str) -> bool:
        """Remove a layer, unless something stands on it."""
        return self._layers.remove(key)

    # -- Exports

    def clone(self, definition: Definition, source: str, tag: Tag) -> None:
        """Make an instance with the root file system of a stopped one."""
        one = self._off(source, tag)
        if self._found(definition.name, definition.tag) is None:
            size = definition.spec.disk or one.mark.disk
            parts = self._requests.parts_of(definition, size, one.found, one.mark.ground)
            self._creator.make(definition, parts, member(one.found))

    def export(self, name: str, tag: Tag, directory: Path) -> Exported:
        """Write a stopped instance's root file system as an image for containers."""
        return images.export(self._api, self._off(name, tag), directory)

    # -- Copies of boxes

    def box_copies(self) -> tuple[Layer, ...]:
        """What the server keeps of boxes, in its project, whoever had it brought."""
        return self._boxes.all()

    def remove_box_copy(self, key: str) -> bool:
        """Remove what it keeps of one, unless a machine was made from that."""
        return self._boxes.remove(key)

    # -- parts of the above

    def _found(self, name: str, tag: Tag) -> Handle | None:
        return handle.find(self._api, name, tag)

    def _ours(self, name: str, tag: Tag) -> Handle:
        """As ``_found``, but absence is an error too."""
        one = self._found(name, tag)
        if one is None:
            raise WrongState(f"there is no machine {name} in {self._api.product}", hint="vmctl up")
        return one

    def _off(self, name: str, tag: Tag) -> Handle:
        """As ``_ours``; it must be off."""
        one = self._ours(name, tag)
        if not one.is_off:
            raise WrongState(f"{name} is {one.found['status'].lower()}; it must be off", hint="vmctl halt")
        return one

    @cached_property
    def _requests(self) -> RequestBuilder:
        return RequestBuilder(self._api, self._memory)

    @property
    def _creator(self) -> Creator:
        return Creator(self._api, self._requests, self._boxes, self._networks, self._locks, self.destroy)

    @property
    def _networks(self) -> ProjectNetworks:
        return ProjectNetworks(self._api, self._locks)

    @property
    def _memory(self) -> folders.Memory:
        return folders.Memory(self._api, self._host.home / "incus-unshifted")

    @property
    def _layers(self) -> LayerKeeper:
        return LayerKeeper(self._api, self._locks)

    @property
    def _boxes(self) -> BoxKeeper:
        return BoxKeeper(self._api, self._locks)

    @property
    def _locks(self) -> Path:
        return self._host.home / "locks"


def _features(kinds: tuple[Any, ...], *, here: bool, copies: bool = False) -> Features:
    return Features(
        formats=(CONTAINER,), folders=kinds, nic1_address="", user_network=here, copies_layers=copies
    )  # fmt: skip
