"""The test host's ordinary user, for libvirt's session mode."""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.host.commands import must

USER = "vmctl-test"
UID = 61234
GROUP = "libvirt-test"
GID = 61235
FIRST_SUBORDINATE = 500_000_000
"""The first of the ids that guests' other users have in the user's live folders."""


def add_user(root: Path) -> None:
    """Add the user to private copies of passwd and group, with a home and a runtime directory of its own."""
    home = root / "home"
    _make_own(home, 0o755)
    _make_own(Path("/run/user", str(UID)), 0o700)
    for name in ("subuid", "subgid"):
        _append(root, name, f"{USER}:{FIRST_SUBORDINATE}:65536\n")
    _append(root, "passwd", f"{USER}:x:{UID}:{UID}:vmctl's tests:{home}:/bin/bash\n")
    _append(root, "group", f"{USER}:x:{UID}:\n{GROUP}:x:{GID}:\n")


def as_user(argv: Sequence[str], environment: Mapping[str, str]) -> list[str]:
    """``argv`` as the user would run it after logging in: without privileges, in a clean environment."""
    home = pwd.getpwnam(USER).pw_dir
    variables = {
        "HOME": home,
        "USER": USER,
        "LOGNAME": USER,
        "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
        "LANG": os.environ.get("LANG", "C.UTF-8"),
        "XDG_RUNTIME_DIR": f"/run/user/{UID}",
        **environment,
    }
    assignments = [f"{name}={value}" for name, value in variables.items()]
    drop = ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups", "--inh-caps=-all"]
    return [*drop, "env", "-i", *assignments, *argv]


def _make_own(path: Path, mode: int) -> None:
    path.mkdir(mode=mode)
    path.chmod(mode)
    os.chown(path, UID, UID)


def _append(root: Path, name: str, lines: str) -> None:
    real = Path("/etc", name)
    copy = root / name
    present = real.read_text(encoding="utf-8") if real.exists() else ""
    copy.write_text(present + lines, encoding="utf-8")
    real.touch()
    copy.chmod(0o644)
    must("mount", "--bind", str(copy), str(real))
