"""What cannot work, found before anything is changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vmctl.driver import Definition
from vmctl.errors import UsageError, VmctlError
from vmctl.spec import MachineSpec
from vmctl_incus import elsewhere, folders, identity, instance, knobs, networks, servers
from vmctl_incus.door import Door, resource
from vmctl_incus.knobs import Fault

GROUP = "sudo adduser $USER {group} && newgrp {group}"


def unusable(door: Door) -> str:
    """Why the server cannot be used, or ""."""
    try:
        if not door.get(resource("storage-pools")):
            return (
                f"{door.product} has no storage pool yet (sudo incus admin init --minimal; LXD: sudo lxd init --auto)"
            )
        _ = door.server
    except VmctlError as error:
        return told(door, error)
    return ""


def told(door: Door, error: VmctlError) -> str:
    """What keeps the server from being used, with what helps."""
    socket = door.endpoint.socket
    if socket is not None and "ermission denied" in error.details:
        hint = GROUP.format(group=servers.group_of(socket))
        return f"{socket} may not be used by this user ({hint})"
    said = f"{error.brief}: {error.details}" if error.details else error.brief
    return f"{said} ({error.hint})" if error.hint else said


def refusal(spec: MachineSpec, faults: Sequence[Fault]) -> UsageError:
    """One error that tells all faults of a machine, each with its place."""
    lines = [_line(spec, fault) for fault in faults]
    if len(lines) == 1:
        return UsageError(lines[0])
    return UsageError(f"{len(lines)} faults in machine {spec.name!r}", details="\n".join(lines))


def offline(spec: MachineSpec, connected: servers.Wanted) -> Iterator[Fault]:
    """The faults that show without asking the server."""
    yield from knobs.faults(spec)
    own = knobs.options(spec)
    for key in servers.KEYS:
        said = getattr(connected, key)
        if own.get(key) is not None and str(own[key]) != said:
            yield Fault(f"incus.{key}", "must be the same for the whole project (write it at the Vmfile's top level)")


def faults(definition: Definition, door: Door, found: Mapping[str, Any] | None) -> Iterator[Fault]:
    """The faults that the server must be asked about.

    Args:
        definition: the machine.
        door: to the server.
        found: the instance, if there is one.
    """
    chosen = knobs.read(definition.spec)
    present = identity.read(found.get("config")) if found else None
    if problems := list(_placed(chosen, door, found)):
        yield from problems
        return
    if not elsewhere.is_here(door, chosen.target):
        yield from (Fault(*each) for each in elsewhere.faults(door, chosen.target, definition.spec))
    yield from _named(chosen, door)
    for message in folders.faults(definition, door):
        yield Fault("synced_folders", message)
    for number, message in networks.obstacles(door, networks.wanted(definition)):
        yield Fault(f"networks.{number}", message)
    wanted = definition.spec.disk
    if wanted is not None and present is not None and wanted < present.disk:
        yield Fault("disk", f"{wanted} bytes is less than the disk has now ({present.disk}); a disk cannot shrink")


def _placed(chosen: knobs.Knobs, door: Door, found: Mapping[str, Any] | None) -> Iterator[Fault]:
    if not door.is_clustered:
        if chosen.target:
            yield Fault("incus.target", "the server is not a member of a cluster")
        return
    location = str(found.get("location", "")) if found else ""
    here = str(door.environment.get("server_name", "")) if door.endpoint.is_local else ""
    if chosen.target and door.found(resource("cluster/members", chosen.target)) is None:
        yield Fault("incus.target", f"the cluster has no member {chosen.target!r} (incus cluster list)")
    elif location and (chosen.target or here) not in ("", location):
        yield Fault("incus.target", f"the machine is on {location}; write that, or `vmctl destroy` it first")


def _named(chosen: knobs.Knobs, door: Door) -> Iterator[Fault]:
    """Names that the server does not know."""
    try:
        root = instance.root_device(door, chosen, instance.profile_devices(door, chosen))
        instance.limits_size(door, root["pool"])
    except VmctlError as error:
        path, _, message = error.brief.partition(": ")
        said = message or error.brief
        yield Fault(path if message else "incus.pool", f"{said} ({error.hint})" if error.hint else said)
    if chosen.network and door.found(resource("networks", chosen.network)) is None:
        yield Fault("incus.network", f"the server has no network {chosen.network!r} (incus network list)")


def _line(spec: MachineSpec, fault: Fault) -> str:
    place = spec.places.get(fault.path) or spec.places.get(fault.path.partition(".")[0])
    return f"{place}: " * bool(place) + f"machines.{spec.name}.{fault.path}: {fault.message}"
