"""Domains that carry vmctl's mark: find them, tell their state, change it."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from msgspec import structs

from vmctl.driver import NotOurs, Observed, State, Tag
from vmctl.errors import WrongState
from vmctl.wait import Deadline, until
from vmctl_libvirt import domain_edit, domain_mark, networks, xml_text
from vmctl_libvirt.domain_edit import Edit
from vmctl_libvirt.domain_mark import DomainMark
from vmctl_libvirt.libvirt_errors import NO_DOMAIN, is_code, is_unsavable, library, still_there

# libvirt's numbers (virDomainState) and words for what a domain does.
STATES = {
    0: (State.UNKNOWN, "no state"),
    1: (State.RUNNING, "running"),
    2: (State.RUNNING, "blocked"),
    3: (State.PAUSED, "paused"),
    4: (State.STOPPING, "in shutdown"),
    5: (State.STOPPED, "shut off"),
    6: (State.CRASHED, "crashed"),
    7: (State.PAUSED, "suspended by its guest"),
}
PAUSED_IO_ERROR = 5
PAUSED_STARTING_UP = 11
SHUTOFF_CRASHED = 3
PATIENCE = 120.0
"""Seconds for libvirt to restore a machine's memory."""
UNWRITTEN = "it stands still, because this host could not write to its disk; it goes on once there is space again"
ACTIVE = (State.RUNNING, State.PAUSED, State.STARTING, State.STOPPING)


def find(connection: Any, name: str) -> Any | None:
    """The domain ``name``, ours or not; None when there is none."""
    libvirt = library()
    try:
        return connection.lookupByName(name)
    except libvirt.libvirtError as error:
        if is_code(error, NO_DOMAIN):
            return None
        raise


def find_ours(connection: Any, name: str, tag: Tag) -> tuple[Any, DomainMark] | None:
    """The domain ``name`` and its mark; None when there is none.

    libvirt knows a domain that it handed out by its UUID, so what is done with it is done with the one looked at here.

    Raises:
        NotOurs: it exists, and does not bear ``tag``.
    """
    domain = find(connection, name)
    if domain is None:
        return None
    mark = domain_mark.read(domain)
    if mark is None or not mark.tag.is_same(tag):
        raise NotOurs("libvirt", name, mark.tag if mark else None)
    return domain, mark


def must_find(connection: Any, name: str, tag: Tag) -> tuple[Any, DomainMark]:
    """As ``find_ours``, but absence is an error too."""
    found = find_ours(connection, name, tag)
    if found is None:
        raise WrongState(f"libvirt has no machine {name!r}", hint="vmctl up")
    return found


def observe_all(connection: Any) -> Iterator[tuple[str, Observed]]:
    """Name and observation of every domain with a whole mark."""
    libvirt = library()
    saved = {each.name() for each in connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_MANAGEDSAVE)}

    def ask(domain: Any) -> Observed | None:
        mark = domain_mark.read(domain)
        if mark is None:
            return None
        is_saved = domain.name() in saved or bool(mark.resume and not domain.isActive())
        return _observe(domain, mark, is_saved=is_saved)

    for domain, observed in still_there(connection.listAllDomains(0), ask, NO_DOMAIN):
        if observed is not None:
            yield domain.name(), observed


def observe(connection: Any, name: str) -> Observed | None:
    """The observation of one domain; None when there is none of that name with a whole mark."""
    libvirt = library()
    try:
        domain = find(connection, name)
        mark = domain_mark.read(domain) if domain is not None else None
        return _observe(domain, mark, is_saved=_is_saved(domain, mark)) if mark else None
    except libvirt.libvirtError as error:
        if is_code(error, NO_DOMAIN):  # it went while we were asking
            return None
        raise


def state_of(domain: Any) -> State:
    """What a domain is doing now."""
    mark = domain_mark.read(domain)
    return _state(domain, is_saved=_is_saved(domain, mark))[0]


def _is_saved(domain: Any, mark: DomainMark | None) -> bool:
    return not domain.isActive() and (bool(domain.hasManagedSaveImage(0)) or bool(mark and mark.resume))


def start(connection: Any, name: str, tag: Tag, *, runs_guests: bool = True) -> None:
    """Start, restore or unpause; running: nothing."""
    domain, mark = must_find(connection, name, tag)
    state = _settled(domain)
    if state is State.PAUSED:
        _wake(domain)
    elif state is State.STOPPING:
        raise WrongState(f"the machine {name!r} is shutting down", hint="vmctl halt    # waits until it is off")
    elif state is not State.RUNNING:
        if mark.resume and not runs_guests:  # no guest, no memory
            mark = structs.replace(mark, resume="")
        _start(connection, domain, mark, is_saved=state is State.SAVED)


def _settled(domain: Any) -> State:
    """What a domain is doing, once libvirt has started it: paused, where that was to restore its memory.

    The vmctl that had it restored may have been killed in the middle; libvirt goes on.
    """
    if state_of(domain) is State.STARTING:
        until(lambda: state_of(domain) is not State.STARTING, Deadline.after(PATIENCE), "libvirt to start the machine")
    return state_of(domain)


def stop(connection: Any, name: str, tag: Tag, *, force: bool) -> None:
    """Press the power button, or cut the power and drop a saved state."""
    found = find_ours(connection, name, tag)
    if found is None:
        return
    domain, mark = found
    if force:
        cut_power(domain)
        if domain.hasManagedSaveImage(0):
            domain.managedSaveRemove(0)
        if mark.resume:
            domain_mark.write(domain, structs.replace(mark, resume=""), live=False)
        return
    state = state_of(domain)
    if state is State.PAUSED:
        _wake(domain)  # a frozen guest feels no button
    if state in (State.RUNNING, State.PAUSED):
        with _unless_off(domain):
            domain.shutdown()


