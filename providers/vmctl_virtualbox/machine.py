"""One machine in VirtualBox: making it, looking at it, changing its hardware and its power."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vmctl import wait
from vmctl.driver import Definition, Disk, State
from vmctl.errors import VmctlError, WrongState
from vmctl_virtualbox import answers, hardware, knobs, machine_mark, media, networks
from vmctl_virtualbox.knobs import ID
from vmctl_virtualbox.layer_media import LayerMedia
from vmctl_virtualbox.media import Media
from vmctl_virtualbox.vboxmanage import NotFound, VBoxManage, VBoxManageFailed

SETTLING = 60.0
"""Seconds for VirtualBox to end what it is in the middle of (saving memory takes the longest)."""
NO_ACCESS = "E_ACCESSDENIED"


@dataclass(frozen=True)
class VirtualBoxMachine:
    """A machine by its name in vmctl."""

    door: VBoxManage
    name: str

    @property
    def uuid(self) -> str:
        """What VirtualBox is asked for."""
        return machine_mark.identifier(self.name)

    def shown(self) -> dict[str, str] | None:
        """``showvminfo``'s properties; None = VirtualBox says there is no such machine.

        For a machine whose files VirtualBox cannot read, the state is ``inaccessible`` and little else is known.
        """
        try:
            found = answers.properties(self.door("showvminfo", self.uuid, "--machinereadable"))
        except NotFound:
            return None
        except VBoxManageFailed as error:
            if error.code != NO_ACCESS:
                raise
            found = {}
        if not found.get("VMState"):
            return {**found, "VMState": answers.INACCESSIBLE}
        return found

    def at_rest(self) -> dict[str, str] | None:
        """As ``shown``, once VirtualBox is not in the middle of a change.

        Raises:
            TimedOut: it still is, after a minute.
        """
        last: dict[str, str] | None = None

        def is_at_rest() -> bool:
            nonlocal last
            last = self.shown()
            return last is None or answers.state(last["VMState"]) not in (State.STOPPING, State.STARTING)

        what = f"VirtualBox to finish what it does with {self.name}"
        wait.until(
            is_at_rest, wait.Deadline.after(SETTLING, self.door.clock), what, hint=f"VBoxManage showvminfo {self.uuid}"
        )
        return last

    def existing(self) -> dict[str, str]:
        """As ``at_rest``, for a machine that must exist and be readable.

        Raises:
            WrongState: it does not exist, or its files cannot be read.
        """
        found = self.at_rest()
        if found is None:
            raise WrongState(f"there is no machine {self.name} in VirtualBox", hint="vmctl up")
        if found["VMState"] == answers.INACCESSIBLE:
            raise WrongState(
                f"VirtualBox cannot read the files of the machine {self.name}",
                details="Its folder may lie on a disk that is not mounted.",
                hint=f"VBoxManage showvminfo {self.uuid}",
            )
        return found

    def start(self, mark: machine_mark.MachineMark) -> None:
        """Start, restore or unpause; the user's commands run around a start."""
        word = self.existing()["VMState"]
        now = answers.state(word)
        if now is State.RUNNING:
            return
        if now is State.PAUSED:
            self.door("controlvm", self.uuid, "resume")
            return
        if now is State.UNKNOWN:
            raise WrongState(f"VirtualBox says that {self.name} is {word!r}, from where vmctl cannot start it")
        if answers.letters(word) in answers.DEAD:
            self.cut_power()
        if now is not State.SAVED:  # VirtualBox changes no hardware under a saved state
            self._customize(mark.pre_boot)
        self.door("startvm", self.uuid)
        self._customize(mark.post_boot)

    def press_button(self) -> None:
        """Ask the guest to shut down. In a state where it cannot hear, cut the power."""
        word = (self.at_rest() or {}).get("VMState", "poweroff")
        if answers.letters(word) in answers.DEAD:
            self.cut_power()
            return
        now = answers.state(word)
        if now is State.PAUSED:  # it would not hear the button
            self.door("controlvm", self.uuid, "resume")
        if now in (State.RUNNING, State.PAUSED):
            self.door("controlvm", self.uuid, "acpipowerbutton")

    def stop_now(self) -> None:
        """Cut the power, drop a saved state. Stopped, inaccessible or absent: nothing to do."""
        word = (self.at_rest() or {}).get("VMState", "poweroff")
        now = answers.state(word)
        if now is State.SAVED:
            self.door("discardstate", self.uuid)
        elif now in (State.RUNNING, State.PAUSED) or answers.letters(word) in answers.DEAD:
            self.cut_power()

    def cut_power(self) -> None:
        """Power off and wait until VirtualBox has let go of the machine."""
        self.door("controlvm", self.uuid, "poweroff")
        self.at_rest()

    def suspend(self) -> None:
        """Save the memory. Saved already: nothing to do."""
        word = self.existing()["VMState"]
        now = answers.state(word)
        if now is State.SAVED:
            return
        if now not in (State.RUNNING, State.PAUSED):
            raise WrongState(f"{self.name} is not running (VirtualBox says {word!r}): nothing to save", hint="vmctl up")
        self.door("controlvm", self.uuid, "savestate")

    def folder(self, shown: dict[str, str]) -> Path | None:
        """Where the machine's files are; None = not known."""
        return Path(shown["CfgFile"]).parent if shown.get("CfgFile") else None

    def _customize(self, commands: tuple[tuple[str, ...], ...]) -> None:
        for words in commands:
            try:
                self.door(*(word.replace(ID, self.uuid) for word in words))
            except VmctlError as error:
                raise VmctlError(
                    f"virtualbox.customize: {error.brief}", details=error.details, hint="correct it in the Vmfile"
                ) from error


