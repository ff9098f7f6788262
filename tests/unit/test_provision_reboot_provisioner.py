from __future__ import annotations

import pytest

from tests.unit.scripted_link import ScriptedLink
from vmctl.errors import Unreachable, VmctlError
from vmctl.events import ignore
from vmctl.provision import reboot_provisioner
from vmctl.provision.target import Target
from vmctl.spec import Reboot


class Guest:
    """A guest that cannot be reached for some tries after it was told to restart."""

    def __init__(self, away: int = 2, *, comes_back: bool = True) -> None:
        self.away, self.comes_back = away, comes_back
        self.boot = 1
        self.told = ""
        self.mounted = 0
        self.link = ScriptedLink(self.reply)

    def reply(self, command: str) -> tuple[int, str]:
        if "reboot" in command:
            self.told = command
            return 0, ""
        return 0, f"boot-{self.boot}\n"

    def connect(self) -> ScriptedLink:
        if self.told and self.boot == 1:
            self.away -= 1
            if self.away >= 0 or not self.comes_back:
                raise Unreachable("web: nothing answers")
            self.boot = 2
        return self.link

    def mount(self) -> None:
        self.mounted = self.boot


def test_it_waits_until_the_guest_has_booted_anew_and_mounts_its_folders() -> None:
    guest = Guest()
    (outcome,) = reboot_provisioner.provision(Reboot(name="restart"), [_target(guest)], ignore)
    assert (outcome.failure, outcome.counts.changed) == (None, 1)
    assert guest.mounted == 2
    assert guest.link.asked[1].startswith('sudo sh -c trap "" HUP; (sleep 1;')


def _target(guest: Guest) -> Target:
    return Target(name="web", provision=(), connect=guest.connect, after_reboot=guest.mount)


def test_a_guest_that_stays_away_is_unreachable() -> None:
    guest = Guest(comes_back=False)
    (outcome,) = reboot_provisioner.provision(Reboot(name="restart", timeout=0.2), [_target(guest)], ignore)
    assert outcome.failure
    assert outcome.failure.unreachable
    assert outcome.failure.brief == "web: the guest did not come back within 0.2 s (provisioner 'restart')"


def test_folders_that_can_not_be_mounted_are_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    guest = Guest()

    def refuse() -> None:
        raise VmctlError("the folder /project could not be shared")

    monkeypatch.setattr(guest, "mount", refuse)
    (outcome,) = reboot_provisioner.provision(Reboot(name="restart"), [_target(guest)], ignore)
    assert outcome.failure
    assert outcome.failure.brief == "web: the folder /project could not be shared (provisioner 'restart')"
