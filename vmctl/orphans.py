"""Machines that vmctl has no record of in this directory, found by their tags under whichever provider."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from vmctl import registry
from vmctl.driver import Driver, Observed
from vmctl.errors import VmctlError, WrongState
from vmctl.events import Report, Warned
from vmctl.layout import HomeLayout
from vmctl.store import project_identity

logger = logging.getLogger(__name__)

States = Mapping[str, Observed]


def identities(root: Path, present: str | None, home: HomeLayout) -> frozenset[str]:
    """Ids of other projects that were last seen where this one is: their directory was removed and made again.

    Not those of projects that were moved away and have been used since: they are known to be where they are now.
    """
    return frozenset(place.id for place in project_identity.at(root, home) if place.id != present)


def ask_others(told: dict[str, States], driver: Callable[[str], Driver], report: Report) -> None:
    """Ask every provider that is not in ``told`` yet; one that should answer and does not is told of, and has none.

    Also those that cannot be used now: a hypervisor whose kernel module is not loaded still knows its machines.
    """
    for provider in registry.names():
        if provider in told:
            continue
        told[provider] = {}
        try:
            made = driver(provider)
        except registry.NoProvider as error:
            logger.debug("%s is not asked for machines: %s", provider, error)
            continue
        try:
            told[provider] = made.states()
        except VmctlError as error:
            if problem := made.usable():
                logger.debug("%s is not asked for machines: %s", provider, problem)
                continue
            text = f"{provider} could not be asked whether it has machines of this project: {error.brief}"
            report(Warned(text=text, hint=error.hint))


def refuse(machine: str, former: Collection[str], told: Mapping[str, States]) -> None:
    """Refuse to make a machine a second time, where the first one's project has lost its identity.

    Raises:
        WrongState: it exists.
    """
    for provider, states in told.items():
        for name, seen in states.items():
            if seen.tag.project in former and seen.tag.machine == machine:
                raise WrongState(
                    f"machine {machine} exists already: it belongs to a project that was in this directory before",
                    details=f"{provider} has it as {name} ({seen.state.value}), and vmctl has its keys.\n"
                    "If that project was moved, run `vmctl up` in its new directory first.",
                    hint="vmctl adopt    # this directory is that project: it was restored, or cloned again",
                )
