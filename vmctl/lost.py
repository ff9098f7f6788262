"""Machines that vmctl has no record of (``.vmctl`` was removed), found by their tags under whichever provider."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping

from vmctl import registry
from vmctl.driver import Driver, Observed
from vmctl.errors import VmctlError, WrongState
from vmctl.events import Report, Warned
from vmctl.layout import HomeLayout, ProjectLayout
from vmctl.machines import short_id
from vmctl.store import identity

logger = logging.getLogger(__name__)

States = Mapping[str, Observed]


def identities(layout: ProjectLayout, home: HomeLayout) -> frozenset[str]:
    """Project ids that the project's directory had before its ``.vmctl`` was removed, as far as the index knows.

    Not those of projects that were moved away and have been used since: the index has them where they are now.
    """
    root, present = str(layout.root.parent), identity.read(layout)
    return frozenset(project for project, at in identity.index(home).items() if at == root and project != present)


def ask_others(told: dict[str, States], driver: Callable[[str], Driver], report: Report) -> None:
    """Ask every provider that is not in ``told`` yet; one that should answer and does not is told of, and has none.

    Also those that can not be used now: a hypervisor whose kernel module is not loaded still knows its machines.
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
                    f"machine {machine} was made in this directory before, and vmctl has lost its records of it",
                    details=f"{provider} has it as {name} ({seen.state.value}); .vmctl was removed, and its keys with"
                    " it.\nIf the project was moved, run `vmctl up` in its new directory first.",
                    hint=f"vmctl destroy {short_id(seen.tag.project, machine)}    # removes it and its disks",
                )
