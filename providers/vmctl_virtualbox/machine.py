"""One machine in VirtualBox: looking at it, and changing its power."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vmctl import wait
from vmctl.driver import State
from vmctl.errors import VmctlError, WrongState
from vmctl_virtualbox import answers, identity
from vmctl_virtualbox.knobs import ID
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
        return identity.identifier(self.name)

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

    def start(self, mark: identity.MachineMark) -> None:
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
        if now is not State.SAVED:
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
        if now is State.PAUSED:
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
