"""Count the guests that boot on a test host: every start of QEMU there, by whatever way, goes through a small script.

The script stands in QEMU's place in this mount namespace only. What is no boot does not count: QEMU that is asked what
it can do (``-machine none``), and QEMU that goes on from saved memory (``-incoming``).
"""

from __future__ import annotations

import shlex
from pathlib import Path

from tests.host.commands import must

QEMU = Path("/usr/bin/qemu-system-x86_64")
SCRIPT = """#!/bin/sh
case " $* " in
  *" -machine none"* | *" -incoming "* | *" -version "* | *" --version "* | *" -help "*) ;;
  *) echo "$$" >>{log} ;;
esac
exec {real} "$@"
"""


def log(root: Path) -> Path:
    """The file of a test host that has a line for each boot."""
    return root / "boots"


def count(root: Path) -> int:
    """How many there were."""
    return len(log(root).read_text().splitlines())


def install(root: Path) -> None:
    """Have every start of QEMU counted from now on (in this mount namespace).

    The real program is bound to a place where it finds its firmware and modules as in /usr: it looks beside itself.
    """
    beside = root / "usr"
    (beside / "bin").mkdir(parents=True)
    for name in ("share", "lib", "libexec"):
        (beside / name).symlink_to(Path("/usr", name))
    real, script = beside / "bin" / QEMU.name, root / "count-boots"
    real.touch()
    must("mount", "--bind", str(QEMU), str(real))
    log(root).touch()
    log(root).chmod(0o666)  # an ordinary user's machines count as well
    script.write_text(SCRIPT.format(log=shlex.quote(str(log(root))), real=shlex.quote(str(real))))
    script.chmod(0o755)
    must("mount", "--bind", str(script), str(QEMU))
