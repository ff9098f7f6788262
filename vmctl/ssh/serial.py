"""Reading a booting guest's serial console for signs of what became of it, and of its network."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
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
_SSH_STARTS = re.compile(r"Start(?:ing|ed) [^\n]*(?:\bsshd?\.serv|Secure Shell)|^[\w.-]+ login: ", re.MULTILINE)
"""What the console of a guest with systemd says when its SSH server is started, or at the latest."""
_PROMPT = re.compile(r"^[\w.-]+ login: ?\Z", re.MULTILINE)
# cloud-init's table of devices: name, whether it is up, address ("." = none).
_DEVICE_ROW = re.compile(r"ci-info: ?\|\s*([\w.@-]+)\s*\|\s*(True|False)\s*\|\s*(\S+)\s*\|")
_LINK_STATE = re.compile(r"\b([a-z][\w.-]*): (?:NIC )?link (becomes ready|is up|is down)", re.IGNORECASE)
_KERNEL_LINK = re.compile(r": ([a-z][\w.-]*) NIC link (is up|is down)", re.IGNORECASE)
_NETWORK = r"[^\n]*(?:network|ifup@|sys-subsystem-net|dhc(?:p|lient))"
_NETWORK_FAILED = re.compile(
    rf"(?:Failed to start|Timed out waiting for|Dependency failed for){_NETWORK}[^\n]*"
    r"|No DHCPOFFERS received[^\n]*|no lease, failing[^\n]*",
    re.IGNORECASE,
)
_NETWORK_WAITS = re.compile(rf"A start job is running for{_NETWORK}[^\n]*", re.IGNORECASE)
LOOPBACK = "lo"
LINK_LOCAL = ("fe80:", "169.254.")
LONGEST = 120  # characters of a line in errors


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
    def ssh_starts(self) -> int:
        """How often an SSH server was started, in all boots that it shows."""
        return len(_SSH_STARTS.findall(self.text))

    @property
    def of_seed(self) -> str:
        """What the guest says is wrong with its seed; "" = nothing."""
        return "\n".join(_SEED.findall(self.boot))

    def tail(self) -> str:
        """The last lines, for people."""
        lines = [line.rstrip() for line in self.text.splitlines()]
        return "\n".join([line for line in lines if line][-TAIL:])


@dataclass
class GuestNetwork:
    """What a guest's console tells of its network: links, addresses, and what did not start.

    A guest whose network never came up looks from outside like one without an SSH server: with user-mode networking,
    the hypervisor takes every connection, and nobody answers.
    """

    links: dict[str, bool] = field(default_factory=dict)
    """Whether a device's link is up."""
    addresses: dict[str, str] = field(default_factory=dict)
    """A device's address; "" = it has none."""
    failure: str = ""
    """The console's own words for what did not start, or is waited for."""

    @classmethod
    def read(cls, boot: str) -> GuestNetwork:
        """From what the console showed since the guest's boot began."""
        found = cls()
        for pattern in (_LINK_STATE, _KERNEL_LINK):
            found.links |= {match[1]: match[2].lower() != "is down" for match in pattern.finditer(boot)}
        for device, up, address in _DEVICE_ROW.findall(boot):
            found.links[device] = up == "True"
            usable = address != "." and not address.startswith(LINK_LOCAL)
            found.addresses[device] = address if usable else found.addresses.get(device, "")
        failed = [match[0] for match in (_NETWORK_FAILED.search(boot), _last(_NETWORK_WAITS, boot)) if match]
        found.failure = failed[0].strip()[:LONGEST] if failed else ""
        found.links.pop(LOOPBACK, None)
        found.addresses.pop(LOOPBACK, None)
        return found

    @property
    def has_address(self) -> bool:
        """Whether the console shows an address that others can reach."""
        return any(self.addresses.values())

    @property
    def is_down(self) -> bool:
        """Whether the console shows that there is no network: the server may run, and nobody get to it."""
        if self.has_address:
            return False
        return bool(self.failure or self.addresses) or (bool(self.links) and not any(self.links.values()))

    def __str__(self) -> str:
        """All that is known, for people; "" = nothing."""
        devices = dict.fromkeys([*self.addresses, *self.links])
        parts = [self._device(device) for device in devices]
        if self.failure and not self.has_address:
            parts.append(f"it says {self.failure!r}")
        return ", ".join(parts)

    def _device(self, device: str) -> str:
        link = {True: " (link up)", False: " (link down)"}.get(self.links[device], "") if device in self.links else ""
        address = self.addresses.get(device)
        if address is None:
            return f"{device}{link}"
        return f"{device} has {address or 'no address'}{link}"


def _last(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    return next(iter(list(pattern.finditer(text))[-1:]), None)
