"""The guest's half of standing still and going on: the scripts, with programs that write down what they are asked."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from vmctl.lifecycle import quiescing
from vmctl.lifecycle.quiescing import QUIESCE, WAIT, WAKE

PROGRAM = """#!/bin/sh
echo "{name} $*" >>"{log}"
{body}
"""
UNITS = "a.timer loaded active waiting A\\nb.timer loaded active waiting B\\n"


class Guest:
    """A directory of programs that stands in for the guest's, and the files that the scripts use."""

    def __init__(self, root: Path) -> None:
        self.root, self.bin, self.log = root, root / "bin", root / "log"
        self.timers, self.seed, self.stamps = root / "timers", root / "random-seed", root / "stamps"
        self.waiter = root / "waiter"
        self.stamps.mkdir()
        self.bin.mkdir()
        self.log.touch()
        self.seed.touch()
        for name in ("umount", "mount", "sync"):
            self.program(name)
        self.program("systemctl", f"[ $1 != list-units ] || printf '{UNITS}'")
        self.program("date", "[ $1 != +%s ] || echo 1000")
        self.program("perl", f'cat >"{root}/drawn"; echo 1000')
        for name in ("sh", "rm", "cat", "sleep"):
            (self.bin / name).symlink_to(f"/bin/{name}")

    def program(self, name: str, body: str = "") -> None:
        path = self.bin / name
        path.unlink(missing_ok=True)  # it may be a link to this host's
        path.write_text(PROGRAM.format(name=name, log=self.log, body=body))
        path.chmod(0o755)

    def run(self, script: Path, *words: str, before: str = "") -> list[str]:
        text = script.read_text().replace("/run/vmctl-timers", str(self.timers))
        text = text.replace("/run/vmctl-waiter", str(self.waiter))
        text = text.replace("/var/lib/systemd/random-seed", str(self.seed))
        text = text.replace("/var/lib/systemd/timers", str(self.stamps))
        argv = [str(self.bin / "sh"), "-s", "--", *words]
        env = {"PATH": str(self.bin), "LC_ALL": "C"}
        done = subprocess.run(argv, input=before + text, env=env, capture_output=True, text=True, check=True)
        assert done.stderr == ""
        return done.stdout.splitlines()

    @property
    def asked(self) -> list[str]:
        known = ("umount ", "mount ", "sync", "date ", "systemctl s")
        return [line for line in self.log.read_text().splitlines() if line.startswith(known)]


@pytest.fixture
def guest(tmp_path: Path) -> Guest:
    return Guest(tmp_path)


def wake(guest: Guest, *folders: str, now: int = 1001) -> list[str]:
    return guest.run(WAKE, "token", str(now), "2", *folders, before="seed=abcd\n")


def quiesce(guest: Guest, *folders: str) -> list[str]:
    return guest.run(QUIESCE, "", "2", *folders)


def both(path: str) -> tuple[str, str]:
    """A path, as it is and as fstab writes it."""
    return (path, path)


def test_a_guest_lets_go_of_folders_and_timers(guest: Guest) -> None:
    assert quiesce(guest, *both("/proc"), *both("/dev"), *both("/not/mounted")) == ["quiet perl"]
    assert guest.asked == ["umount -- /proc", "umount -- /dev", "systemctl stop -- a.timer b.timer", "sync "]
    assert not guest.seed.exists()
    assert guest.timers.read_text().split() == ["a.timer", "b.timer"]


def test_a_folder_in_use_ends_it(guest: Guest) -> None:
    guest.program("umount", '[ "$2" != /proc ]')
    assert quiesce(guest, *both("/dev"), *both("/proc"), *both("/")) == ["busy /proc"]
    assert guest.asked == ["umount -- /dev", "umount -- /proc"], "what is mounted again is up to wake.sh"
    assert guest.seed.exists()
    assert not guest.timers.exists()


def test_a_guest_tells_that_nothing_can_renew_its_random_numbers(guest: Guest) -> None:
    (guest.bin / "perl").unlink()
    assert quiesce(guest) == ["quiet "]
    assert wake(guest) == ["stale"]
    guest.program("python3", f'cat >"{guest.root}/drawn"')
    assert quiesce(guest) == ["quiet python3"]
    assert wake(guest) == ["token"]
    assert (guest.root / "drawn").read_text() == "abcd"


