"""KVM and VirtualBox on one Linux host: who holds the processor's virtualization, and what helps.

Since Linux 6.12, KVM takes VT-x/AMD-V when its module is loaded (``kvm.enable_virt_at_load``, on by default) and
VirtualBox up to 7.2.8 then cannot start a machine. VirtualBox 7.2.10 and later use the processor through KVM's
enabling of it, and fail where that option is off. Before Linux 6.12, KVM holds it only while one of its machines runs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

KERNEL_TAKES_AT_LOAD = (6, 12)
VIRTUALBOX_RELIES_ON_KVM = (7, 2, 10)
MODULES = {"vmx": "kvm_intel", "svm": "kvm_amd"}
YES = "Y"


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a Linux host shows."""

    module: str = ""
    """The KVM module for this processor that is loaded: kvm_intel, kvm_amd or ""."""
    kernel: tuple[int, int] = (0, 0)
    at_load: bool | None = None
    """Whether KVM takes the processor at once; None = this kernel has no such option."""
    users: int = 0
    """How many virtual machines (or others) use the module."""


@dataclass(frozen=True)
class Conflict:
    """Why a machine would not start, and the command that helps."""

    reason: str
    hint: str


def look(root: Path = Path("/")) -> Facts:
    """The facts of the host whose file system starts at ``root``; the empty ones where it is no Linux."""
    cpu = set(_text(root / "proc/cpuinfo").split())
    module = next((module for flag, module in MODULES.items() if flag in cpu), "")
    if not module or not (root / "sys/module" / module).is_dir():
        return Facts()
    at_load = _text(root / "sys/module/kvm/parameters/enable_virt_at_load")
    users = _text(root / "sys/module" / module / "refcnt")
    return Facts(
        module=module,
        kernel=_kernel(_text(root / "proc/sys/kernel/osrelease")),
        at_load=at_load == YES if at_load else None,
        users=int(users) if users.isdigit() else 0,
    )


def conflict(facts: Facts, version: tuple[int, int, int]) -> Conflict | None:
    """Why VirtualBox of this version could not start a machine here; None = it could."""
    if not facts.module:
        return None
    unload = f"sudo modprobe -r {facts.module}"
    if version >= VIRTUALBOX_RELIES_ON_KVM:
        if facts.kernel >= KERNEL_TAKES_AT_LOAD and facts.at_load is False:
            return Conflict(
                f"{facts.module} is loaded with enable_virt_at_load off, which VirtualBox 7.2.10 and later cannot use",
                "remove `kvm.enable_virt_at_load=0` (kernel command line, /etc/modprobe.d), then: "
                f"{unload} && sudo modprobe {facts.module}",
            )
        return None
    if facts.users:
        return Conflict(f"KVM is running virtual machines ({facts.module} is in use)", "stop them first: virsh list")
    if facts.kernel >= KERNEL_TAKES_AT_LOAD and facts.at_load is not False:
        return Conflict(
            f"{facts.module} holds the processor's virtualization since it was loaded (Linux 6.12 and later)",
            f"{unload}   (for good: upgrade VirtualBox to 7.2.10, or add kvm.enable_virt_at_load=0 to the kernel)",
        )
    return None


def _kernel(release: str) -> tuple[int, int]:
    match = re.match(r"(\d+)\.(\d+)", release)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""
