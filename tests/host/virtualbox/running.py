"""What the front knows of machines that run (in QEMU), kept in a directory for each."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tests.host import debian_tree
from tests.host.virtualbox import guest, qemu, qmp

WORDS = {"running": "running", "paused": "paused", "inmigrate": "restoring", "prelaunch": "starting"}
STARTING = 60.0
ENDING = 60.0
SAVING = 300.0


@dataclass(frozen=True)
class Running:
    """One machine's directory."""

    path: Path

    @property
    def monitor(self) -> Path:
        """QEMU's QMP socket."""
        return self.path / "qmp"

    def is_alive(self) -> bool:
        """Whether the machine's supervisor lives (it holds a lock, so a recycled process id cannot deceive)."""
        try:
            with (self.path / "lock").open("r+") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    def state(self) -> tuple[str, str] | None:
        """VirtualBox's word for the state, and since when; None = the front has nothing to say."""
        if self.is_alive():
            since = (self.path / "since").read_text() if (self.path / "since").exists() else stamp(time.time())
            return self._word(), since
        try:
            ended = json.loads((self.path / "ended.json").read_text())
        except FileNotFoundError:
            return None
        return ("poweroff" if ended["status"] == 0 else "aborted"), stamp(ended["since"])

    def _word(self) -> str:
        try:
            status = qmp.execute(self.monitor, "query-status")["status"]
        except qmp.NoAnswer:
            return "starting" if not (self.path / "since").exists() else "stopping"
        return WORDS.get(status, "gurumeditation")

    def start(self, shown: Mapping[str, str], *, tree: Path, environment: Mapping[str, str], state: str) -> None:
        """Run the machine, from the saved state in the file ``state`` unless that is empty."""
        shutil.rmtree(self.path, ignore_errors=True)
        self.path.mkdir(parents=True)
        disks = {
            drive.uuid: self.path / f"disk{number}"
            for number, drive in enumerate(qemu.drives(shown))
            if not drive.is_dvd
        }
        argv = qemu.argv(shown, {uuid: place / guest.VIEW for uuid, place in disks.items()}, self.monitor)
        if state:
            (self.path / "state").symlink_to(state)
            argv += ["-incoming", f"exec:cat {self.path / 'state'}"]
        inside = debian_tree.entered(tree, propagation="unchanged")
        plan = {"inside": inside, "disks": {uuid: str(place) for uuid, place in disks.items()}, "argv": argv}
        (self.path / "plan.json").write_text(json.dumps(plan))
        self._launch(environment)
        self._await_word("paused" if state else "running")
        if state:
            self.command("cont")
        self.touch()

    def _launch(self, environment: Mapping[str, str]) -> None:
        supervisor = [
            "unshare",
            "--mount",
            "--propagation",
            "private",
            sys.executable,
            "-I",
            guest.__file__,
            str(self.path),
        ]
        variables = {**os.environ, **environment, "LD_LIBRARY_PATH": ""}
        with (self.path / "log").open("wb") as log:
            subprocess.Popen(
                supervisor, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=variables, start_new_session=True
            )
        deadline = time.monotonic() + STARTING
        while not self.is_alive() and not (self.path / "ended.json").exists() and time.monotonic() < deadline:
            time.sleep(0.01)

    def _await_word(self, word: str) -> None:
        deadline = time.monotonic() + STARTING
        while self.is_alive() and time.monotonic() < deadline:
            if self._word() == word:
                return
            time.sleep(0.02)
        raise RuntimeError(f"QEMU did not start: {(self.path / 'log').read_text(errors='replace')}")

    def touch(self) -> None:
        """The state changed now."""
        (self.path / "since").write_text(stamp(time.time()))

    def command(self, name: str) -> None:
        """A QMP command without arguments."""
        qmp.execute(self.monitor, name)

    def cut(self) -> None:
        """End QEMU and wait until the disks are put away."""
        with contextlib.suppress(qmp.NoAnswer):  # it is ending already
            self.command("quit")
        self.await_end()

    def await_end(self) -> None:
        """Wait until the supervisor is gone."""
        deadline = time.monotonic() + ENDING
        while self.is_alive():
            if time.monotonic() > deadline:
                raise RuntimeError("QEMU does not end")
            time.sleep(0.02)

    def save(self, state: Path) -> None:
        """Write the memory to a file and end."""
        state.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self.path / "saving").unlink(missing_ok=True)
        (self.path / "saving").symlink_to(state)
        self.command("stop")
        qmp.execute(self.monitor, "migrate", uri=f"exec:cat > {self.path / 'saving'}")
        deadline = time.monotonic() + SAVING
        while (status := qmp.execute(self.monitor, "query-migrate").get("status")) != "completed":
            if status == "failed" or time.monotonic() > deadline:
                raise RuntimeError("QEMU could not save its memory")
            time.sleep(0.05)
        self.cut()
        self.forget()

    def forget(self) -> None:
        """VirtualBox itself knows the machine's state from here on."""
        shutil.rmtree(self.path, ignore_errors=True)


def stamp(seconds: float) -> str:
    """A time as VirtualBox writes it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f") + "000"
