"""From a provider's name to its driver, and which provider a machine gets."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from vmctl.driver import Driver, Host
from vmctl.errors import UsageError, VmctlError, suggest

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "vmctl.providers"
BUILT_IN = {
    "libvirt": ("vmctl_libvirt", "LibvirtDriver"),
    "virtualbox": ("vmctl_virtualbox", "VirtualBoxDriver"),
    "incus": ("vmctl_incus", "IncusDriver"),
}
"""What pyproject.toml says of vmctl's own: for them, what every installed package says need not be read.

In the order in which `auto` tries them: virtual machines first, then containers, then what others made.
"""
KNOBS = "vmctl.knobs"
BUILT_IN_KNOBS = {
    "libvirt": ("vmctl_libvirt.knobs", "LibvirtKnobs"),
    "virtualbox": ("vmctl_virtualbox.knobs", "VirtualBoxKnobs"),
    "incus": ("vmctl_incus.knobs", "IncusKnobs"),
}
"""As above, of the group that announces what may stand below a provider's name in a Vmfile (``vmctl.knobs``)."""
VARIABLE = "VMCTL_PROVIDER"
PREPARE = "make libvirt    # in a clone of vmctl: installs libvirt and starts it; or what stands above, of one of them"
EXISTS = "exists there"
"""Why a machine that exists has its provider."""

BEGUN = "begun there"
"""Why one that does not exist has it: an `up` began to make it there, and may have left something."""
FIRST_USABLE = "first usable"
"""Why `auto` is this provider; what speaks against those before it follows."""
LATER = "`up` chooses"
"""Why a machine that no hypervisor was asked about has none yet."""

Make = Callable[[Host], Driver]


class NoProvider(VmctlError):
    """No provider can be used, or the wanted one cannot."""


def _entries() -> dict[str, EntryPoint]:
    from importlib.metadata import entry_points

    return {entry.name: entry for entry in entry_points(group=GROUP)}


def names() -> tuple[str, ...]:
    """All installed providers, in the order in which `auto` tries them."""
    order = {name: number for number, name in enumerate(BUILT_IN)}
    return tuple(sorted(_entries(), key=lambda name: (order.get(name, len(order)), name)))


def make(name: str, host: Host) -> Driver:
    """Make the driver of a provider.

    Raises:
        UsageError: there is no such provider.
        NoProvider: its code cannot be loaded (a library is missing).
    """
    try:
        driver = _load(name)
    except ImportError as error:
        raise NoProvider(f"the provider '{name}' cannot be loaded", details=str(error)) from error
    made: Driver = driver(host)
    return made


def _load(name: str) -> Any:
    if name in BUILT_IN:
        module, attribute = BUILT_IN[name]
        return getattr(importlib.import_module(module), attribute)
    entry = _entries().get(name)
    if entry is None:
        hint = f"installed providers: {', '.join(names())}"
        raise UsageError(f"no provider '{name}' is installed{suggest(name, names())}", hint=hint)
    return entry.load()


def knobs(name: str) -> type | None:
    """The class that declares what may stand below a provider's name; None = it declares nothing, or cannot be loaded.

    The provider itself checks what it does not declare.
    """
    try:
        if name in BUILT_IN_KNOBS:
            module, attribute = BUILT_IN_KNOBS[name]
            found: type = getattr(importlib.import_module(module), attribute)
            return found
        return _announced_knobs(name)
    except ImportError:
        return None


def _announced_knobs(name: str) -> type | None:
    from importlib.metadata import entry_points

    return next((entry.load() for entry in entry_points(group=KNOBS) if entry.name == name), None)


def make_or_none(name: str, host: Host) -> Driver | None:
    """Make the driver of a provider; None when its code cannot be loaded."""
    try:
        return make(name, host)
    except NoProvider:
        return None


def choose(
    wanted: str, *, option: str | None, existing: str | None, driver: Callable[[str], Driver]
) -> tuple[str, str]:
    """Which provider a machine gets, and why: --provider > Vmfile > $VMCTL_PROVIDER > existing > first usable.

    Args:
        wanted: the Vmfile's ``provider`` ("auto" = no wish).
        option: the value of --provider.
        existing: the provider under which the machine exists now.
        driver: makes drivers, to ask which is usable.

    Raises:
        UsageError: the machine exists under another provider than the wanted one.
        NoProvider: none is usable; the error says why, for each.
    """
    variable = os.environ.get(VARIABLE)
    for name, reason in (
        (option, "--provider"),
        (None if wanted == "auto" else wanted, "Vmfile"),
        (variable, VARIABLE),
    ):
        if name:
            if existing and existing != name and reason != VARIABLE:
                raise UsageError(
                    f"the machine exists under the provider '{existing}', but {reason} asks for '{name}'",
                    hint=f"vmctl up --provider {existing}    # a machine stays where it was made",
                )
            return (existing, EXISTS) if existing else (name, reason)
    if existing:
        return existing, EXISTS
    return _first_usable(driver)


def _first_usable(driver: Callable[[str], Driver]) -> tuple[str, str]:
    problems: list[str] = []
    for name in names():
        try:
            problem = driver(name).usable()
        except NoProvider as error:
            problem = error.details or error.brief
        if not problem:
            return name, "; ".join([FIRST_USABLE, *problems])
        problems.append(f"{name}: {problem}")
    raise NoProvider("no provider can be used on this host", details="\n".join(problems), hint=PREPARE)
