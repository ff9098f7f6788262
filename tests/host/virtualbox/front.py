"""A VBoxManage that can start machines where VirtualBox cannot: each runs in QEMU, on VirtualBox's own media.

Every call goes to the real VBoxManage. Answered here: ``startvm`` and ``controlvm``, ``snapshot take`` and ``delete``
of a running machine (it is saved for a moment), refusals to change a machine that runs, and the lines of other answers
that tell whether a machine runs. Saved states are given to the real VirtualBox (``adoptstate``), which then keeps
them, with and without snapshots, itself.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.host.virtualbox import qemu
from tests.host.virtualbox.running import Running

LONG = {"poweroff": "powered off", "gurumeditation": "guru meditation"}
OFF = frozenset({"poweroff", "aborted"})
NEEDS_STOPPED = frozenset(
    {"modifyvm", "storageattach", "storagectl", "unregistervm", "discardstate", "adoptstate", "clonevm", "movevm"}
    | {"sharedfolder", "startvm"}
)
UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True)
class Front:
    """One installation, with a real VBoxManage behind it."""

    real: Path
    run: Path
    tree: Path
    environment: Mapping[str, str]

    def main(self, words: Sequence[str]) -> int:
        """Carry out one command; the exit status."""
        command = words[0] if words else ""
        if command == "list":
            return self._list(words)
        if len(words) > 1 and command in (*NEEDS_STOPPED, "showvminfo", "controlvm", "snapshot"):
            return self._about_machine(command, words)
        return self._pass(words)

    def _about_machine(self, command: str, words: Sequence[str]) -> int:
        """Each call of the real one takes a tenth of a second; a machine named by its UUID is not looked up first."""
        uuid = words[1] if UUID.fullmatch(words[1]) else ""
        if uuid and command == "showvminfo":
            return self._show(words, uuid)
        if uuid and command != "startvm" and not Running(self.run / uuid).is_alive():
            return self._pass(words)
        shown = self._shown(words[1])
        return self._pass(words) if shown is None else self._on_machine(command, words, shown)

    def _on_machine(self, command: str, words: Sequence[str], shown: Mapping[str, str]) -> int:
        machine = Running(self.run / shown["UUID"])
        if command == "showvminfo":
            return self._show(words, shown["UUID"])
        if not machine.is_alive():
            return self._start(machine, shown) if command == "startvm" else self._pass(words)
        if command == "controlvm":
            return self._control(machine, words, shown)
        if command == "snapshot" and {"take", "delete"} & set(words[2:3]):
            return self._snapshot(machine, words, shown)
        if command == "snapshot" and not {"restore", "restorecurrent"} & set(words[2:3]):
            return self._pass(words)
        return _refuse(f"The machine '{shown['name']}' is already locked for a session (or being unlocked)")

    # -- power

    def _start(self, machine: Running, shown: Mapping[str, str]) -> int:
        saved = shown.get("VMStateFile", "") if shown["VMState"] in ("saved", "aborted-saved") else ""
        try:
            machine.start(shown, tree=self.tree, environment=self.environment, state=saved)
        except RuntimeError as error:
            return _refuse(str(error), code="NS_ERROR_FAILURE")
        if saved:
            self._ask("discardstate", shown["UUID"])
        print(f'VM "{shown["name"]}" has been successfully started.')  # noqa: T201  it is a program
        return 0

    def _control(self, machine: Running, words: Sequence[str], shown: Mapping[str, str]) -> int:
        verb = words[2] if len(words) > 2 else ""
        simple = {"acpipowerbutton": "system_powerdown", "pause": "stop", "resume": "cont", "reset": "system_reset"}
        if verb in simple:
            machine.command(simple[verb])
            if verb in ("pause", "resume"):
                machine.touch()
        elif verb == "poweroff":
            machine.cut()
        elif verb == "savestate":
            self._save(machine, shown)
        else:
            return _refuse(f"this test front has no controlvm {verb}", code="E_NOTIMPL")
        return 0

    def _save(self, machine: Running, shown: Mapping[str, str]) -> None:
        state = Path(shown["SnapFldr"]) / f"{time.time_ns()}.sav"
        machine.save(state)
        self._ask("adoptstate", shown["UUID"], str(state))

    def _snapshot(self, machine: Running, words: Sequence[str], shown: Mapping[str, str]) -> int:
        self._save(machine, shown)
        status = self._pass(words)
        again = self._shown(shown["UUID"])
        assert again is not None
        with_memory = again.get("VMStateFile", "")
        machine.start(again, tree=self.tree, environment=self.environment, state=with_memory)
        self._ask("discardstate", shown["UUID"])
        return status

    # -- answers

    def _list(self, words: Sequence[str]) -> int:
        done = self._call("list", *words[1:])
        text = done.stdout
        if "runningvms" in words:
            names = self._ask("list", "vms").splitlines()
            text = "".join(f"{line}\n" for line in names if self._runs(line))
        elif "vms" in words:
            text = self._with_states(text)
        sys.stdout.write(text)
        sys.stderr.write(done.stderr)
        return done.returncode

    def _runs(self, line: str) -> bool:
        found = UUID.findall(line)
        return bool(found) and Running(self.run / found[-1]).is_alive()

    def _show(self, words: Sequence[str], uuid: str) -> int:
        done = self._call(*words)
        known = Running(self.run / uuid).state()
        text = done.stdout
        if known and qemu.properties(text).get("VMState", "poweroff") in OFF:
            word, since = known
            text = re.sub(r'^VMState="(?:poweroff|aborted)"$', f'VMState="{word}"', text, flags=re.MULTILINE)
            text = re.sub(r'^VMStateChangeTime=".*"$', f'VMStateChangeTime="{since}"', text, flags=re.MULTILINE)
            text = self._with_states(text)
        sys.stdout.write(text)
        sys.stderr.write(done.stderr)
        return done.returncode

    def _with_states(self, text: str) -> str:
        """The long listing, with the states of machines that run or ran here."""
        lines, uuid = [], ""
        for line in text.splitlines(keepends=True):
            if line.startswith("UUID: ") and (found := UUID.findall(line)):
                uuid = found[0]
            known = Running(self.run / uuid).state() if uuid and line.startswith("State: ") else None
            if known:
                state = f"{LONG.get(known[0], known[0])} (since {known[1]})"
                line = re.sub(r"(?:powered off|aborted) \(since .*\)", state, line)  # noqa: PLW2901
            lines.append(line)
        return "".join(lines)

    # -- the real one

    def _shown(self, machine: str) -> dict[str, str] | None:
        done = self._call("showvminfo", machine, "--machinereadable")
        return qemu.properties(done.stdout) if done.returncode == 0 and done.stdout else None

    def _pass(self, words: Sequence[str]) -> int:
        status = subprocess.run([self.real, *words], check=False).returncode
        if words[0] == "unregistervm" and status == 0 and UUID.fullmatch(words[1]):
            shutil.rmtree(self.run / words[1], ignore_errors=True)
        return status

    def _ask(self, *words: str) -> str:
        done = self._call(*words)
        if done.returncode != 0:
            raise RuntimeError(f"VBoxManage {' '.join(words)}: {done.stderr}")
        return done.stdout

    def _call(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([self.real, *words], capture_output=True, text=True, check=False)


def _refuse(message: str, *, code: str = "VBOX_E_INVALID_OBJECT_STATE") -> int:
    sys.stderr.write(f"VBoxManage: error: {message}\n")
    sys.stderr.write(
        f"VBoxManage: error: Details: code {code} (0x80bb0007), component MachineWrap, interface IMachine\n"
    )
    return 1
