"""`vmctl package`: a stopped machine's disks, cleaned of all that makes them this machine's, without touching it.

A copy of the machine is made and booted; vmctl logs in, cleans it, and has its disks exported. The copy is a machine
of the project like any other (``NAME.package``), so what a killed vmctl leaves of it goes with the next `package` or
`destroy`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol, cast

from msgspec import structs

from vmctl import interrupt, key_pairs, seed, ssh
from vmctl.boxes.box import published_line
from vmctl.driver import Address, Definition, Driver, Forward, State, Tag
from vmctl.errors import UsageError, WrongState
from vmctl.events import Report, StepDone, StepStarted
from vmctl.lifecycle import definitions
from vmctl.login import Login
from vmctl.powers import Exported, Exports, features_of
from vmctl.seed import GuestIdentity
from vmctl.spec import MachineSpec
from vmctl.store import files, records
from vmctl.store.records import Record
from vmctl.wait import Deadline, until
from vmctl.workspace import Machine, Workspace, require_known

SUFFIX = ".package"
"""No machine of a Vmfile can have a dot in its name."""
OFF = (State.STOPPED, State.CRASHED)
POWER_OFF = "(sleep 1; poweroff) </dev/null >/dev/null 2>&1 &"


def take(workspace: Workspace, name: str, directory: Path) -> tuple[Exported, Machine]:
    """Export a stopped machine's disks into an empty directory, cleaned; the machine itself does not change.

    Raises:
        WrongState: it does not exist, or is not off.
        UsageError: its provider cannot export machines.
        VmctlError: the copy could not be made, booted, cleaned or exported; nothing is left of it.
    """
    with workspace.locked([name, name + SUFFIX]):
        (machine,) = workspace.survey([name])
        copy = _Copy(workspace, machine, *_checked(workspace, machine))
        report = workspace.report
        with copy.made():
            with reported_step(report, name, "clean_copy", "cleaning a copy of it"):
                copy.clean()
            with reported_step(report, name, "export", "reading its disks"):
                return copy.driver.export(copy.domain, copy.tag, directory), machine


class _ExportingDriver(Driver, Exports, Protocol):
    """A driver with the optional power."""


def _checked(workspace: Workspace, machine: Machine) -> tuple[Record, _ExportingDriver]:
    if machine.record is None or machine.observed is None:
        raise WrongState(f"machine {machine.name} is not created", hint=f"vmctl up {machine.name}")
    if machine.state not in OFF:
        raise WrongState(
            f"machine {machine.name} is {machine.state_text}; it must be off", hint=f"vmctl halt {machine.name}"
        )
    driver = workspace.driver(machine.provider)
    if not isinstance(driver, Exports):
        raise UsageError(f"the provider {machine.provider} cannot package machines", hint="vmctl box repackage NAME")
    return machine.record, cast("_ExportingDriver", driver)


@contextmanager
def reported_step(report: Report, machine: str, step: str, text: str) -> Iterator[None]:
    """Tell that a part of the work begins, and that it ended well."""
    started = time.monotonic()
    report(StepStarted(machine=machine, step=step, text=text))
    yield
    report(StepDone(machine=machine, step=step, seconds=time.monotonic() - started))


@dataclass(frozen=True)
class _Copy:
    """A copy of a machine, on its way to being nobody's."""

    workspace: Workspace
    original: Machine
    record: Record
    """The original's."""

    driver: _ExportingDriver

    @property
    def name(self) -> str:
        return self.original.name + SUFFIX

    @property
    def domain(self) -> str:
        return f"{self.original.domain}{SUFFIX}"

    @property
    def tag(self) -> Tag:
        return self.workspace.tag(self.name)

    @cached_property
    def spec(self) -> MachineSpec:
        spec = require_known(self.original)
        return structs.replace(spec, name=self.name, hostname=spec.hostname or spec.name, disk=None, ports=(),
                                   networks=(), folders=(), provision=(), ready=())  # fmt: skip

    @contextmanager
    def made(self) -> Iterator[None]:
        """Make it, stopped; afterwards it is gone, and so is what an earlier try left."""
        self._remove()
        try:
            self.driver.clone(self._define(), self.original.domain, self.workspace.tag(self.original.name))
            yield
        finally:
            with interrupt.shielded():
                self._remove()

    def clean(self) -> None:
        """Boot it, make it nobody's, and shut it down."""
        self.driver.start(self.domain, self.tag)
        own = key_pairs.ensure(self.original.layout.key).split()[1]
        with self._connection() as connection:
            connection.run(["sh", "-c", script("leave_key"), "sh", own, published_line()])
            connection.run(["sh", "-c", script("clean"), "sh", own], sudo=True)
            connection.run(["sh", "-c", POWER_OFF], sudo=True)
        self.driver.stop(self.domain, self.tag)
        what = f"the copy of {self.record.machine} to shut down"
        until(lambda: self._state() in OFF, Deadline.after(self.spec.halt_timeout), what)

    def _define(self) -> Definition:
        layout = self.workspace.layout.machine(self.name)
        files.make_directory(layout.root)
        forwards: tuple[Forward, ...] = ()
        features = features_of(self.driver, self.spec)
        if features.user_network:
            owner = self.workspace.owner(self.name)
            forwards = self.workspace.ports.lease(owner, (), ssh=self.spec.ssh_port, running=False)
        record = self.record.but(name=self.domain, machine=self.name, forwards=forwards, folders={}, ready_run="")
        records.save(layout, record)
        root = str(self.workspace.project.root)
        made = definitions.build(self.spec, record, features, layout, root=root)
        made = structs.replace(made, mac=nic_address(self.record))  # that one is off
        if made.seed:
            as_original = structs.replace(made, tag=structs.replace(made.tag, machine=self.record.machine))
            identity = GuestIdentity(
                definition=as_original, features=features, user=record.user, uid=record.uid,
                public_key=key_pairs.ensure(self.original.layout.key), host_key=self.original.layout.host_key,
            )  # fmt: skip
            seed.write(made.seed, identity)
        return made

    def _connection(self) -> ssh.Connection:
        return ssh.await_ssh(
            machine=self.record.machine,
            address=lambda: self.driver.address(self.domain, self.tag),
            login=self._login,
            alive=lambda: self._state() in (State.RUNNING, State.STARTING),
            deadline=Deadline.after(self.spec.boot_timeout),
            console=self.workspace.layout.machine(self.name).console,
            report=self.workspace.report,
        )

    def _login(self, address: Address) -> Login:
        """As to the original: the copy has its keys."""
        layout = self.original.layout
        return Login(
            machine=self.record.machine, address=address, user=self.record.user, key=layout.key,
            known_hosts=layout.known_hosts, config=layout.ssh_config,
        )  # fmt: skip

    def _state(self) -> State | None:
        observed = self.driver.observe(self.domain)
        return observed.state if observed else None

    def _remove(self) -> None:
        self.driver.destroy(self.domain, self.tag)
        self.workspace.ports.release(self.workspace.owner(self.name))
        files.remove_tree(self.workspace.layout.machine(self.name).root)


def nic_address(record: Record) -> str:
    """The MAC address of a machine's NIC 1, to which its guest may be tied."""
    return record.box.mac or definitions.mac(record.project, record.machine, 1)


def script(name: str) -> str:
    """A script for a guest: ``NAME.sh`` beside this module."""
    return Path(__file__).with_name(f"{name}.sh").read_text(encoding="utf-8")
