"""The keys of layers: a chain of digests, one after each provisioner, over all that went into the disk until then.

The first link is what the disk is before anything is provisioned (``ground``: the box, the machine). Each key names
its whole past, so a change anywhere changes the keys from there on and none before. A provisioner whose outcome depends
on what no key can hold (``unkeyable``) ends the chain: it and all that come after it have no layer.
"""

from __future__ import annotations

import functools
import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from vmctl.provision import arguments, inputs, settings, unkeyable
from vmctl.provision.unkeyable import ProvisionerTexts
from vmctl.provisioners import Ansible, File, Provisioner

SCHEMA = 3
"""Goes up when vmctl itself makes something else of the same input."""
ANSIBLE_PREFIX = "ANSIBLE_"
UNCOUNTED = frozenset({"ANSIBLE_NOCOLOR", "ANSIBLE_FORCE_COLOR", "ANSIBLE_NOCOWS", "ANSIBLE_STDOUT_CALLBACK",
                       "ANSIBLE_CONFIG", settings.SECOND_NAME, *settings.SEARCH_PATHS})  # fmt: skip
"""Variables that change what is shown, and nothing in the guest, or name files that count by their content."""
AS_ON_HOST = re.compile(r"\bpreserve\b|\bsynchronize\b")
"""What has files keep the permissions and links that they have on this host."""
MANIFEST = "MANIFEST.json"
"""What an installed collection is known by; one without it counts file by file."""
PACKAGES = ("ansible-core", "ansible")
"""What Ansible is made of: the second has the community's collections."""


class Chain(Struct, frozen=True, kw_only=True):
    """The layers that a machine may begin with."""

    items: tuple[Provisioner, ...] = ()
    """The provisioners that have one, in order."""
    keys: tuple[str, ...] = ()
    """The key after each."""
    ground: str = ""
    """The key of a machine on which nothing was provisioned yet."""
    ended_by: str = ""
    """Name of the provisioner that has none; "" = all have, or the machine itself is why."""
    reason: str = ""
    """Why the chain ends before the last provisioner; "" = it does not."""

    @property
    def last(self) -> str:
        """The key after all that can be keyed."""
        return self.keys[-1] if self.keys else self.ground


class Surroundings(Struct, frozen=True, kw_only=True):
    """What of the project a key depends on."""

    root: Path
    """The project's directory."""
    name: str = ""
    """The project's name, for playbooks that use it."""
    folders: tuple[str, ...] = ()
    """Where the guest sees directories of this host."""
    is_alone: bool = True
    """Whether the project has no other machine."""
    others: tuple[tuple[str, ...], ...] = ()
    """Of each machine whose name the guest is told: its names, the first two, and its addresses."""
    kernel: str = ""
    """Which kernel the guest runs, where neither its box nor its machine says so."""
    names: tuple[Any, ...] = ()
    """What tells the machine from others of its group, which may share a layer until a provisioner mentions names."""


def chain(items: Sequence[Provisioner], ground: Mapping[str, Any], surroundings: Surroundings) -> Chain:
    """The chain of a machine with these provisioners. ``run: never`` counts as absent."""
    key = first = inputs.total(["layers", SCHEMA, ground])
    wanted = [item for item in items if item.run != "never"]
    keys: list[str] = []
    for number, item in enumerate(wanted):
        key, reason = following(key, item, surroundings)
        if reason:
            return Chain(
                items=tuple(wanted[:number]), keys=tuple(keys), ground=first, ended_by=item.name, reason=reason
            )
        keys.append(key)
    return Chain(items=tuple(wanted), keys=tuple(keys), ground=first)


def following(before: str, item: Provisioner, surroundings: Surroundings) -> tuple[str, str]:
    """The key after a provisioner, from the one before it; or "", and why there is none."""
    seen = unkeyable.read(item, surroundings.root)
    reason = unkeyable.why(seen, folders=surroundings.folders, is_alone=surroundings.is_alone)
    if reason:
        return "", reason
    named: list[Any] = [surroundings.names] if unkeyable.mentions_names(seen) else []
    named += [other for other in surroundings.others if unkeyable.mentions_host(seen, other[:2])]
    named += [surroundings.kernel] if surroundings.kernel and unkeyable.mentions_kernel(seen) else []
    return inputs.total([before, inputs.digest(item, exact=True), *named, *_besides(seen, surroundings)]), ""


