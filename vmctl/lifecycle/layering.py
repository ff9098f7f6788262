"""Layers of one machine: which it may begin with, and freezing new ones while it is provisioned.

A layer holds what its key says and nothing else: so one is frozen only of a machine that was made in this very run,
after exactly the provisioners of its chain, in their order, as long as their inputs are what they were.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, cast

from msgspec import Struct

from vmctl import folders, interrupt
from vmctl.box_facts import DEFAULT_USER, SEEDED_BY_VMCTL
from vmctl.driver import Features
from vmctl.errors import Interrupted, VmctlError
from vmctl.events import Notice, StepDone, StepStarted, Warned
from vmctl.lifecycle import triggers
from vmctl.login import Login
from vmctl.powers import LayerDriver, Layers, features_of
from vmctl.provision import layer_keys
from vmctl.provision.layer_keys import Chain, Surroundings
from vmctl.spec import MachineSpec, Project, Provisioner
from vmctl.store import layer_ledger
from vmctl.store.layer_ledger import LayerNote
from vmctl.store.records import BoxUsed
from vmctl.workspace import Machine, Workspace, require_known

STEP = "freeze"
WORTH_A_COPY = 10.0
"""Seconds of provisioning that a layer has to save where making one copies the machine's disks."""


class Layering(Struct):
    """A machine's chain, and how much of it is on the disk."""

    chain: Chain
    depth: int = 0
    """How many of the chain's provisioners are on the disk."""
    seconds: float = 0.0
    """What those took when they ran."""
    at_stake: float = 0.0
    """What those took that ran since the last layer."""
    holds: bool = True
    """Whether the disk is known to hold these and nothing else."""

    @property
    def key(self) -> str:
        """Key of the layer that is as the disk is; "" = the box is."""
        return self.chain.keys[self.depth - 1] if self.depth else ""

    @property
    def done(self) -> tuple[Provisioner, ...]:
        """The provisioners that are on the disk."""
        return self.chain.items[: self.depth]


def possible(workspace: Workspace, machine: Machine, box: BoxUsed) -> Layering | None:
    """The chain of a machine that does not exist, and the longest part of it that there is a layer of.

    None where there is nothing to provision, or no layers are wanted or possible here.
    """
    driver, spec = workspace.driver(machine.provider), machine.spec
    if spec is None or not spec.provision or not workspace.project.cache.size or not isinstance(driver, Layers):
        return None
    try:
        chain = chain_of(workspace.project, spec, box, features_of(driver, spec), machine.provider)
        there = {layer.key for layer in driver.layers()} if chain.keys else set()
    except (VmctlError, OSError) as error:  # what keeps it from coming up is told by what comes next
        return Layering(chain=Chain(reason=str(error)))
    depth = next((number for number in range(len(chain.keys), 0, -1) if chain.keys[number - 1] in there), 0)
    note = layer_ledger.read(workspace.home).get(chain.keys[depth - 1]) if depth else None
    return Layering(chain=chain, depth=depth, seconds=note.seconds if note else 0.0)


def chain_of(project: Project, spec: MachineSpec, box: BoxUsed, features: Features, provider: str) -> Chain:
    """The chain of a machine that is made from this box."""
    if reason := _why_none(project, spec, box):
        return Chain(reason=reason)
    ground = {
        **_ground(spec, box, provider),
        "mounts": _mounts(spec, features),
        "names": _names(project, spec),
        "knows_others": has_neighbours(project),
    }
    return layer_keys.chain(spec.provision, ground, _surroundings(project, spec, features))


def _surroundings(project: Project, spec: MachineSpec, features: Features) -> Surroundings:
    return Surroundings(
        root=project.root,
        name=project.name,
        folders=tuple(folder.guest for folder in spec.folders),
        is_alone=len(project.machines) == 1,
        others=tuple(
            (one.name, one.hostname, *(f"{nic.name} {nic.ip}" for nic in one.networks))
            for one in project.machines
            if one.networks and one.name != spec.name
        ),
        kernel=features.kernel,
        names=(spec.name, spec.hostname, spec.index, *(one.ip for one in spec.networks)),
    )


