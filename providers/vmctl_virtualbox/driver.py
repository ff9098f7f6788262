"""The VirtualBox driver: what vmctl asks of a hypervisor, said in VBoxManage's words."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from vmctl import interrupt
from vmctl.driver import Address, Definition, Disk, Features, Host, NotOurs, Observed, State, Tag
from vmctl.errors import UsageError, VmctlError, WrongState
from vmctl.powers import Exported, Layer, Snapshot
from vmctl.spec import LOOPBACK
from vmctl_virtualbox import answers, checks, disk_reading, hardware, knobs, machine_mark, media
from vmctl_virtualbox.layer_media import BoxMedia, LayerMedia
from vmctl_virtualbox.machine import MachineMaker, VirtualBoxMachine
from vmctl_virtualbox.media import Media
from vmctl_virtualbox.snapshots import VirtualBoxSnapshotter
from vmctl_virtualbox.vboxmanage import VBoxManage

NEWEST_KNOWN = (7, 2)
SSH = "ssh"


class VirtualBoxDriver:
    """VirtualBox on this host, for the user that runs vmctl."""

    name = "virtualbox"

    def __init__(self, host: Host) -> None:
        self._host = host
        self._door = VBoxManage()
        self._media = Media(host.home, self._door)
        self._layers = LayerMedia(self._media)
        self._maker = MachineMaker(self._media, self._layers)

    @property
    def features(self) -> Features:
        """What VirtualBox can do, on every host."""
        return Features(formats=media.FORMATS, folders=("vboxsf",), copies_layers=True)

    @property
    def where(self) -> str:
        """There is one for each user."""
        return ""

    def usable(self) -> str:
        """Why VirtualBox cannot be used here, or ""."""
        return checks.unusable(self._door, forced=self._host.options.get("force") is True)

    def check(self, definition: Definition) -> None:
        """Refuse what cannot work, all faults of the machine at once."""
        checks.check(self._door, definition, present_disk=self._present_disk(definition))
        version = self._door.version()
        if version.numbers[:2] > NEWEST_KNOWN:
            self._host.warn(f"VirtualBox {version} is newer than any that vmctl was tested with", "")

    def create(self, definition: Definition, base: Disk) -> None:
        """Make the machine, stopped; what a killed attempt left behind is removed first."""
        self._create(definition, base)

    def clone(self, definition: Definition, source: str, tag: Tag) -> None:
        """Make a machine with a copy of the disk of ``source``."""
        disk = disk_reading.source_disk(self._ours(source, tag)[0])
        self._create(definition, disk, medium=str(disk.path))

    def export(self, name: str, tag: Tag, directory: Path) -> Exported:
        """Write an OVF and its disks; the machine loses what ties it to this host."""
        machine, mark = self._ours(name, tag)
        exported = disk_reading.export(machine, directory)
        self._media.eject(mark.seed)
        return exported

    def _create(self, definition: Definition, base: Disk, *, medium: str = "") -> None:
        machine, found = self._found(definition.name, definition.tag)
        if found and found.complete and machine.shown() is not None:
            return
        if not medium:
            _check_base(definition, base)
        self.destroy(definition.name, definition.tag)
        mark = _mark(definition)
        machine_mark.write(self._door, mark)
        try:
            self._maker.make(machine, definition, base, medium)
            machine_mark.write(self._door, mark.completed())
        except BaseException:
            with interrupt.shielded(), suppress(VmctlError):  # what failed first is what matters
                self.destroy(definition.name, definition.tag)
            raise

    def update(self, definition: Definition) -> None:
        """Make a stopped machine's settings match."""
        machine, before = self._ours(definition.name, definition.tag)
        shown = machine.existing()
        if answers.state(shown["VMState"]) not in (State.STOPPED, State.CRASHED):
            raise WrongState(f"{definition.name} is {shown['VMState']}; its hardware can change only when it is off")
        present = self._present_disk(definition)
        media.check_size(definition.spec.disk, present)
        self._maker.apply(machine, definition, shown)
        if definition.spec.disk is not None and definition.spec.disk > present:
            self._media.resize(hardware.root_disk(shown), definition.spec.disk)
        after = _mark(definition).completed()
        machine_mark.write(self._door, after)
        if before.seed != after.seed:
            self._media.eject(before.seed)

    def start(self, name: str, tag: Tag) -> None:
        """Start, restore or unpause."""
        machine, mark = self._ours(name, tag)
        machine.start(mark)

    def stop(self, name: str, tag: Tag, *, force: bool = False) -> None:
        """Press the power button and return, or cut the power."""
        machine, _ = self._found(name, tag)
        if force:
            machine.stop_now()
        else:
            machine.press_button()

    def suspend(self, name: str, tag: Tag) -> None:
        """Save the memory to disk and stop."""
        self._ours(name, tag)[0].suspend()

    def destroy(self, name: str, tag: Tag) -> None:
        """Remove the machine, its disks and its folder. Bases, and disks from elsewhere, stay."""
        machine, mark = self._found(name, tag)
        shown = machine.at_rest()
        if shown is not None:
            self._unregister(machine, shown)
        own = self._media.machine(machine.uuid)
        if mark or own.exists():
            self._media.forget(own)
            self._media.eject(mark.seed if mark else "")
            media.remove_folder(own)
            machine_mark.remove(self._door, name)
        self._layers.sweep()

    def states(self) -> Mapping[str, Observed]:
        """All finished machines with vmctl's tag, in two calls."""
        marks = {uuid: mark for uuid, mark in machine_mark.read(self._door).items() if mark.complete}
        if not marks:
            return {}
        text = self._door("list", "--long", "vms", partial=True)
        found = answers.long_states(text)
        observed = {}
        for uuid, mark in marks.items():
            if uuid not in text:
                continue  # removed with other tools; its tag alone means nothing
            shown = found.get(uuid)
            if shown is None or not answers.is_known_state(shown.word):
                shown = self._ask(VirtualBoxMachine(self._door, mark.name)) or shown
            if shown is not None:
                observed[mark.name] = _observed(shown, mark)
        return observed

    def observe(self, name: str) -> Observed | None:
        """One finished machine with vmctl's tag."""
        machine = VirtualBoxMachine(self._door, name)
        mark = machine_mark.read(self._door).get(machine.uuid)
        shown = self._ask(machine) if mark and mark.complete else None
        return _observed(shown, mark) if mark and shown else None

    def address(self, name: str, tag: Tag) -> Address | None:
        """The host's end of the SSH forward."""
        shown = self._found(name, tag)[0].shown() or {}
        rule = next((rule for rule in answers.rules(shown) if rule.name == SSH), None)
        return Address(host=rule.host_ip or LOOPBACK, port=rule.host) if rule else None

    # -- Snapshots

    def snapshots(self, name: str, tag: Tag) -> tuple[Snapshot, ...]:
        """The machine's snapshots, parents first."""
        return tuple(kept.snapshot for kept in self._snapshots(name, tag).all())

    def save_snapshot(self, name: str, tag: Tag, snapshot: str, *, replace: bool = False, note: str = "") -> Snapshot:
        """Keep the present state, with the memory of a running machine."""
        return self._snapshots(name, tag).save(snapshot, replacing=replace, note=note)

    def restore_snapshot(self, name: str, tag: Tag, snapshot: str) -> None:
        """Go back to a snapshot; a running machine is cut off first."""
        self._snapshots(name, tag).restore(snapshot)

    def remove_snapshot(self, name: str, tag: Tag, snapshot: str) -> None:
        """Forget a snapshot; what builds on it is kept."""
        self._snapshots(name, tag).remove(snapshot)

    # -- Layers

    def layers(self) -> tuple[Layer, ...]:
        """All layers of this user."""
        return self._layers.all()

    def freeze(self, name: str, tag: Tag, key: str) -> bool:
        """Keep a copy of the machine's disk as it is now; a running machine pauses for that."""
        machine, mark = self._ours(name, tag)
        with self._layers.making(key) as part:
            if part is not None:
                disks = disk_reading.own_disks(self._media, machine)
                with disk_reading.standing_still(machine, mark):
                    part.fill(disks)
        return part is not None

    def remove_leftovers(self) -> tuple[Layer, ...]:
        """Remove what killed commands left of layers and bases."""
        return (*self._layers.sweep(), *BoxMedia(self._media).sweep())

    def remove_layer(self, key: str) -> bool:
        """Remove a layer that nothing stands on."""
        return self._layers.remove(key)

    def box_copies(self) -> tuple[Layer, ...]:
        """The bases that boxes were converted to."""
        return tuple(BoxMedia(self._media).all())

    def remove_box_copy(self, key: str) -> bool:
        """Remove a base that nothing stands on."""
        return BoxMedia(self._media).remove(key)

    # -- parts of the above

    def _present_disk(self, definition: Definition) -> int:
        """The present size of the machine's disk, where that matters; else 0."""
        shown = VirtualBoxMachine(self._door, definition.name).shown() if definition.spec.disk is not None else None
        return self._media.capacity(hardware.root_disk(shown)) if shown and hardware.root_disk(shown) else 0

    def _unregister(self, machine: VirtualBoxMachine, shown: dict[str, str]) -> None:
        machine.stop_now()
        folder = machine.folder(shown)
        self._door("unregistervm", machine.uuid)
        if folder is not None and not folder.is_relative_to(self._media.machine(machine.uuid)):
            self._media.forget(folder)
            media.remove_moved(folder, Path(shown["CfgFile"]).stem)

    def _found(self, name: str, tag: Tag) -> tuple[VirtualBoxMachine, machine_mark.MachineMark | None]:
        """The machine of that name, there or not, and its mark; a mark without a machine is of one half made.

        What is done with it is done by its UUID, to which the mark belongs as well.

        Raises:
            NotOurs: it bears another tag, or is there and bears none.
        """
        machine = VirtualBoxMachine(self._door, name)
        mark = machine_mark.read(self._door).get(machine.uuid)
        foreign = not mark.tag.is_same(tag) if mark else machine.shown() is not None
        if foreign:
            raise NotOurs("VirtualBox", name, mark.tag if mark else None)
        return machine, mark

    def _ours(self, name: str, tag: Tag) -> tuple[VirtualBoxMachine, machine_mark.MachineMark]:
        """As ``_found``, but absence is an error too."""
        machine, mark = self._found(name, tag)
        if mark is None:
            raise WrongState(f"there is no machine {name} in VirtualBox", hint="vmctl up")
        return machine, mark

    def _ask(self, machine: VirtualBoxMachine) -> answers.Shown | None:
        """The state of a machine whose entry in the long listing was not understood (another language, perhaps)."""
        shown = machine.shown()
        return answers.Shown(shown["VMState"], shown.get("VMStateChangeTime", "")) if shown else None

    def _snapshots(self, name: str, tag: Tag) -> VirtualBoxSnapshotter:
        return VirtualBoxSnapshotter(self._door, self._ours(name, tag)[0])


def _mark(definition: Definition) -> machine_mark.MachineMark:
    chosen = knobs.read(definition.spec)
    return machine_mark.MachineMark(
        name=definition.name,
        tag=definition.tag,
        seed=str(definition.seed or ""),
        pre_boot=chosen.commands(knobs.PRE_BOOT),
        post_boot=chosen.commands(knobs.POST_BOOT),
    )


def _observed(shown: answers.Shown, mark: machine_mark.MachineMark) -> Observed:
    state = answers.state(shown.word)
    run = mark.run_since(shown.since) if state in (State.RUNNING, State.PAUSED) else ""
    return Observed(state=state, tag=mark.tag, run=run, raw=shown.word)


def _check_base(definition: Definition, base: Disk) -> None:
    if base.arch != platform.machine():
        raise UsageError(
            f"the box is for {base.arch}, this host is {platform.machine()}: VirtualBox does not emulate",
            hint="vmctl box list -i    # take one for this host, or `provider: libvirt`",
        )
    media.check_size(definition.spec.disk, base.virtual_size)
