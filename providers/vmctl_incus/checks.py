"""What cannot work, found before anything is changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from vmctl.driver import Definition
from vmctl.errors import VmctlError
from vmctl.knobs import Fault
from vmctl.spec import MachineSpec
from vmctl_incus import folders, identity, instance, knobs, networks, other_hosts, servers
from vmctl_incus.api import Api, resource

GROUP = "sudo adduser $USER {group} && newgrp {group}"


def unusable(api: Api) -> str:
    """Why the server cannot be used, or ""."""
    try:
        if not api.get(resource("storage-pools")):
            return f"{api.product} has no storage pool yet (sudo incus admin init --minimal; LXD: sudo lxd init --auto)"
        _ = api.server
    except VmctlError as error:
        return explanation(api, error)
    return ""


def explanation(api: Api, error: VmctlError) -> str:
    """What keeps the server from being used, with what helps."""
    socket = api.endpoint.socket
    if socket is not None and "ermission denied" in error.details:
        hint = GROUP.format(group=servers.group_of(socket))
        return f"{socket} may not be used by this user ({hint})"
    text = f"{error.brief}: {error.details}" if error.details else error.brief
    return f"{text} ({error.hint})" if error.hint else text


def offline(spec: MachineSpec, connected: servers.Wanted) -> Iterator[Fault]:
    """The faults that show without asking the server."""
    yield from knobs.faults(spec)
    own = knobs.options(spec)
    for key in servers.KEYS:
        common = getattr(connected, key)
        if own.get(key) is not None and str(own[key]) != common:
            yield Fault(f"incus.{key}", "must be the same for the whole project (write it at the Vmfile's top level)")


def faults(definition: Definition, api: Api, found: Mapping[str, Any] | None) -> Iterator[Fault]:
    """The faults that the server must be asked about.

    Args:
        definition: the machine.
        api: to the server.
        found: the instance, if there is one.
    """
    chosen = knobs.read(definition.spec)
    present = identity.read(found.get("config")) if found else None
    if problems := list(_placed(chosen, api, found)):
        yield from problems
        return
    if not other_hosts.is_local(api, chosen.target):
        yield from (Fault(*each) for each in other_hosts.faults(api, chosen.target, definition.spec))
    yield from _named(chosen, api)
    for message in folders.faults(definition, api):
        yield Fault("synced_folders", message)
    for number, message in networks.obstacles(api, networks.wanted(definition)):
        yield Fault(f"networks.{number}", message)
    wanted = definition.spec.disk
    if wanted is not None and present is not None and wanted < present.disk:
        yield Fault("disk", f"{wanted} bytes is less than the disk has now ({present.disk}); a disk cannot shrink")


def _placed(chosen: knobs.IncusKnobs, api: Api, found: Mapping[str, Any] | None) -> Iterator[Fault]:
    if not api.is_clustered:
        if chosen.target:
            yield Fault("incus.target", "the server is not a member of a cluster")
        return
    location = str(found.get("location", "")) if found else ""
    here = str(api.environment.get("server_name", "")) if api.endpoint.is_local else ""
    if chosen.target and api.found(resource("cluster/members", chosen.target)) is None:
        yield Fault("incus.target", f"the cluster has no member {chosen.target!r} (incus cluster list)")
    elif location and (chosen.target or here) not in ("", location):
        yield Fault("incus.target", f"the machine is on {location}; write that, or `vmctl destroy` it first")


def _named(chosen: knobs.IncusKnobs, api: Api) -> Iterator[Fault]:
    """Names that the server does not know."""
    try:
        root = instance.root_device(api, chosen, instance.profile_devices(api, chosen))
        instance.limits_size(api, root["pool"])
    except VmctlError as error:
        path, _, message = error.brief.partition(": ")
        text = message or error.brief
        yield Fault(path if message else "incus.pool", f"{text} ({error.hint})" if error.hint else text)
    if chosen.network and api.found(resource("networks", chosen.network)) is None:
        yield Fault("incus.network", f"the server has no network {chosen.network!r} (incus network list)")