@dataclass(frozen=True)
class MachineMaker:
    """Makes the machines of one vmctl data directory."""

    media: Media
    layers: LayerMedia

    def make(self, machine: VirtualBoxMachine, definition: Definition, base: Disk, medium: str) -> None:
        """Register the machine with its disk: a copy of ``medium``, or made from a layer or a box."""
        chosen, uuid = knobs.read(definition.spec), machine.uuid
        home = self.media.machine(uuid)
        home.mkdir(mode=0o700, parents=True)
        place = ("--basefolder", home, "--ostype", hardware.OS_TYPE, "--uuid", uuid, "--register")
        self.media.door("createvm", "--name", definition.name, *place)
        shown = machine.existing()
        disk = (machine.folder(shown) or home) / media.ROOT_DISK
        if medium:
            self.media.copy(medium, disk)
        elif base.layer:
            self.layers.add_root_disk(base.layer, disk, linked=chosen.linked_clone, size=definition.spec.disk)
        else:
            self.media.add_root_disk(base, disk, linked=chosen.linked_clone, size=definition.spec.disk)
        self.media.door("storagectl", uuid, *hardware.controller(chosen.controller, base.format))
        port = ("--storagectl", hardware.CONTROLLER, "--port", str(hardware.DISK_PORT), "--device", "0")
        self.media.door("storageattach", uuid, *port, "--type", "hdd", "--medium", disk)
        self.media.door("modifyvm", uuid, *hardware.firmware(base.firmware))
        self.apply(machine, definition, shown)

    def apply(self, machine: VirtualBoxMachine, definition: Definition, shown: dict[str, str]) -> None:
        """Make a stopped machine's settings, cards, seed and folders those of the definition; it showed ``shown``."""
        chosen = knobs.read(definition.spec)
        options = hardware.settings(definition, chosen, answers.rules(shown))
        for number, nic in enumerate(definition.nics, 2):
            attachment = networks.attachment(self.media.door, definition, nic, chosen)
            options += hardware.further_nic(number, attachment, nic.mac, chosen)
        options += hardware.no_nics(2 + len(definition.nics))
        self.media.door("modifyvm", machine.uuid, *hardware.spelled(options, self.media.door.usage("modifyvm")))
        port = ("--storagectl", hardware.CONTROLLER, "--port", str(hardware.SEED_PORT), "--device", "0")
        seed = definition.seed or "emptydrive"
        self.media.door("storageattach", machine.uuid, *port, "--type", "dvddrive", "--medium", seed)
        self._share(machine, definition, shown)

    def _share(self, machine: VirtualBoxMachine, definition: Definition, shown: dict[str, str]) -> None:
        for tag in answers.shares(shown):
            self.media.door("sharedfolder", "remove", machine.uuid, "--name", tag)
        for share in definition.shares:
            mode = ["--readonly"] if share.read_only else []
            self.media.door("sharedfolder", "add", machine.uuid, "--name", share.tag, "--hostpath", share.host, *mode)
