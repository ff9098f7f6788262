"""What the suites do with a driver and its machines, and how they look at them."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

from msgspec import structs

from vmctl.driver import Definition, Disk, Driver, Forward, Observed, State
from vmctl.powers import Exports, Layers, LiveForwards, Snapshots, Suspends


def observed(driver: Driver, name: str) -> Observed | None:
    """``Driver.observe``, without the hypervisor's own word, of which it may have several."""
    observed = driver.observe(name)
    return structs.replace(observed, raw="") if observed else None


def listed(driver: Driver, name: str) -> Observed:
    """``Driver.states`` of one machine, as ``observed``."""
    return structs.replace(driver.states()[name], raw="")


def started(driver: Driver, definition: Definition, disk: Disk) -> Observed:
    """Make and start a machine; as it is then."""
    driver.create(definition, disk)
    driver.start(definition.name, definition.tag)
    return driver.states()[definition.name]


def acts(driver: Driver, definition: Definition, directory: Path) -> Iterator[Callable[[], object]]:
    """All that can be done with a machine that is off, but for creating it."""
    name, tag = definition.name, definition.tag
    yield lambda: driver.update(definition)
    yield lambda: driver.start(name, tag)
    yield lambda: driver.stop(name, tag)
    yield lambda: driver.destroy(name, tag)
    yield lambda: driver.address(name, tag)
    if isinstance(driver, Suspends):
        yield lambda: driver.suspend(name, tag)
    if isinstance(driver, Snapshots):
        yield lambda: driver.snapshots(name, tag)
        yield lambda: driver.save_snapshot(name, tag, "theirs")
        yield lambda: driver.restore_snapshot(name, tag, "theirs")
        yield lambda: driver.remove_snapshot(name, tag, "theirs")
    if isinstance(driver, Layers):
        yield lambda: driver.freeze(name, tag, "f" * 64)
    if isinstance(driver, LiveForwards):
        yield lambda: driver.set_forwards(name, tag, definition.forwards)
    if isinstance(driver, Exports):
        yield lambda: driver.export(name, tag, directory)
        yield lambda: driver.clone(variant(definition, 0), name, tag)


def free_port() -> int:
    """A port of the loopback that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def listens(forward: Forward) -> bool:
    """Whether somebody answers at the host's end."""
    try:
        with socket.create_connection((forward.host_ip, forward.host), timeout=5):
            return True
    except ConnectionRefusedError:
        return False


def variant(definition: Definition, number: int) -> Definition:
    """Another machine like it, of another name and without forwards."""
    return structs.replace(
        definition,
        name=f"{definition.name}-{number}",
        tag=structs.replace(definition.tag, machine=f"{definition.tag.machine}-{number}"),
        mac=f"52:54:00:00:01:{number:02x}",
        console=definition.console.with_name(f"console-{number}.log"),
        forwards=(),
        nics=(),
    )


def all_run(driver: Driver, machines: list[Definition]) -> bool:
    """Whether the hypervisor tells that all run."""
    states = driver.states()
    return all(states[each.name].state is State.RUNNING for each in machines)
