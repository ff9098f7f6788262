"""From a ``Definition`` to an instance's configuration and devices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vmctl.driver import Definition
from vmctl.errors import UsageError, VmctlError
from vmctl_incus import folders, identity, networks, proxies
from vmctl_incus.api import Api, resource
from vmctl_incus.knobs import IncusKnobs

ROOT = "root"
"""The device with the root file system."""
FIRST_NIC = "eth0"
KEPT = ("volatile.", "image.", identity.SNAPSHOT, identity.SEEDED, identity.RUN, identity.UNSHIFTED, identity.GROUND)
"""What of an instance's configuration is not vmctl's to choose, or is written apart from the rest."""
LIMITING = ("btrfs", "zfs", "lvm", "lvmcluster", "ceph", "powerflex", "linstor", "truenas")
"""Storage that limits a root file system's size; a plain directory does not."""
CLONING = ("btrfs", "zfs", "lvm", "lvmcluster", "ceph")
"""Storage where one instance begins with the disk of another without copying it."""
UNLESS = ("lvm.use_thinpool", "zfs.clone_copy", "ceph.rbd.clone_copy")
"""Settings of such pools, one of which is "false" where it copies nevertheless."""
Device = dict[str, str]


def config(definition: Definition, chosen: IncusKnobs, api: Api, size: int) -> dict[str, str]:
    """The keys that make an instance this machine.

    Args:
        definition: the machine.
        chosen: its knobs.
        api: to the server.
        size: of its disk, in bytes.
    """
    idmap = folders.idmap(definition, api)
    return {
        **chosen.config,
        **identity.keys(definition),
        identity.DISK: str(size),
        "limits.cpu": str(definition.spec.cpus),
        "limits.memory": f"{definition.spec.memory}B",
        "security.privileged": str(chosen.privileged).lower(),
        "security.nesting": str(chosen.nesting).lower(),
        "boot.autostart": "false",
        **({"raw.idmap": idmap} if idmap and not chosen.privileged else {}),
    }


def devices(definition: Definition, chosen: IncusKnobs, api: Api) -> dict[str, Device]:
    """An instance's own devices: what its profiles bring, made this machine's, and the rest.

    One that is not on this host has no forwards; its way in is ``other_hosts.device``.
    """
    inherited = profile_devices(api, chosen)
    root = root_device(api, chosen, inherited)
    size = definition.spec.disk
    if size is not None and limits_size(api, root["pool"]):
        root = {**root, "size": f"{size}B"}
    made = {_name(inherited, root, ROOT): root, **_first_nic(definition, chosen, inherited)}
    for number, subnet in enumerate(networks.wanted(definition), 1):
        nic = {"type": "nic", "network": subnet.bridge, "name": f"eth{number}"}
        made[f"eth{number}"] = {**nic, "hwaddr": definition.nics[number - 1].mac}
    return {**made, **proxies.devices(definition.forwards), **folders.devices(definition, api)}


def profile_devices(api: Api, chosen: IncusKnobs) -> dict[str, Device]:
    """What an instance gets from its profiles, by name.

    Raises:
        UsageError: there is no such profile.
    """
    merged: dict[str, Device] = {}
    for name in chosen.profiles:
        found = api.found(resource("profiles", name))
        if found is None:
            raise UsageError(f"incus.profiles: the server has no profile {name!r}", hint="incus profile list")
        merged |= found[0].get("devices") or {}
    return merged


def root_device(api: Api, chosen: IncusKnobs, inherited: Mapping[str, Device]) -> Device:
    """The root disk: as the profiles have it, or in the pool that was chosen, or in the only one.

    Raises:
        VmctlError: nothing tells which pool.
    """
    own = next((one for one in inherited.values() if (one.get("type"), one.get("path")) == ("disk", "/")), None)
    if chosen.pool or own:
        pool = {"pool": chosen.pool} if chosen.pool else {}
        return {**(own or {"type": "disk", "path": "/"}), **pool}
    pools = [str(name).rpartition("/")[2] for name in api.get(resource("storage-pools")) or ()]
    if len(pools) == 1:
        return {"type": "disk", "path": "/", "pool": pools[0]}
    if not pools:
        raise VmctlError(
            f"{api.product} has no storage pool", hint="sudo incus admin init --minimal    # LXD: lxd init"
        )
    raise UsageError(
        "incus.pool: the profiles name no storage pool, and the server has several",
        details=f"It has {', '.join(sorted(pools))}.",
        hint="incus storage list    # then write `incus: {pool: NAME}` in the Vmfile",
    )


def limits_size(api: Api, pool: str) -> bool:
    """Whether a pool limits how large a root file system may grow.

    Raises:
        UsageError: there is no such pool.
    """
    return _pool(api, pool).get("driver") in LIMITING


def clones(api: Api, pool: str) -> bool:
    """Whether a pool clones disks, and need not copy them.

    Raises:
        UsageError: there is no such pool.
    """
    found = _pool(api, pool)
    config = found.get("config") or {}
    return found.get("driver") in CLONING and "false" not in map(config.get, UNLESS)


def _pool(api: Api, pool: str) -> Mapping[str, Any]:
    found = api.found(resource("storage-pools", pool))
    if found is None:
        raise UsageError(f"incus.pool: the server has no storage pool {pool!r}", hint="incus storage list")
    return dict(found[0])


def _first_nic(definition: Definition, chosen: IncusKnobs, inherited: Mapping[str, Device]) -> dict[str, Device]:
    """NIC 1, with the way out; none where neither the profiles nor the Vmfile name a network."""
    name, own = next(((key, one) for key, one in inherited.items() if one.get("type") == "nic"), (FIRST_NIC, None))
    if chosen.network:
        own = {"type": "nic", "network": chosen.network}
    return {name: {**own, "name": FIRST_NIC, "hwaddr": definition.mac}} if own else {}


def _name(inherited: Mapping[str, Device], root: Device, otherwise: str) -> str:
    return next((key for key, one in inherited.items() if one.get("path") == root["path"]), otherwise)
