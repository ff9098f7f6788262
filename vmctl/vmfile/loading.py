"""From a Vmfile to a ``Project``: compose, check keys, evaluate, expand, check between machines; faults all at once."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from msgspec import structs

from vmctl import layout
from vmctl.registry import BUILT_IN
from vmctl.spec import (
    BoxRef,
    File,
    Folder,
    MachineSpec,
    Project,
    ProjectTest,
    Provisioner,
    ServerProvisioner,
    SourceLocation,
)
from vmctl.user_environment import working_directory
from vmctl.vmfile import address_plan, compose, cross_checks, remote_keys, server_provision, trust, variables
from vmctl.vmfile.drafts import OPTIONS, BoxDefaults, Boxes, Draft, Drafter, Layer, machine_layer, merged, places
from vmctl.vmfile.faults import Faults, Rejected, unknown_key
from vmctl.vmfile.folders import DEFAULT_GUEST
from vmctl.vmfile.keys import MACHINE, TOP_ONLY, USER_ONLY_MISSES
from vmctl.vmfile.locate import find
from vmctl.vmfile.machine_groups import groups, references
from vmctl.vmfile.nodes import Node, Source, Table, merge
from vmctl.vmfile.provider_names import is_provider
from vmctl.vmfile.reading import Reading
from vmctl.vmfile.scope import Scope, project_scope
from vmctl.vmfile.structures import as_table
from vmctl.vmfile.templating import Templates

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
) -> Project:
    """Read and check a Vmfile.

    Args:
        path: the file; None = searched upward from the working directory.
        overrides: ``--set``: dotted path below ``vars`` → value as typed.
        environ: the environment (``env`` in expressions, VMCTL_VAR_name); None = the process's own.
        box_defaults: what a box says of the machines made from it, with the keys of a Vmfile's machine.
        box: what all machines are made from, in place of what the Vmfile says.

    Raises:
        VmfileInvalid: with every fault, sorted by place.
        UsageError: there is no Vmfile, or others than the user may have written it.
    """
    file = (path or find(working_directory())).absolute()
    environ = os.environ if environ is None else environ
    faults = Faults()
    try:
        top, user = _tables(file, faults)
        boxes = Boxes(box_defaults, box)
        project = _project(file, top, user, faults, overrides=overrides, environ=environ, boxes=boxes)
    except Rejected:
        project = None
    faults.raise_any()
    assert project is not None  # noqa: S101  nothing is rejected without a fault
    return project


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
    if len(found) < 2:  # noqa: PLR2004  two files
        raise Rejected
    return found[0], found[1]


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
    _check_top_keys(top, faults)
    _check_user_keys(user, faults)
    declared = _variables(top, user, overrides, environ, faults)
    scope = project_scope(file.parent, environ)
    node = top.get("remotes")
    targets = tuple(node.entries) if isinstance(node, Table) else ()
    at = Reading(faults, Templates(faults, scope).render, targets=targets)
    values = variables.evaluate(declared, scope, faults, targets)
    aliases = {**_box_aliases(user, at), **_box_aliases(top, at)}
    drafts, outer = _drafts(top, user, scope, at, structs.replace(boxes, aliases=aliases))
    message = _top_value("message", (top,), at)
    parallel = _top_value("parallel", (top, user), at)
    triggers = _top_value("triggers", (top,), at)
    test = _top_value("test", (top,), at)
    remotes = remote_keys.named(_top_value("remotes", (top,), at) or {}, node)
    servers = _for_servers(top, scope, at) if node else ()
    options = {key: _options(node, at) for key, node in outer.items() if key not in MACHINE}
    faults.raise_any()
    written = {key: node for key in TOP_ONLY if (node := top.get(key))}
    return Project(
        root=file.parent,
        file=file,
        machines=_machines(drafts, file.parent, values),
        message=message or "",
        parallel=parallel,
        triggers=triggers or (),
        test=test or ProjectTest(),
        vars=values,
        options=options,
        remotes=remotes,
        for_servers=servers,
        places=places({**written, "vars": declared}),
    )


def _for_servers(top: Table, scope: Scope, at: Reading) -> tuple[ServerProvisioner, ...]:
    found = groups(top, at)
    if not found and "machines" not in top.entries:
        server_provision.refuse_machine_keys(top, at.faults)
    return server_provision.for_servers(top, found, scope, at.faults, at.targets)


def _drafts(top: Table, user: Table, scope: Scope, at: Reading, boxes: Boxes) -> tuple[list[Draft], Layer]:
    """All machines, checked against each other, and what the layers outside of machines say."""
    found = groups(top, at)
    for group in found:
        _check_machine_keys(group.table, at.faults)
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
            merged_node = merge(table, as_table(node, at))
            assert isinstance(merged_node, Table)  # noqa: S101  both are
            table = merged_node
    return variables.overridden(table, overrides, environ, faults)


EXPANDING = ("count", "for_each")
TOP_KEYS = (*MACHINE, *TOP_ONLY, "machines")
MACHINE_KEYS = (*MACHINE, *EXPANDING)
ONE_MACHINE = "belongs to a machine, below `machines:`"
TOP_LEVEL = "belongs to the top level"
PROJECT = "belongs to a project's Vmfile, not to the user's own"


def _check_top_keys(top: Table, faults: Faults) -> None:
    _check_keys(top, TOP_KEYS, faults, misplaced=dict.fromkeys(EXPANDING, ONE_MACHINE))


def _check_user_keys(user: Table, faults: Faults) -> None:
    misplaced = {**dict.fromkeys(EXPANDING, ONE_MACHINE), **dict.fromkeys(USER_ONLY_MISSES, PROJECT)}
    _check_keys(user, TOP_KEYS, faults, misplaced=misplaced)


def _check_machine_keys(table: Table, faults: Faults) -> None:
    misplaced = dict.fromkeys((*TOP_ONLY, "machines"), TOP_LEVEL)
    _check_keys(table, MACHINE_KEYS, faults, misplaced=misplaced)


def _check_keys(table: Table, known: tuple[str, ...], faults: Faults, *, misplaced: Mapping[str, str]) -> None:
    for key, entry in table.entries.items():
        message = misplaced.get(key, "")
        if not message and key not in known and not is_provider(key):
            message = unknown_key(key, (*known, *BUILT_IN))
        if message:
            faults.add(entry.key.place, entry.key.path, message)


def _top_value(key: str, layers: tuple[Table, ...], at: Reading) -> Any:
    """The value of a key of the top level, from the first of the layers that has it; None when none has."""
    node = next((node for layer in layers if (node := layer.get(key)) is not None), None)
    try:
        return None if node is None else TOP_ONLY[key].kind.read(node, at)
    except Rejected:
        return None


def _box_aliases(layer: Table, at: Reading) -> Mapping[str, BoxRef]:
    return _top_value("box_aliases", (layer,), at) or {}


def _options(node: Node, at: Reading) -> Mapping[str, Any]:
    try:
        values: Mapping[str, Any] = OPTIONS.read(node, at)
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


SAME_NAME = ("box", "provider", "cpus", "memory", "disk", "user", "ssh_port", "boot_timeout", "halt_timeout",
             "ports", "networks", "autostart", "primary", "ready", "provision", "box_alias")  # fmt: skip
"""Keys whose value is the spec's field of the same name."""


def _machine(draft: Draft, root: Path, written: Mapping[str, SourceLocation]) -> MachineSpec:
    values = draft.values
    return MachineSpec(
        name=draft.name,
        group=draft.group.name,
        index=draft.index,
        hostname=values.get("hostname", draft.name),
        folders=values.get("synced_folders", (Folder(host=root, guest=DEFAULT_GUEST),)),
        depends_on=cross_checks.dependencies(draft),
        options=draft.options,
        places=written,
        **{key: values[key] for key in SAME_NAME if key in values},
    )
