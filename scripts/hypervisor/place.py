"""Where a libvirtd that we started keeps its log and process id."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from scripts.hypervisor.answers import SESSION, SYSTEM

VARIABLES = ("HOME", "USER", "LOGNAME", "LANG", "XDG_RUNTIME_DIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME")
"""What libvirtd goes by when it looks for its user's directories."""


@dataclass(frozen=True)
class Place:
    """Files of the libvirtd of the user ``uid``."""

    uid: int
    runtime: Path
    """The directory in which libvirt puts its own ``libvirt/`` with the sockets."""

    @classmethod
    def mine(cls) -> Place:
        """Of the user who runs this; as libvirt finds it, which is ~/.cache without XDG_RUNTIME_DIR."""
        if os.geteuid() == 0:
            return cls(0, Path("/run"))
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        return cls(os.geteuid(), Path(os.environ.get("XDG_RUNTIME_DIR") or cache))

    @property
    def uri(self) -> str:
        """How vmctl reaches that libvirtd."""
        return SYSTEM if self.uid == 0 else SESSION

    @property
    def directory(self) -> Path:
        """Ours."""
        return self.runtime / "vmctl-libvirtd"

    @property
    def pid_file(self) -> Path:
        """The process that ends the daemon when it gets SIGTERM."""
        return self.directory / "pid"

    @property
    def log(self) -> Path:
        """What the daemon said."""
        return self.directory / "log"

    def environment(self) -> dict[str, str]:
        """The variables, for a start through sudo, which drops them."""
        return {name: os.environ[name] for name in VARIABLES if name in os.environ}

    def pid(self) -> int | None:
        """The process, when it lives and is ours."""
        try:
            number = int(self.pid_file.read_text())
            argv = Path("/proc", str(number), "cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError):
            return None
        return number if argv[0] == b"tini" else None
