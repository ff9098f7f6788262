"""``vmctl up`` against plain QEMU, on the same disk and on a stock Debian; quick commands on a machine that is up."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from benchmarks import yardstick
from benchmarks.measure import VMCTL, Finding, Project, alternating, median, ratio, seconds
from benchmarks.plain_qemu import PlainQemu, await_ssh

UP = 1.10
UP_TO_YARDSTICK = 1.0
NO_OP_UP = 0.4
STATUS = 0.2
SSH = 0.15
PAIRS = 3  # times as many of them: a login to an emulated guest takes now 1.0 s, now 1.6 s
VMFILE = "box: debian-12\nprovider: libvirt\n"
MACHINE = "default"


def measure(place: Path, box_home: Path, *, rounds: int, times: int) -> Iterator[Finding]:
    """Boot in turns, then ask a machine that is up."""
    root = place / "project"
    root.mkdir()
    (root / "Vmfile").write_text(VMFILE)
    project = Project(root, {"VMCTL_HOME": str(box_home)})
    try:
        yield from _up_against_qemu(project, place, rounds)
        project.vmctl("up")
        yield Finding(what="up, nothing to do", value=median(lambda: project.vmctl("up"), times=times), budget=NO_OP_UP)
        yield Finding(what="status", value=median(lambda: project.vmctl("status"), times=times), budget=STATUS)
        yield _ssh_against_openssh(project, place, times)
    finally:
        project.vmctl("destroy", "--yes")


def _up_against_qemu(project: Project, place: Path, rounds: int) -> Iterator[Finding]:
    yardstick.image()  # made now, not while the first round is timed
    project.vmctl("up")  # has the box copied into libvirt's pool, once for all machines
    project.vmctl("destroy", "--yes")
    ours, plain, stock = zip(*(_round(project, place) for _ in range(rounds)), strict=True)
    yield ratio("up / plain QEMU until SSH", ours, plain, UP)
    yield ratio("up with a live folder / plain QEMU on stock Debian", ours, stock, UP_TO_YARDSTICK)


def _round(project: Project, place: Path) -> tuple[float, float, float]:
    """Seconds of one ``vmctl up`` from nothing, of one plain boot of the same machine, and of the yardstick."""
    ours = seconds(lambda: project.vmctl("up"))
    qemu = PlainQemu.like(_domain(project), place)
    config = _ssh_config(project, place)
    project.vmctl("halt", "--force")

    def boot() -> None:
        with qemu.running():
            await_ssh(config, MACHINE)

    plain = seconds(boot)
    project.vmctl("destroy", "--yes")  # its power was cut
    return ours, plain, seconds(lambda: yardstick.boot(place))


def _domain(project: Project) -> str:
    (machine,) = json.loads(project.vmctl("status", "--json"))["machines"]
    return str(machine["domain"])


def _ssh_config(project: Project, place: Path) -> Path:
    config = place / "ssh_config"
    config.write_text(project.vmctl("ssh-config"))
    return config


def _ssh_against_openssh(project: Project, place: Path, times: int) -> Finding:
    config = _ssh_config(project, place)
    ours, plain = alternating(
        lambda: project.run(VMCTL, "ssh", MACHINE, "-c", "true"),
        lambda: project.run("ssh", "-F", config, MACHINE, "true"),
        times=PAIRS * times,
    )
    detail = f"{ours:.3f} s against {plain:.3f} s"
    return Finding(what="ssh -c true, more than ssh", value=ours - plain, budget=SSH, detail=detail)