def has_neighbours(project: Project) -> bool:
    """Whether guests are told the names of other machines (``vmctl.lifecycle.etc_hosts``)."""
    return any(spec.networks for spec in project.machines)


def _why_none(project: Project, spec: MachineSpec, box: BoxUsed) -> str:
    """Why not even the first provisioner can have a layer; "" = it can."""
    if box.seeding != SEEDED_BY_VMCTL or not box.cloud_init:
        return "its box is not one that vmctl seeds itself (`vmctl box list -i`)"
    if triggers.due(project, "after", "up", spec.name) or triggers.due(project, "before", "provision", spec.name):
        return "triggers run before the provisioners"
    if triggers.due(project, "after", "provision", spec.name):
        return "triggers run after the provisioners, and only where those have run"
    if provisioned := [one.machine for one in spec.depends_on if one.until == "provisioned"]:
        return f"what it becomes may depend on {provisioned[0]} (depends_on)"
    return ""


def _ground(spec: MachineSpec, box: BoxUsed, provider: str) -> Mapping[str, Any]:
    """What a machine is before anything is provisioned, as far as its guest can tell."""
    return {
        "box": [box.digest, *(box.further or ())],
        "seeding": box.seeding,
        "firmware": box.firmware,
        "disk": spec.disk or box.virtual_size,
        "provider": [provider, spec.options.get(provider, {})],
        "user": [spec.user or box.user or DEFAULT_USER, folders.login_uid(spec)],
        "hardware": [spec.cpus, spec.memory, spec.ssh_port],
    }


def _mounts(spec: MachineSpec, features: Features) -> list[Any]:
    """The guest's half of the folders: what its /etc/fstab has of live ones, and where there are copies of others.

    What is in a copy does not count: when a machine comes up it is made what the host has (``vmctl.folders.rsync``).
    """
    found = []
    live = {share.tag: share for share in folders.shares(spec, features, user_uid=None)}
    for one in spec.folders:
        if share := live.get(folders.tag(one)):
            found.append([one.guest, share.tag, share.kind, share.read_only, *one.exclude])
        else:
            found.append([one.guest, "", "rsync", one.read_only, *one.exclude])
    return sorted(found)


def copied_folder(spec: MachineSpec, features: Features) -> str:
    """Path in the guest of a folder that is copied there, as far as the hypervisor tells; "" = there is none."""
    live = {share.tag for share in folders.shares(spec, features, user_uid=None)}
    return next((one.guest for one in spec.folders if folders.tag(one) not in live), "")


def _names(project: Project, spec: MachineSpec) -> list[Any]:
    """What the machines that may share its layers have in common: those of one ``count:``, or itself alone."""
    networks = [[one.name, one.netmask, one.isolated] for one in spec.networks]
    if spec.group and sum(one.group == spec.group for one in project.machines) > 1:
        return [spec.group, networks]
    return [spec.name, spec.hostname, spec.group, spec.index, networks, [one.ip for one in spec.networks]]