def _besides(seen: ProvisionerTexts, surroundings: Surroundings) -> Iterator[Any]:
    """What goes into a provisioner besides ``inputs``."""
    item = seen.item
    if isinstance(item, File) and item.mode is None:
        yield [stat.S_IMODE(path.stat().st_mode) for path in inputs.everything_below(item.source)]
    if isinstance(item, File) and item.template and inputs.template_mentions(item, "project"):
        yield [surroundings.root.name, str(surroundings.root)]
    if not isinstance(item, Ansible) or seen.playbook is None:
        return
    root = surroundings.root
    in_force = {**os.environ, **arguments.environment(item)}
    yield [item.install, item.strategy, item.python_interpreter, sorted(item.vault)]
    yield {name: value for name, value in in_force.items() if _counts(name)}
    yield inputs.total(["named"], list(seen.playbook.named), item.playbook.parent, exact=True)
    if any(AS_ON_HOST.search(one.text) for one in seen.texts):
        yield [_mode(path) for path in (*seen.playbook.named, *inputs.ansible_files(item, exact=True))]
    configuration = settings.configuration_file(root, in_force)
    yield inputs.total(["configuration"], [configuration], configuration.parent, exact=True) if configuration else ""
    for found in (settings.role_directories, settings.collection_directories, settings.plugin_directories):
        yield [_content(path) for path in found(root, in_force)]
    yield _version(item.playbook_command, root)
    if any("vmctl_project" in one.text for one in seen.texts):
        yield surroundings.name


def _mode(path: Path) -> list[Any]:
    try:
        return [stat.S_IMODE(path.stat().st_mode), str(path.readlink()) if path.is_symlink() else ""]
    except OSError as error:
        return [error.errno]


def _counts(variable: str) -> bool:
    """Whether a variable's value counts."""
    is_ansibles = variable.startswith(ANSIBLE_PREFIX) and variable not in UNCOUNTED
    return is_ansibles and not settings.names_plugins(variable)  # what those name counts by its content


def _content(directory: Path) -> list[str]:
    """Digests of the roles, plug-ins or collections in a directory of the search path."""
    collections = directory / "ansible_collections"
    if not collections.is_dir():
        files = list(inputs.written_below(directory))
        return [inputs.total([], files, directory, exact=True)] if directory.is_dir() else []
    places = sorted(path for space in collections.iterdir() if space.is_dir() for path in space.iterdir())
    return [_collection(path) for path in places if path.is_dir()]


def _collection(directory: Path) -> str:
    manifest = directory / MANIFEST
    files = [manifest] if manifest.is_file() else list(inputs.written_below(directory))
    return inputs.total([directory.parent.name, directory.name], files, directory, exact=True)


@functools.cache
def _version(command: str, root: Path) -> str:
    """Which Ansible a run would be by, with the collections that come along with it."""
    from vmctl import process

    program = settings.playbook_program(command, root)
    if Path(program).parent == Path(settings.program("ansible-playbook")).parent:
        found = [_installed(name) for name in PACKAGES]
        if found[0]:
            return " ".join(found)
    output = process.run([program, "--version"]).stdout
    lines = [line.strip() for number, line in enumerate(output.splitlines()) if number == 0 or " version = " in line]
    place = re.search(r"module location = (.+)", output)
    beside = Path(place[1]).parent.glob(f"{PACKAGES[1]}-*-info") if place else ()
    return " ".join([*lines, *sorted(path.name for path in beside)])


def _installed(name: str) -> str:
    """A package of vmctl's own environment with its version; "" = it is not installed."""
    from importlib import metadata

    try:
        return f"{name} {metadata.version(name)}"
    except metadata.PackageNotFoundError:
        return ""
