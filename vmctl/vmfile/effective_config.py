"""What a Vmfile comes to: every machine with every value, in the words of a Vmfile, and where each was written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from vmctl.spec import MachineSpec, Project, SourceLocation
from vmctl.vmfile.described_key import Key
from vmctl.vmfile.effective_provision import provisioner
from vmctl.vmfile.keys import MACHINE
from vmctl.vmfile.nodes import join
from vmctl.vmfile.top_keys import TOP_ONLY

BUILT_IN = "built-in default"
ALLOCATED = "allocated"
FIRST = ("vars", "machines", "remotes", "provision")
"""What people look for first."""
UNSAID = (None, "")
"""What stands for a value that is not the Vmfile's to say: the box's user, the box's disk."""


def effective(project: Project) -> dict[str, Any]:
    """The project in plain values; as YAML it is a Vmfile that means the same."""
    data = {key: words for key, words in _written(TOP_ONLY, project) if words}
    if project.machines:
        data["machines"] = {spec.name: _machine(spec) for spec in project.machines}
    elif project.remotes:
        data["provision"] = [provisioner(one.provisioner) for one in project.for_servers]
    return {key: data[key] for key in (*FIRST, *data) if key in data}


def _machine(spec: MachineSpec) -> dict[str, Any]:
    written = {key: words for key, words in _written(MACHINE, spec) if words not in UNSAID}
    return {**written, **{name: dict(options) for name, options in spec.options.items()}}


def _written(keys: Mapping[str, Key], values: MachineSpec | Project) -> Iterator[tuple[str, Any]]:
    """Each key that `config` shows, and its value as a Vmfile would write it."""
    for key, one in keys.items():
        if one.write:
            yield key, one.write(getattr(values, one.attribute or key))


def origins(project: Project) -> dict[str, str]:
    """Where each single value of ``effective`` comes from, by its dotted path: file:line, or what decided it."""
    found: dict[str, str] = {}
    data = effective(project)
    for spec in project.machines:
        values = data["machines"][spec.name]
        for path in leaves(values, ""):
            found[join(f"machines.{spec.name}", path)] = _origin(spec, path)
    for number, entry in enumerate(project.for_servers if not project.machines else ()):
        for path in leaves(data["provision"][number], f"provision.{number}"):
            found[path] = line_of(entry.provisioner.place) if entry.provisioner.place else BUILT_IN
    for key in TOP_ONLY:
        for path in leaves(data[key], key) if key in data else ():
            found[path] = nearest(project.places, path)
    return found


def _origin(spec: MachineSpec, path: str) -> str:
    keys = path.split(".")
    if path == "box" and spec.box_alias:
        return f"{nearest(spec.places, path)}, in place of {spec.box_alias} ({spec.box_alias_by})"
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
