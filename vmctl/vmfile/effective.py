"""What a Vmfile comes to: every machine with every value, in the words of a Vmfile, and where each was written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vmctl.spec import (
    Dependency,
    Folder,
    MachineSpec,
    Network,
    Port,
    Project,
    ProjectTest,
    ReadyCheck,
    Remote,
    Server,
    SourceLocation,
    Trigger,
)
from vmctl.vmfile.effective_provision import provisioner
from vmctl.vmfile.nodes import join
from vmctl.vmfile.quantities import format_duration, format_size

BUILT_IN = "built-in default"
ALLOCATED = "allocated"


def effective(project: Project) -> dict[str, Any]:
    """The project in plain values; as YAML it is a Vmfile that means the same."""
    data: dict[str, Any] = {"vars": dict(project.vars)} if project.vars else {}
    if project.machines:
        data["machines"] = {spec.name: _machine(spec) for spec in project.machines}
    if project.remotes:
        data["remotes"] = {one.name: _remote(one) for one in project.remotes}
    if project.remotes and not project.machines:
        data["provision"] = [provisioner(one.provisioner) for one in project.for_servers]
    if project.message:
        data["message"] = project.message
    if project.parallel:
        data["parallel"] = project.parallel
    if project.triggers:
        data["triggers"] = [_trigger(trigger) for trigger in project.triggers]
    if project.test != ProjectTest():
        data["test"] = _test(project.test)
    return data


def _test(test: ProjectTest) -> dict[str, Any]:
    kinds = ("playbook", "pytest", "script")
    verify = [{kind: str(path) for kind in kinds if (path := getattr(one, kind))} for one in test.verify]
    return {
        "idempotence": test.idempotence,
        "reboot": test.reboot,
        **({"verify": verify} if verify else {}),
        **({"boxes": [str(box) for box in test.boxes]} if test.boxes else {}),
    }


def _trigger(one: Trigger) -> dict[str, Any]:
    script = {"script": str(one.script)} if one.script else {"inline": one.inline}
    return {
        "name": one.name,
        one.when: list(one.events),
        "run": list(one.argv) if one.argv else {**script, "args": list(one.args)},
        "on": one.on,
        "env": dict(one.env),
        "become": one.become,
        "on_error": one.on_error,
        **({} if one.machines is None else {"machines": list(one.machines)}),
    }


def _machine(spec: MachineSpec) -> dict[str, Any]:
    return {
        "box": str(spec.box),
        "provider": spec.provider,
        "cpus": spec.cpus,
        "memory": format_size(spec.memory),
        **({"disk": format_size(spec.disk)} if spec.disk is not None else {}),
        "hostname": spec.hostname,
        **({"user": spec.user} if spec.user else {}),
        "ssh_port": spec.ssh_port,
        "boot_timeout": format_duration(spec.boot_timeout),
        "halt_timeout": format_duration(spec.halt_timeout),
        "synced_folders": [_folder(folder) for folder in spec.folders],
        "ports": [_port(port) for port in spec.ports],
        "networks": [_network(network) for network in spec.networks],
        "depends_on": _depends_on(spec.depends_on),
        "autostart": spec.autostart,
        "primary": spec.primary,
        "ready": [_ready(check) for check in spec.ready],
        "provision": [provisioner(one) for one in spec.provision],
        **{name: dict(options) for name, options in spec.options.items()},
    }


def _folder(folder: Folder) -> dict[str, Any]:
    return {
        "host": str(folder.host),
        "guest": folder.guest,
        "type": folder.kind,
        "read_only": folder.read_only,
        "exclude": list(folder.exclude),
    }


def _port(port: Port) -> dict[str, Any]:
    host = "auto" if port.host is None else port.host
    return {"guest": port.guest, "host": host, "host_ip": port.host_ip, "protocol": port.protocol}


def _network(network: Network) -> dict[str, Any]:
    said = {"name": network.name, "ip": network.ip, "netmask": network.netmask}
    return {**said, "isolated": True} if network.isolated else said


def _depends_on(several: tuple[Dependency, ...]) -> list[str] | dict[str, Any]:
    if all(one.until == "ready" for one in several):
        return [one.machine for one in several]
    return {one.machine: one.until for one in several}


def _ready(check: ReadyCheck) -> dict[str, Any]:
    what = {
        "port": check.port,
        "http": check.http,
        "status": check.status,
        "command": check.command,
        "unit": check.unit,
    }
    said = {key: value for key, value in what.items() if value is not None}
    return {**said, "timeout": format_duration(check.timeout), **({"hint": check.hint} if check.hint else {})}


def _remote(one: Remote) -> dict[str, Any]:
    if one.inventory:
        return {"inventory": str(one.inventory), "confirm": one.confirm}
    known = {"known_hosts": str(one.known_hosts)} if one.known_hosts else {}
    variables = {"vars": dict(one.vars)} if one.vars else {}
    return {
        "hosts": {server.name: _server(server) for server in one.servers},
        **known,
        **variables,
        "confirm": one.confirm,
    }


def _server(one: Server) -> dict[str, Any]:
    told = {"address": one.address, "port": one.port, "user": one.user, "key": str(one.key or ""), "jump": one.jump}
    said = {key: value for key, value in told.items() if value}
    return {**said, "groups": list(one.groups), **({"vars": dict(one.vars)} if one.vars else {})}


def origins(project: Project) -> dict[str, str]:
    """Where each single value of ``effective`` comes from, by its dotted path: file:line, or what decided it."""
    found: dict[str, str] = {}
    data = effective(project)
    for path in leaves(data.get("vars", {}), "vars"):
        found[path] = nearest(project.places, path)
    for spec in project.machines:
        values = data["machines"][spec.name]
        for path in leaves(values, ""):
            found[join(f"machines.{spec.name}", path)] = _origin(spec, path)
    for path in leaves(data.get("remotes", {}), "remotes"):
        found[path] = nearest(project.places, path)
    for number, entry in enumerate(project.for_servers if not project.machines else ()):
        for path in leaves(data["provision"][number], f"provision.{number}"):
            found[path] = line_of(entry.provisioner.place) if entry.provisioner.place else BUILT_IN
    for key in ("message", "parallel", "triggers", "test"):
        for path in leaves(data[key], key) if key in data else ():
            found[path] = nearest(project.places, path)
    return found


def _origin(spec: MachineSpec, path: str) -> str:
    keys = path.split(".")
    if keys[0] == "provision" and len(keys) > 1:
        place = spec.provision[int(keys[1])].place
        return line_of(place) if place else BUILT_IN
    if keys[0] == "networks" and keys[-1] == "ip" and path not in spec.places:
        return ALLOCATED
    return nearest(spec.places, path)


def nearest(places: Mapping[str, SourceLocation], path: str) -> str:
    """The origin of a value: where it, or the value that it is part of, was written."""
    while path:
        if place := places.get(path):
            return line_of(place)
        path = path.rpartition(".")[0]
    return BUILT_IN


def line_of(place: SourceLocation) -> str:
    """A place as file:line, for people who read the whole line anyway."""
    return f"{place.file}:{place.line}" if place.line else place.file


def leaves(value: Any, path: str) -> list[str]:
    """The dotted paths of all single values (an empty list or mapping is one)."""
    items: list[tuple[Any, Any]] = []
    if isinstance(value, Mapping):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    if not items:
        return [path] if path else []
    return [leaf for key, item in items for leaf in leaves(item, join(path, key))]
