"""Reading a booting guest's serial console for signs of what became of it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from vmctl.store import files
from vmctl.store.door import ForeignFile

KEPT = 64 * 1024  # characters at the end that are looked at
TAIL = 20  # lines shown in errors

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_=>()#][0-9A-Za-z]?)")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ufffd]")

# What ends a boot for good, and how to say it.
FATAL = (
    (r"Kernel panic - not syncing", "the guest's kernel panicked"),
    (r"You are in (emergency|rescue) mode|Give root password for maintenance", "the guest stopped in emergency mode"),
    (
        r"^ ?\(initramfs\)|^dracut:/#|Gave up waiting for root",
        "the guest's initramfs did not find the root file system",
    ),
    (r"^grub( rescue)?>|^Entering rescue mode\.\.\.", "the boot loader stopped at its prompt"),
    (r"^boot: *$|Could not find kernel image", "the boot loader stopped at its prompt"),
    (r"No bootable (device|option)|not a bootable disk", "the machine found nothing to boot from"),
)
_FATAL = tuple((re.compile(pattern, re.MULTILINE), meaning) for pattern, meaning in FATAL)
_BOOTED = re.compile(
    r"Cloud-init v\. \S+ finished at"
    r"|Reached target .*(Multi-User System|Cloud-init target)"
    r"|Failed to start .*(sshd?\.service|Secure Shell|OpenSSH)"
)
# Where a boot begins or the one before it ends: the log may hold several (the guest rebooted).
_BEGIN = re.compile(
    r"reboot: (?:Restarting system|Power down)|SeaBIOS \(version|BdsDxe: loading"
    r"|Linux version \d|^Loading, please wait",
    re.MULTILINE,
)
_SEED = re.compile(r"^(?:\[ *[\d.]+\] )?vmctl-seed: (.*)$", re.MULTILINE)
"""What a guest that vmctl's own unit seeds says of a seed that it could not take."""
_PROMPT = re.compile(r"^[\w.-]+ login: ?\Z", re.MULTILINE)


def clean(text: str) -> str:
    """Console output without escape sequences and control characters; lines end in a newline only."""
    return _CONTROL.sub("", _ESCAPES.sub("", text.replace("\r\n", "\n").replace("\r", "\n")))


@dataclass
class SerialConsole:
    """The end of a console's output; ``read`` again to see more. A missing file is an empty console."""

    path: Path
    text: str = ""
    _size: int = -1

    def read(self) -> None:
        """Look at the file, if it changed."""
        try:
            with files.open_to_read(self.path) as stream:
                size = stream.seek(0, 2)
                if size == self._size:
                    return
                stream.seek(max(0, size - KEPT))
                raw = stream.read(KEPT)
        except (OSError, ForeignFile):
            return
        self._size = size
        self.text = clean(raw.decode(errors="replace"))

    @property
    def boot(self) -> str:
        """What came since the latest boot began."""
        begins = [found.end() for found in _BEGIN.finditer(self.text)]
        return self.text[begins[-1] :] if begins else self.text

    def fatal(self) -> str:
        """What ended the boot, as a clause; "" = nothing seen."""
        boot = self.boot
        return next((meaning for pattern, meaning in _FATAL if pattern.search(boot)), "")

    @property
    def booted(self) -> bool:
        """Whether booting is over: all that was to be started has been."""
        return bool(_BOOTED.search(self.boot))

    @property
    def prompts(self) -> bool:
        """Whether the guest waits at a login prompt: it has booted, though a late service may still start."""
        return bool(_PROMPT.search(self.boot))

    @property
    def of_seed(self) -> str:
        """What the guest says is wrong with its seed; "" = nothing."""
        return "\n".join(_SEED.findall(self.boot))

    def tail(self) -> str:
        """The last lines, for people."""
        lines = [line.rstrip() for line in self.text.splitlines()]
        return "\n".join([line for line in lines if line][-TAIL:])
