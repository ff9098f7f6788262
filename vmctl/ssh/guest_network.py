"""What a guest's serial console tells of its network: links, addresses, and what did not start.

A guest whose network never came up looks from outside like one without an SSH server: with user-mode networking, the
hypervisor takes every connection, and nobody answers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

# cloud-init's table of devices: name, whether it is up, address ("." = none).
_ROW = re.compile(r"ci-info: ?\|\s*([\w.@-]+)\s*\|\s*(True|False)\s*\|\s*(\S+)\s*\|")
_LINK = re.compile(r"\b([a-z][\w.-]*): (?:NIC )?link (becomes ready|is up|is down)", re.IGNORECASE)
_KERNEL_LINK = re.compile(r": ([a-z][\w.-]*) NIC link (is up|is down)", re.IGNORECASE)
_NETWORK = r"[^\n]*(?:network|ifup@|sys-subsystem-net|dhc(?:p|lient))"
_FAILED = re.compile(
    rf"(?:Failed to start|Timed out waiting for|Dependency failed for){_NETWORK}[^\n]*"
    r"|No DHCPOFFERS received[^\n]*|no lease, failing[^\n]*",
    re.IGNORECASE,
)
_WAITS = re.compile(rf"A start job is running for{_NETWORK}[^\n]*", re.IGNORECASE)
LOOPBACK = "lo"
LINK_LOCAL = ("fe80:", "169.254.")
LONGEST = 120


@dataclass
class GuestNetwork:
    """What is known of a guest's network; nothing, where its console does not tell."""

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
        for pattern in (_LINK, _KERNEL_LINK):
            found.links |= {match[1]: match[2].lower() != "is down" for match in pattern.finditer(boot)}
        for device, up, address in _ROW.findall(boot):
            found.links[device] = up == "True"
            usable = address != "." and not address.startswith(LINK_LOCAL)
            found.addresses[device] = address if usable else found.addresses.get(device, "")
        failed = [match[0] for match in (_FAILED.search(boot), _last(_WAITS, boot)) if match]
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
