"""The arrows of docs/architecture.md, and the doors: what may import what, and who alone does certain things."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
ROOTS = (REPOSITORY, REPOSITORY / "providers", REPOSITORY / "boxes", REPOSITORY / "playbooks")
PROVIDERS = ("vmctl_libvirt", "vmctl_virtualbox", "vmctl_incus")
HYPERVISOR_LIBRARIES = ("libvirt", "libvirt_qemu", *PROVIDERS)
FOR_PROVIDERS = {
    "driver",
    "powers",
    "spec",
    "errors",
    "process",
    "templates",
    "wait",
    "interrupt",
    "flock",
    "iso",
    "json_text",
    "knobs",
}
"""Modules of vmctl that a provider may use."""

LAYERS = (
    {
        "box_facts",
        "source_location",
        "provisioners",
        "spec",
        "driver",
        "powers",
        "login",
        "layout",
        "events",
        "errors",
        "process",
        "wait",
        "interrupt",
        "templates",
        "terminal",
        "flock",
        "iso",
        "redaction",
        "json_text",
        "user_environment",
        "patterns",
        "units",
    },
    {
        "boxes",
        "key_pairs",
        "seed",
        "ssh",
        "folders",
        "provision",
        "store",
        "registry",
        "vmfile",
        "console",
        "live",
        "knobs",
    },
    {"lifecycle", "workspace", "survey", "machine_names", "discovery", "logins", "remotes", "project_test"},
    {"cli", "testing"},
)
"""A unit imports units of its own layer and of those before it. ``vmctl`` itself holds nothing but the version."""
RANK = {unit: rank for rank, units in enumerate(LAYERS) for unit in units}
MODULE_OF = {
    "ansible-core": "ansible",
    "backports-zstd": "backports",
    "libvirt-python": "libvirt",
    "pyyaml": "yaml",
}
"""Libraries whose module has another name."""


@dataclass(frozen=True)
class Module:
    """One source file."""

    name: str
    path: Path
    tree: ast.Module

    @property
    def unit(self) -> str:
        """The name below ``vmctl``: "store" of "vmctl.store.files"; "" of vmctl itself and of other packages."""
        package, _, rest = self.name.partition(".")
        return rest.partition(".")[0] if package == "vmctl" else ""

    def imports(self) -> Iterator[tuple[int, str]]:
        """Line and dotted name of everything imported, wherever in the file; names below a package included."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from ((node.lineno, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{self.path}:{node.lineno}: relative import"
                yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)

    def units(self) -> Iterator[tuple[int, str]]:
        """Line and unit of everything imported from vmctl."""
        for line, name in self.imports():
            package, _, rest = name.partition(".")
            if package == "vmctl" and rest and rest != "__version__":
                yield line, rest.partition(".")[0]

    def calls(self) -> Iterator[ast.Call]:
        """Every call in the file."""
        return (node for node in ast.walk(self.tree) if isinstance(node, ast.Call))


