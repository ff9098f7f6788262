"""From a ``Definition`` to an instance's configuration and devices."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any

from vmctl.driver import Address, Definition, Forward
from vmctl.errors import UsageError, VmctlError
from vmctl.spec import LOOPBACK
from vmctl_incus import folders, identity, networks
from vmctl_incus.door import Door, resource
from vmctl_incus.knobs import Knobs

SSH = "ssh"
ROOT = "root"
"""The device with the root file system."""
FIRST_NIC = "eth0"
KEPT = ("volatile.", "image.", identity.SNAPSHOT, identity.SEEDED, identity.RUN, identity.UNSHIFTED)
"""What of an instance's configuration is not vmctl's to choose, or is written apart from the rest."""
LIMITING = ("btrfs", "zfs", "lvm", "lvmcluster", "ceph", "powerflex", "linstor", "truenas")
"""Storage that limits a root file system's size; a plain directory does not."""
Device = dict[str, str]


def config(definition: Definition, chosen: Knobs, door: Door, size: int) -> dict[str, str]:
    """The keys that make an instance this machine.

    Args:
        definition: the machine.
        chosen: its knobs.
        door: to the server.
        size: of its disk, in bytes.
    """
    idmap = folders.idmap(definition, door)
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


def devices(definition: Definition, chosen: Knobs, door: Door) -> dict[str, Device]:
    """An instance's own devices: what its profiles bring, made this machine's, and the rest.

    One that is not on this host has no forwards; its way in is ``elsewhere.device``.
    """
    inherited = profile_devices(door, chosen)
    root = root_device(door, chosen, inherited)
    size = definition.spec.disk
    if size is not None and limits_size(door, root["pool"]):
        root = {**root, "size": f"{size}B"}
    made = {_name(inherited, root, ROOT): root, **_first_nic(definition, chosen, inherited)}
    for number, subnet in enumerate(networks.wanted(definition), 1):
        nic = {"type": "nic", "network": subnet.bridge, "name": f"eth{number}"}
        made[f"eth{number}"] = {**nic, "hwaddr": definition.nics[number - 1].mac}
    for number, forward in enumerate(definition.forwards):
        made[SSH if forward.name == SSH else f"forward{number}"] = proxy(forward)
    return {**made, **folders.devices(definition, door)}


def proxy(forward: Forward) -> Device:
    """The device that listens on the host and connects to the guest's own loopback, whatever its networks are."""
    return {
        "type": "proxy",
        "bind": "host",
        "listen": f"{forward.protocol}:{_bracketed(forward.host_ip)}:{forward.host}",
        "connect": f"{forward.protocol}:{LOOPBACK}:{forward.guest}",
    }


def address(found: Mapping[str, Any]) -> Address | None:
    """Where SSH is forwarded from, by an instance's devices."""
    listen = str((found.get("devices") or {}).get(SSH, {}).get("listen", ""))
    _, _, place = listen.partition(":")
    host, _, port = place.rpartition(":")
    return Address(host=host.strip("[]"), port=int(port)) if host and port.isascii() and port.isdecimal() else None


def profile_devices(door: Door, chosen: Knobs) -> dict[str, Device]:
    """What an instance gets from its profiles, by name.

    Raises:
        UsageError: there is no such profile.
    """
    merged: dict[str, Device] = {}
    for name in chosen.profiles:
        found = door.found(resource("profiles", name))
        if found is None:
            raise UsageError(f"incus.profiles: the server has no profile {name!r}", hint="incus profile list")
        merged |= found[0].get("devices") or {}
    return merged


def root_device(door: Door, chosen: Knobs, inherited: Mapping[str, Device]) -> Device:
    """The root disk: as the profiles have it, or in the pool that was chosen, or in the only one.

    Raises:
        VmctlError: nothing tells which pool.
    """
    own = next((one for one in inherited.values() if (one.get("type"), one.get("path")) == ("disk", "/")), None)
    if chosen.pool or own:
        pool = {"pool": chosen.pool} if chosen.pool else {}
        return {**(own or {"type": "disk", "path": "/"}), **pool}
    pools = [str(name).rpartition("/")[2] for name in door.get(resource("storage-pools")) or ()]
    if len(pools) == 1:
        return {"type": "disk", "path": "/", "pool": pools[0]}
    if not pools:
        raise VmctlError(
            f"{door.product} has no storage pool", hint="sudo incus admin init --minimal    # LXD: lxd init"
        )
    raise UsageError(
        "incus.pool: the profiles name no storage pool, and the server has several",
        details=f"It has {', '.join(sorted(pools))}.",
        hint="write incus: {pool: NAME} in the Vmfile",
    )


def limits_size(door: Door, pool: str) -> bool:
    """Whether a pool limits how large a root file system may grow.

    Raises:
        UsageError: there is no such pool.
    """
    found = door.found(resource("storage-pools", pool))
    if found is None:
        raise UsageError(f"incus.pool: the server has no storage pool {pool!r}", hint="incus storage list")
    return found[0].get("driver") in LIMITING


def _first_nic(definition: Definition, chosen: Knobs, inherited: Mapping[str, Device]) -> dict[str, Device]:
    """NIC 1, with the way out; none where neither the profiles nor the Vmfile name a network."""
    name, own = next(((key, one) for key, one in inherited.items() if one.get("type") == "nic"), (FIRST_NIC, None))
    if chosen.network:
        own = {"type": "nic", "network": chosen.network}
    return {name: {**own, "name": FIRST_NIC, "hwaddr": definition.mac}} if own else {}


def _name(inherited: Mapping[str, Device], root: Device, otherwise: str) -> str:
    return next((key for key, one in inherited.items() if one.get("path") == root["path"]), otherwise)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ipaddress.ip_address(host).version == 6 else host  # noqa: PLR2004
