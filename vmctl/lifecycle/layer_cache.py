"""What hypervisors keep for machines to come: layers, memory, copies of boxes; and keeping that within bounds.

The least recently used goes first, and nothing that is in use.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import cast

from msgspec import Struct

from vmctl import interrupt, machine_names, registry
from vmctl.driver import Driver, Host
from vmctl.errors import VmctlError
from vmctl.events import Report, Warned, ignore
from vmctl.layout import HomeLayout
from vmctl.powers import BoxCopies, Layer, LayerDriver, Layers, Leftovers
from vmctl.spec import Cache
from vmctl.store import files, hypervisors, layer_ledger, places, records
from vmctl.store.hypervisors import Hypervisor, Place
from vmctl.store.layer_ledger import LayerNote

UNFINISHED = 3600
"""Seconds after which memory that is not there is not being written any more."""


class Known(Struct, frozen=True):
    """One layer, or copy of a box, as its hypervisor and vmctl know it."""

    provider: str
    layer: Layer
    note: LayerNote | None
    is_box: bool = False
    """It is a copy of a box's image."""

    @property
    def kind(self) -> str:
        """For people: box, memory or layer."""
        return "box" if self.is_box else "memory" if self.layer.memory else "layer"

    @property
    def used(self) -> float:
        """When it was last used, as far as that is known; seconds since the epoch."""
        return self.note.used if self.note else self.layer.made


def keepers(home: HomeLayout, report: Report) -> Mapping[Place, LayerDriver]:
    """Every hypervisor that may keep something and can be asked; of the others, the user is told."""
    remembered = {one.place for one in _remembered(home, report)}
    remembered |= {(note.provider, note.where) for note in layer_ledger.read(home).values()}
    found: dict[Place, LayerDriver] = {}
    for provider, where in [*sorted(remembered), *((name, "") for name in registry.names())]:
        with told(report, f"what {where or provider} keeps is left out"):
            driver = registry.make_or_none(provider, Host(home=home.root, where=where))
            if driver is not None and isinstance(driver, Layers) and (where or not driver.usable()):
                found.setdefault((provider, driver.where), cast("LayerDriver", driver))
    return found


def _remembered(home: HomeLayout, report: Report) -> Sequence[Hypervisor]:
    with told(report, "hypervisors of other hosts may be left out"):
        return hypervisors.read(home)
    return ()


@contextmanager
def told(report: Report, consequence: str) -> Iterator[None]:
    """Tell of a hypervisor that cannot be asked, and go on with the others."""
    try:
        yield
    except VmctlError as error:
        interrupt.check()
        report(Warned(text=f"{error.brief}; {consequence}", hint=error.hint))


def all_known(home: HomeLayout, report: Report) -> list[Known]:
    """What every hypervisor keeps that can be asked; of the others, the user is told."""
    notes, found = layer_ledger.read(home), []
    for (provider, where), driver in keepers(home, report).items():
        with told(report, f"what {where} keeps is left out"):
            found += [Known(provider, layer, notes.get(layer.key)) for layer in driver.layers()]
            found += [Known(provider, copy, None, is_box=True) for copy in _copies(driver)]
    return found


def prune_all(home: HomeLayout, budget: Cache, report: Report) -> list[Layer]:
    """As ``prune`` of ``everybodys``, at every hypervisor that can be asked; of the others, the user is told."""
    removed: list[Layer] = []
    known = {one.place: one for one in _remembered(home, ignore)}
    for place, driver in keepers(home, report).items():
        with told(report, f"what {place[1]} keeps is left out"):
            removed += prune(place[0], driver, home, budget, everybodys=True)
            if (seen := known.get(place)) and not (driver.layers() or _copies(driver)):
                _forget_unless_used(home, seen)
    return removed


def _forget_unless_used(home: HomeLayout, seen: Hypervisor) -> None:
    """Forget a hypervisor, unless a machine may be there; where a record cannot be read, one may."""
    for project in places.ids(home):
        layout = home.project(project, home.root)
        for name in machine_names.recorded(layout):
            try:
                record = records.load(layout.machine(name))
            except (VmctlError, OSError):
                return
            if record and (record.provider, record.where) == seen.place:
                return
    hypervisors.forget(home, seen)


def prune(
    provider: str, driver: LayerDriver, home: HomeLayout, budget: Cache, *, everybodys: bool = False
) -> list[Layer]:
    """Remove what is too old or too much, and what killed vmctls left of removals; what was removed.

    What is gone is forgotten, whoever removed it.

    ``everybodys``: also what other users made, of which it is not known when it was last used, and copies of boxes.
    """
    removed = list(driver.remove_leftovers()) if isinstance(driver, Leftovers) else []
    while True:
        interrupt.check()
        layers, notes = driver.layers(), layer_ledger.read(home)
        idle = [copy for copy in _copies(driver) if everybodys and not copy.needed]  # what is needed is no cache
        ours = layers if everybodys else tuple(layer for layer in layers if layer.key in notes)
        surplus = beyond([*ours, *idle], notes, budget, now=time.time())
        gone = next((each for each in surplus if _remove(driver, each, is_box=each in idle)), None)
        if gone is None:
            break
        removed.append(gone)
    place, present = (provider, driver.where), {layer.key for layer in layers}
    known = layer_ledger.read(home).items()
    if stale := [key for key, note in known if (note.provider, note.where) == place and key not in present]:
        layer_ledger.forget(home, stale)
    _sweep(home, place, present)
    return removed


def _sweep(home: HomeLayout, place: tuple[str, str], present: Collection[str]) -> None:
    """Remove keys of machines whose memory was never finished, or is gone."""
    for key in files.names(home.memories):
        kept = home.memory(key)
        try:
            old = time.time() - kept.root.stat(follow_symlinks=False).st_mtime > UNFINISHED
            record = records.load(kept)
        except (OSError, VmctlError):  # another vmctl is at it as well, or it is damaged: no reason to fail
            continue
        is_from_here = record is None or (record.provider, record.where) == place  # without one, it is of no use
        if key not in present and old and is_from_here:
            files.remove_tree(kept.root)


def _copies(driver: Driver) -> tuple[Layer, ...]:
    return driver.box_copies() if isinstance(driver, BoxCopies) else ()


def _remove(driver: LayerDriver, what: Layer, *, is_box: bool) -> bool:
    if is_box and isinstance(driver, BoxCopies):
        return driver.remove_box_copy(what.key)
    return driver.remove_layer(what.key)


def beyond(layers: Sequence[Layer], notes: Mapping[str, LayerNote], budget: Cache, *, now: float) -> list[Layer]:
    """The layers to remove next, the least recently used first; none that something stands on.

    When what was used in time to come was really used, nobody knows (a clock was wrong): it goes before all others.
    """

    def used(layer: Layer) -> float:
        return notes[layer.key].used if layer.key in notes else layer.made

    free = sorted((layer for layer in layers if not layer.needed), key=lambda layer: (used(layer) <= now, used(layer)))
    too_old = [layer for layer in free if now - used(layer) > budget.age]
    too_much = sum(layer.size for layer in layers) > budget.size
    return free if too_much else too_old