def suspend(connection: Any, name: str, tag: Tag) -> bool:
    """Save the memory to disk and stop; where a device forbids that (virtiofs above all), freeze the machine in memory.

    Returns:
        Whether it is on disk.
    """
    libvirt = library()
    domain, _ = must_find(connection, name, tag)
    state = state_of(domain)
    if state is State.SAVED:
        return True
    if state not in (State.RUNNING, State.PAUSED):
        raise WrongState(f"the machine {name!r} is not running", hint="vmctl up")
    if not domain_edit.has_virtiofs(domain):
        try:
            domain.managedSave(0)
        except libvirt.libvirtError as error:
            if not is_unsavable(error):
                raise
        else:
            return True
    if state is State.RUNNING:
        domain.suspend()
    return False


def undefine(domain: Any, *, runs_guests: bool) -> None:
    """Cut the power and make libvirt forget a domain, its saved memory and its firmware variables."""
    libvirt = library()
    cut_power(domain)
    flags = libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
    if runs_guests:
        flags |= libvirt.VIR_DOMAIN_UNDEFINE_NVRAM | libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
    domain.undefineFlags(flags)


def cut_power(domain: Any) -> None:
    """Stop a domain at once; off: nothing."""
    with _unless_off(domain):
        if domain.isActive():
            domain.destroy()


def _start(connection: Any, domain: Any, mark: DomainMark, *, is_saved: bool) -> None:
    networks.start(connection, networks.used_by(domain))
    prepare_console(domain, keep=is_saved)
    run = secrets.token_hex(8)
    # From here on the memory counts as used, whatever happens: it must never meet a disk that went on without it.
    domain_mark.write(domain, structs.replace(mark, run=run, resume=""), live=False)
    if mark.resume:
        _go_back(connection, domain, structs.replace(mark, run=run))
        return
    _power_on(connection, domain)
    if is_saved:  # the restored copy brought the token of its former run
        domain_mark.write_run(domain, mark, run, live=True)


def _go_back(connection: Any, domain: Any, mark: DomainMark) -> None:
    """Go on from a snapshot's memory, on the disks that were made for it, with the forwards of then."""
    libvirt = library()
    saved = connection.saveImageGetXMLDesc(mark.resume, libvirt.VIR_DOMAIN_SAVE_IMAGE_XML_SECURE)
    then = domain_edit.mark_in(saved) or mark
    edit = Edit(disks=domain_edit.disks(domain), mark=structs.replace(then, run=mark.run, resume=""))
    try:
        connection.restoreFlags(mark.resume, edit.applied_to(saved), libvirt.VIR_DOMAIN_SAVE_RUNNING)
    except libvirt.libvirtError:
        if not domain.isActive():  # no guest has run on those disks
            domain_mark.write(domain, mark, live=False)
        raise


def _power_on(connection: Any, domain: Any) -> None:
    from vmctl_libvirt import own_virtiofsd, shares

    libvirt = library()
    with own_virtiofsd.served(shares.read_notes(domain)):
        try:
            domain.create()
        except libvirt.libvirtError as error:
            if not (directory := networks.missing_directory(str(error))):
                raise
            networks.make_directory(connection, directory)
            domain.create()


def prepare_console(domain: Any, *, keep: bool) -> None:
    """Empty the console's file, made by us: one that libvirt's root daemon makes could not be read by the user."""
    root = xml_text.parse(domain.XMLDesc(0))
    source = root.find("devices/serial[@type='file']/source")
    if source is not None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | (0 if keep else os.O_TRUNC)
        with suppress(OSError):  # the file belongs to somebody else, or its directory went; libvirt says if it minds
            os.close(os.open(Path(source.get("path", "")), flags, 0o600))


def _wake(domain: Any) -> None:
    """Have a paused domain run.

    One that stands still while its memory is written, for a vmctl that was killed, may go on by itself before.
    """
    libvirt = library()
    try:
        if domain.state(0)[0] == libvirt.VIR_DOMAIN_PMSUSPENDED:
            domain.pMWakeup(0)
        else:
            domain.resume()
    except libvirt.libvirtError:
        if state_of(domain) is not State.RUNNING:
            raise


def _observe(domain: Any, mark: DomainMark, *, is_saved: bool) -> Observed:
    state, raw = _state(domain, is_saved=is_saved)
    run = f"{domain.ID()}-{mark.run}" if state in ACTIVE else ""
    problem = UNWRITTEN if state is State.PAUSED and domain.state(0)[1] == PAUSED_IO_ERROR else ""
    return Observed(state=state, tag=mark.tag, run=run, raw=raw, problem=problem)


def _state(domain: Any, *, is_saved: bool) -> tuple[State, str]:
    number, reason = domain.state(0)
    state, raw = STATES.get(number, (State.UNKNOWN, f"state {number}"))
    if state is State.STOPPED and is_saved:
        return State.SAVED, "saved"
    if state is State.STOPPED and reason == SHUTOFF_CRASHED:
        return State.CRASHED, "crashed"
    if state is State.PAUSED and reason == PAUSED_STARTING_UP:
        return State.STARTING, "starting up"
    return state, raw


@contextmanager
def _unless_off(domain: Any) -> Iterator[None]:
    """Ignore that the domain stopped by itself in the meantime."""
    try:
        yield
    except library().libvirtError:
        if domain.isActive():
            raise