def test_a_guest_that_stood_still_twice_starts_the_timers_of_the_first_time(guest: Guest) -> None:
    quiesce(guest)
    guest.program("systemctl")
    quiesce(guest)
    assert guest.timers.read_text().split() == ["a.timer", "b.timer"]
    stamp = guest.stamps / "stamp-a.timer"
    stamp.write_text("x")
    assert wake(guest) == ["token"]
    limit = time.monotonic() + 60
    while guest.timers.exists() and time.monotonic() < limit:
        time.sleep(0.05)
    assert guest.asked[-1] == "systemctl start --no-block -- a.timer b.timer"
    assert not guest.timers.exists()
    assert stamp.read_text() == "", "it missed nothing"
    assert list(guest.stamps.iterdir()) == [stamp], "what is not persistent has none"


def test_a_guest_goes_on_with_new_numbers_its_folders_and_a_true_clock(guest: Guest) -> None:
    assert wake(guest, "/proc", "/proc", "/a b", "/a\\040b") == ["token"]
    assert (guest.root / "drawn").read_text() == "abcd"
    assert guest.asked == ["mount -- /a b"], "/proc is mounted, the clock right enough"
    wake(guest, now=31_536_000)
    assert guest.asked[-1] == "date --utc --set @31536000"


def test_a_guest_tells_what_it_could_not_do(guest: Guest) -> None:
    guest.program("mount", "echo 'no such device'; exit 32")
    guest.program("sleep")
    guest.program("perl", "exit 1")
    assert wake(guest, "/a", "/a") == ["failed /a no such device", "stale"]


def test_what_was_plugged_in_just_now_is_mounted_once_it_is_there(guest: Guest) -> None:
    guest.program("mount", f'[ -e "{guest.root}/there" ]')
    guest.program("sleep", f': >"{guest.root}/there"')
    assert wake(guest, "/a", "/a") == ["token"]
    assert guest.asked == ["mount -- /a", "mount -- /a"]


def test_who_waits_to_wake_it_does_so_no_more(guest: Guest) -> None:
    with subprocess.Popen(["/bin/sleep", "600"], start_new_session=True) as waiting:
        guest.waiter.write_text(f"{waiting.pid}\n")
        assert wake(guest) == ["token"]
        assert waiting.wait(60) < 0
    assert guest.waiter.read_text() == ""


@pytest.mark.parametrize("failed", ["", "failed /a no such device"])
def test_a_guest_that_waits_goes_on_by_the_word_on_its_disk(tmp_path: Path, failed: str) -> None:
    disk, place, console = (tmp_path / name for name in ("disk", "number", "console"))
    old, new = "1" * 32, "2" * 32
    disk.write_bytes(quiescing.word(old))
    console.touch()
    text = WAIT.read_text().replace("/dev/console", str(console)).replace("/dev/urandom", os.devnull)
    text = text.replace("ioctl($random", "added($random") + "sub added { 1 }"  # only root may add randomness
    script = f'echo "$* $seen" >{tmp_path}/asked; echo "$1"; [ -z "{failed}" ] || echo "{failed}"'
    words = [str(place), str(disk), script, "2", "/a/b", "/a/b", "/a", "/a"]
    with subprocess.Popen(["perl", "-e", text, *words]) as waiting:
        limit = time.monotonic() + 60
        while not place.exists() or not place.read_text():
            assert time.monotonic() < limit
            time.sleep(0.01)
        assert place.read_text() == f"{waiting.pid}\n"
        assert console.read_text() == "", "a word that was there before means nothing"
        disk.write_bytes(quiescing.word(new))
        assert waiting.wait(60) == 0
    token, now, *rest, seen = (tmp_path / "asked").read_text().split()
    assert (token, rest) == (new, ["2", "/a", "/a", "/a/b", "/a/b"])
    assert all(abs(int(each) - time.time()) < 60 for each in (now, seen))
    assert (f"vmctl-awake {new}" in console.read_text()) is (not failed)
