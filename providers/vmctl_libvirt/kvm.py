"""Whether KVM really works here. A /dev/kvm that opens proves nothing: containers and nested guests often have one."""

from __future__ import annotations

import os
from pathlib import Path

from msgspec import Struct

X86_FLAGS = frozenset({"vmx", "svm"})
X86 = frozenset({"x86_64", "i686"})


class Evidence(Struct, frozen=True):
    """Where the facts lie on this host; tests point it elsewhere."""

    cpuinfo: Path = Path("/proc/cpuinfo")
    device: Path = Path("/dev/kvm")

    def flag(self) -> str:
        """The CPU's virtualization flag: "vmx", "svm" or ""."""
        try:
            words = set(self.cpuinfo.read_text(encoding="ascii", errors="replace").split())
        except OSError:
            return ""
        return next(iter(sorted(words & X86_FLAGS)), "")

    def why_not(self, arch: str, *, as_user: bool) -> str:
        """Why KVM cannot work for guests of ``arch`` by what this host shows, or "".

        Args:
            arch: of the host and the guest.
            as_user: QEMU runs as the user who asks (session mode), so that user must be able to open the device.
        """
        if arch in X86 and not self.flag():
            return "this CPU has no vmx or svm flag (virtualization is off in the firmware, or this is itself a guest)"
        try:
            os.close(os.open(self.device, os.O_RDWR | os.O_CLOEXEC))
        except PermissionError:
            return f"{self.device} may not be opened (sudo adduser $USER kvm)" if as_user else ""
        except OSError as error:
            return f"{self.device}: {error.strerror}"
        return ""