class Freezer(Struct):
    """Freezes the disk of a new machine after each provisioner of its chain."""

    workspace: Workspace
    machine: Machine
    login: Login
    layering: Layering
    began: float
    """When the provisioner that runs now began (``time.monotonic``)."""

    def after(self, item: Provisioner) -> None:
        """Make the layer after a provisioner that has succeeded; where that fails, say so, and make none any more."""
        layering, started = self.layering, time.monotonic()
        if not self._is_next(item):
            layering.holds = False
            return
        layering.seconds += started - self.began
        layering.at_stake += started - self.began
        is_wanted = layering.at_stake >= self._least
        try:
            if is_wanted:
                text = f"freezing layer {layering.depth + 1} of {len(layering.chain.keys)}"
                self.workspace.report(StepStarted(machine=self.machine.name, step=STEP, text=text))
            layering.holds = self._is_as_keyed(item)
            made = is_wanted and layering.holds and self._freeze(layering.chain.keys[layering.depth])
            if layering.holds:
                layering.depth += 1
            if is_wanted and layering.holds:
                layering.at_stake = 0.0
                self._remember()
        except Interrupted:
            raise
        except (VmctlError, OSError) as error:
            layering.holds = False
            self.workspace.report(Warned(machine=self.machine.name, text=f"no layer was made: {error}"))
            return
        self.began = time.monotonic()
        if is_wanted:
            self._tell(item, self.began - started, made=made)

    def _tell(self, item: Provisioner, seconds: float, *, made: bool) -> None:
        name = self.machine.name
        if not self.layering.holds:
            text = f"no layer was made: what goes into {item.name} changed while it ran"
            self.workspace.report(Notice(machine=name, text=text))
        self.workspace.report(StepDone(machine=name, step=STEP, seconds=seconds, changed=made))

    @property
    def _least(self) -> float:
        """Seconds that a layer has to save."""
        driver, spec = self.workspace.driver(self.machine.provider), self.machine.spec
        return WORTH_A_COPY if spec and features_of(driver, spec).copies_layers else 0.0

    def _is_next(self, item: Provisioner) -> bool:
        """Whether this provisioner is the chain's next, on a disk that holds those before it."""
        layering, depth = self.layering, self.layering.depth
        return layering.holds and depth < len(layering.chain.items) and layering.chain.items[depth] == item

    def _is_as_keyed(self, item: Provisioner) -> bool:
        """Whether the provisioner still has the key that it had before it ran; those before it were asked in turn."""
        chain, depth = self.layering.chain, self.layering.depth
        before = chain.keys[depth - 1] if depth else chain.ground
        driver, spec = self.workspace.driver(self.machine.provider), require_known(self.machine)
        surroundings = _surroundings(self.workspace.project, spec, features_of(driver, spec))
        return layer_keys.following(before, item, surroundings) == (chain.keys[depth], "")

    def _freeze(self, key: str) -> bool:
        from vmctl.ssh import Connection

        driver, name = self.workspace.driver(self.machine.provider), self.machine.name
        if not isinstance(driver, Layers):
            return False
        with Connection.connect(self.login) as connection:
            connection.run(["sync"])
        with interrupt.shielded():
            return driver.freeze(self.machine.domain, self.workspace.tag(name), key)

    def _remember(self) -> None:
        layering = self.layering
        note = LayerNote(
            provider=self.machine.provider,
            where=self.workspace.driver(self.machine.provider).where,
            project=str(self.workspace.root),
            machine=self.machine.name,
            provisioners=tuple(item.name for item in layering.done),
            seconds=layering.seconds,
            used=time.time(),
        )
        layer_ledger.add(self.workspace.home, layering.key, note)


def freezers(
    workspace: Workspace, machines: Sequence[Machine], logins: Sequence[Login], new: Mapping[str, Layering]
) -> Mapping[str, Callable[[Provisioner], None]]:
    """What to call after each provisioner, by the names of machines that were made just now."""
    now, found = time.monotonic(), {}
    for machine, login in zip(machines, logins, strict=True):
        if machine.record is None or machine.name not in new or not new[machine.name].chain.keys:
            continue
        found[machine.name] = Freezer(workspace, machine, login, new[machine.name], now).after
    return found


def keep_within(workspace: Workspace, providers: Collection[str]) -> None:
    """Remove layers beyond the user's budget; that it cannot be done is no reason to fail."""
    from vmctl.lifecycle import layer_cache

    for provider in providers:
        driver = workspace.driver(provider)
        if isinstance(driver, Layers):
            try:
                keeper = cast("LayerDriver", driver)
                layer_cache.prune(provider, keeper, workspace.home, workspace.project.cache)
            except (VmctlError, OSError) as error:
                interrupt.check()
                text = f"layers could not be removed: {getattr(error, 'brief', error)}"
                workspace.report(Warned(text=text, hint="vmctl cache prune"))
