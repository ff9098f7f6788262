"""From a Vmfile to a ``Project``: compose, check keys, evaluate, expand, check between machines; faults all at once."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from msgspec import structs

from vmctl import layout
from vmctl.spec import (
    BoxRef,
    Cache,
    File,
    Folder,
    MachineSpec,
    Project,
    Provisioner,
    ServerProvisioner,
    SourceLocation,
)
from vmctl.user_environment import working_directory
from vmctl.vmfile import address_plan, compose, cross_checks, provision_order, remote_keys, top_keys, trust, variables
from vmctl.vmfile.drafts import BoxDefaults, Boxes, Draft, Drafter, Layer, machine_layer, merged, places
from vmctl.vmfile.faults import Faults, Rejected
from vmctl.vmfile.folder_keys import DEFAULT_GUEST
from vmctl.vmfile.keys import MACHINE
from vmctl.vmfile.locate import find
from vmctl.vmfile.machine_groups import groups, references
from vmctl.vmfile.nodes import Node, Source, Table, merge
from vmctl.vmfile.provider_keys import section
from vmctl.vmfile.reading import Reading
from vmctl.vmfile.scope import Scope, project_scope
from vmctl.vmfile.structures import as_table
from vmctl.vmfile.templating import Templates
from vmctl.vmfile.top_keys import TOP_ONLY

NOTHING: Mapping[str, str] = MappingProxyType({})


def no_defaults(_box: object) -> Mapping[str, Any]:
    """Box defaults, where no box says anything."""
    return {}


def load(
    path: Path | None = None,
    *,
    overrides: Mapping[str, str] = NOTHING,
    environ: Mapping[str, str] | None = None,
    box_defaults: BoxDefaults = no_defaults,
    box: BoxRef | None = None,
    alias: bool = False,
) -> Project:
    """Read and check a Vmfile.

    Args:
        path: the file; None = searched upward from the working directory.
        overrides: ``--set``: dotted path below ``vars`` → value as typed.
        environ: the environment (``env`` in expressions, VMCTL_VAR_name); None = the process's own.
        box_defaults: what a box says of the machines made from it, with the keys of a Vmfile's machine.
        box: what all machines are made from, in place of what the Vmfile says.
        alias: whether ``alias: true`` counts for all machines, whatever the Vmfile says.

    Raises:
        VmfileInvalid: with every fault, sorted by place.
        UsageError: there is no Vmfile, or others than the user may have written it.
    """
    file = (path or find(working_directory())).absolute()
    environ = os.environ if environ is None else environ
    faults = Faults()
    try:
        top, user = _tables(file, faults)
        boxes = Boxes(box_defaults, box, known=alias)
        project = _project(file, top, user, faults, overrides=overrides, environ=environ, boxes=boxes)
    except Rejected:
        faults.raise_any()
        raise  # an internal error: nothing is rejected without a fault
    faults.raise_any()
    return project


def user_cache() -> Cache:
    """What the user's own Vmfile says of layers, for commands that need no project.

    Raises:
        VmfileInvalid: it makes no sense.
        UsageError: others than the user may have written it.
    """
    faults = Faults()
    path = layout.user_vmfile()
    if not path.is_file():
        return Cache()
    trust.require(path)
    at = Reading(faults, Templates(faults).render)
    node = compose.read(path, Source(shown(path), path.parent), faults)
    cache = _top_value("cache", (as_table(node, at),), at) if node else None
    faults.raise_any()
    return cache or Cache()


def _tables(file: Path, faults: Faults) -> tuple[Table, Table]:
    """The project's and the user's file."""
    user_file = layout.user_vmfile()
    found = []
    for path, is_user in ((file, False), (user_file, True)):
        source = Source(shown(path), path.parent)
        faults.ranks.setdefault(source.name, len(faults.ranks))
        empty = Table(source, 1, 1, "", {})
        if is_user and (not path.is_file() or path == file):
            found.append(empty)
            continue
        trust.require(path)
        try:
            node = compose.read(path, source, faults)
            found.append(as_table(node, Reading(faults, Templates(faults).render)) if node else empty)
        except Rejected:
            continue
    match found:
        case project, user:
            return project, user
    raise Rejected


def shown(path: Path) -> str:
    """A file as messages name it: from the working directory, where that is shorter."""
    try:
        relative = os.path.relpath(path)
    except OSError:  # the working directory is gone
        return str(path)
    return min(str(path), relative, key=len)


def _project(
    file: Path,
    top: Table,
    user: Table,
    faults: Faults,
    *,
    overrides: Mapping[str, str],
    environ: Mapping[str, str],
    boxes: Boxes,
) -> Project:
    top_keys.check_top(top, faults)
    top_keys.check_user(user, faults)
    declared = _variables(top, user, overrides, environ, faults)
    scope = project_scope(file.parent, environ)
    node = top.get("remotes")
    targets = tuple(node.entries) if isinstance(node, Table) else ()
    at = Reading(faults, Templates(faults, scope).render, targets=targets)
    values = variables.evaluate(declared, scope, faults, targets)
    aliases = {**_box_aliases(user, at), **_box_aliases(top, at)}
    drafts, outer = _drafts(top, user, scope, at, structs.replace(boxes, aliases=aliases))
    by_place = {"project": (top,), "user": (user,), "anywhere": (top, user)}
    from_top = {key: _top_value(key, by_place[one.where], at) for key, one in TOP_ONLY.items() if key not in READ_APART}
    remotes = remote_keys.named(_top_value("remotes", (top,), at) or {}, node)
    servers = _for_servers(top, scope, at) if node else ()
    options = {key: _options(key, node, at) for key, node in outer.items() if key not in MACHINE}
    faults.raise_any()
    written = {key: node for key in TOP_ONLY if (node := top.get(key))}
    return Project(
        root=file.parent,
        file=file,
        machines=_machines(drafts, file.parent, values),
        vars=values,
        options=options,
        remotes=remotes,
        for_servers=servers,
        places=places({**written, "vars": declared}),
        **{key: value for key, value in from_top.items() if value is not None},
    )


def _for_servers(top: Table, scope: Scope, at: Reading) -> tuple[ServerProvisioner, ...]:
    found = groups(top, at)
    if not found and "machines" not in top.entries:
        top_keys.refuse_machine_keys(top, at.faults)
    return provision_order.for_servers(top, found, scope, at.faults, at.targets)


def _drafts(top: Table, user: Table, scope: Scope, at: Reading, boxes: Boxes) -> tuple[list[Draft], Layer]:
    """All machines, checked against each other, and what the layers outside of machines say."""
    found = groups(top, at)
    for group in found:
        top_keys.check_machine(group.table, at.faults)
    at.names = references(found)
    drafter = Drafter(
        faults=at.faults,
        scope=scope,
        names=at.names,
        outer=merged(machine_layer(user), machine_layer(top)),
        provision=top.get("provision"),
        boxes=boxes,
        targets=at.targets,
    )
    drafts = [draft for group in found for draft in drafter.drafts(group)]
    drafter.unused(drafts)
    cross_checks.check(drafts, at.faults)
    address_plan.allocate(drafts, at.faults)
    return drafts, drafter.outer


def _variables(
    top: Table, user: Table, overrides: Mapping[str, str], environ: Mapping[str, str], faults: Faults
) -> Table:
    table = Table(top.source, top.line, top.column, "vars", {})
    at = Reading(faults, Templates(faults).render)
    for layer in (user, top):
        node = layer.get("vars")
        if node is not None:
            table = merge(table, as_table(node, at))
    return variables.overridden(table, overrides, environ, faults)


READ_APART = ("vars", "box_aliases", "remotes")
"""Keys of the top level that need more than a look at their own value."""


def _top_value(key: str, layers: tuple[Table, ...], at: Reading) -> Any:
    """The value of a key of the top level, from the first of the layers that has it; None when none has."""
    node = next((node for layer in layers if (node := layer.get(key)) is not None), None)
    try:
        return None if node is None else TOP_ONLY[key].kind.read(node, at)
    except Rejected:
        return None


def _box_aliases(layer: Table, at: Reading) -> Mapping[str, BoxRef]:
    return _top_value("box_aliases", (layer,), at) or {}


def _options(provider: str, node: Node, at: Reading) -> Mapping[str, Any]:
    try:
        values: Mapping[str, Any] = section(provider).read(node, at)
    except Rejected:
        return {}
    return values


def _machines(drafts: list[Draft], root: Path, variables: Mapping[str, Any]) -> tuple[MachineSpec, ...]:
    known: dict[int, Mapping[str, SourceLocation]] = {}
    made = []
    for draft in drafts:
        if id(draft.layer) not in known:
            known[id(draft.layer)] = places(draft.layer)
        draft.values["provision"] = tuple(_filled(item, variables) for item in draft.values.get("provision", ()))
        made.append(_machine(draft, root, known[id(draft.layer)]))
    return tuple(made)


def _filled(item: Provisioner, variables: Mapping[str, Any]) -> Provisioner:
    """A template with all the variables that it may use."""
    if isinstance(item, File) and item.template:
        return structs.replace(item, variables={**variables, **item.variables})
    return item


def _machine(draft: Draft, root: Path, written: Mapping[str, SourceLocation]) -> MachineSpec:
    given = {one.attribute or key: draft.values[key] for key, one in MACHINE.items() if key in draft.values}
    by_default = {"hostname": draft.name, "folders": (Folder(host=root, guest=DEFAULT_GUEST),)}
    return MachineSpec(
        name=draft.name,
        group=draft.group.name,
        index=draft.index,
        box_alias=draft.values["box_alias"],
        box_alias_by=draft.values["box_alias_by"],
        options=draft.options,
        places=written,
        **{**by_default, **given, "depends_on": cross_checks.dependencies(draft)},
    )