def _modules() -> Iterator[Module]:
    for root in ROOTS:
        for path in sorted(root.glob("vmctl*/**/*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            name = ".".join(part for part in parts if part != "__init__")
            yield Module(name, path.relative_to(REPOSITORY), ast.parse(path.read_text(), str(path)))


MODULES = list(_modules())
NAMES = {module.name for module in MODULES}
CORE = [module for module in MODULES if module.name.partition(".")[0] == "vmctl"]


def _of(package: str) -> list[Module]:
    return [module for module in MODULES if module.name.partition(".")[0] == package]


def test_every_source_root_was_read() -> None:
    packages = {module.name.partition(".")[0] for module in MODULES}
    assert packages == {"vmctl", *PROVIDERS, "vmctl_boxes", "vmctl_playbooks"}


def test_every_imported_library_is_declared_and_none_for_nothing() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    needed = _declared(project["project"]["dependencies"])
    for extra in project["project"]["optional-dependencies"].values():
        needed |= _declared(extra)
    assert _libraries(MODULES) == needed
    paths = [path for folder in ("tests", "scripts", "benchmarks") for path in (REPOSITORY / folder).rglob("*.py")]
    own = {path.stem for path in paths} | {"tests", "scripts", "benchmarks"}
    trees = [Module("", path, ast.parse(path.read_text(), str(path))) for path in paths]
    assert _libraries(trees) - own - needed - _declared(project["dependency-groups"]["dev"]) == set()


def _declared(requirements: Iterable[str]) -> set[str]:
    """The top-level modules that requirements bring: of "backports-zstd>=1; python_version < '3.14'", "backports"."""
    names = {re.split(r"[ <>=~!;\[]", requirement)[0] for requirement in requirements}
    return {MODULE_OF.get(name, name.replace("-", "_")) for name in names}


def _libraries(modules: Iterable[Module]) -> set[str]:
    own = {module.name.partition(".")[0] for module in MODULES}
    tops = {name.partition(".")[0] for module in modules for _, name in module.imports()}
    return tops - own - set(sys.stdlib_module_names) - {"compression"}  # Python 3.14 has it


def test_every_unit_has_a_layer() -> None:
    assert {module.unit for module in CORE} - {""} == set(RANK)


def test_no_arrow_points_up() -> None:
    upward = [
        f"{module.path}:{line}: {module.unit} imports {unit}"
        for module in CORE
        if module.unit
        for line, unit in module.units()
        if RANK[unit] > RANK[module.unit]
    ]
    assert upward == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    """As modules load; what a function imports, or the type checker alone, closes no circle."""
    graph = {module.name: set(_loaded(module.tree.body)) & NAMES - {module.name} for module in MODULES}
    TopologicalSorter(graph).prepare()  # raises CycleError, which names them


def _loaded(body: Iterable[ast.stmt]) -> Iterator[str]:
    for node in body:
        match node:
            case ast.Import():
                yield from (alias.name for alias in node.names)
            case ast.ImportFrom():
                inner = [f"{node.module}.{alias.name}" for alias in node.names]
                yield from (name if name in NAMES else str(node.module) for name in inner)
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                yield from _loaded(node.orelse)
            case ast.If():
                yield from _loaded([*node.body, *node.orelse])
            case ast.Try():
                yield from _loaded([*node.body, *(line for one in node.handlers for line in one.body)])


def test_the_core_knows_no_hypervisor() -> None:
    known = [
        f"{module.path}:{line}: {name}"
        for module in CORE
        for line, name in module.imports()
        if name.partition(".")[0] in HYPERVISOR_LIBRARIES
    ]
    assert known == []


@pytest.mark.parametrize("provider", PROVIDERS)
def test_providers_use_only_what_plugins_may_use(provider: str) -> None:
    others = set(PROVIDERS) - {provider}
    used = [
        f"{module.path}:{line}: {name}"
        for module in _of(provider)
        for line, name in module.imports()
        if name.partition(".")[0] in others | {"vmctl_boxes", "vmctl_playbooks"}
    ]
    used += [
        f"{module.path}:{line}: vmctl.{unit}"
        for module in _of(provider)
        for line, unit in module.units()
        if unit not in FOR_PROVIDERS
    ]
    assert used == []


def test_only_process_starts_processes() -> None:
    doors = {
        module.name for module in MODULES for _, name in module.imports() if name.partition(".")[0] == "subprocess"
    }
    assert doors == {"vmctl.process", "vmctl_playbooks.verify.vmctl_machines"}  # the latter runs in the user's pytest


def test_nothing_goes_through_a_shell() -> None:
    shells = [
        f"{module.path}:{call.lineno}"
        for module in MODULES
        for call in module.calls()
        if any(word.arg == "shell" for word in call.keywords) or ast.unparse(call.func) in {"os.system", "os.popen"}
    ]
    assert shells == []


def test_only_the_console_prints() -> None:
    printers = {
        module.name
        for module in MODULES
        for call in module.calls()
        if ast.unparse(call.func) in {"print", "sys.stdout.write", "sys.stderr.write", "click.echo", "click.secho"}
    }
    assert printers <= {"vmctl.console", "vmctl.live"}


def test_only_the_doors_to_time_sleep() -> None:
    sleepers = {
        module.name
        for module in MODULES
        for call in module.calls()
        if ast.unparse(call.func) in {"time.sleep", "sleep"}
    }
    assert sleepers <= {"vmctl.wait", "vmctl.process", "vmctl.interrupt"}


def test_in_the_core_one_name_means_one_thing() -> None:
    stems = [module.path.stem for module in CORE if module.path.stem != "__init__"]
    classes = [node.name for module in CORE for node in ast.walk(module.tree) if isinstance(node, ast.ClassDef)]
    for names in (stems, classes):
        assert [name for name, count in Counter(names).items() if count > 1] == []
