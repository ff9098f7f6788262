"""Instant machines on a real guest: memory that is kept, gone on from, spoiled, and cut off at each step."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import ProjectDirectory, volumes

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1800)]

POOL = Path("/var/lib/libvirt/images/vmctl")
VMFILE = """\
box: debian-12
cpus: 1
instant: true
provision:
  - name: one
    shell: {inline: "cat /proc/uptime /proc/sys/kernel/random/boot_id >> /var/lib/log; date --set '1 year ago'"}
  - {name: always, shell: {inline: "echo always >> /var/lib/log"}, run: always}
"""
SAME = (
    "cat /etc/machine-id /proc/sys/kernel/random/boot_id /etc/ssh/ssh_host_ed25519_key.pub /sys/class/net/eth0/address"
)


@pytest.fixture(scope="class")
def before() -> dict[str, Any]:
    """What the machine was, for the tests after it."""
    return {}


def did(rows: list[dict[str, Any]], step: str) -> bool | None:
    """Whether a step changed something; None = it was not taken, or failed."""
    done = [row["changed"] for row in rows if row.get("event") == "step-done" and row["step"] == step]
    return done[-1] if done else None


def memories() -> list[str]:
    return [name for name in volumes() if name.endswith("-0.memory")]


def virtiofsds() -> list[str]:
    argv = ["pgrep", "-a", "-f", "virtiofsd.*(source|shared-dir)="]
    found = subprocess.run(argv, check=False, capture_output=True, text=True).stdout.splitlines()
    return [line for line in found if "pgrep" not in line]


def spoil(path: Path) -> None:
    """Damage memory in a way that only who reads it can see."""
    facts = path.stat()
    with path.open("r+b") as stream:
        stream.seek(facts.st_size // 2)
        stream.write(bytes(facts.st_size - facts.st_size // 2))
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))


class TestInstantDay:
    """One day of one project; each test goes on where the one before ended."""

    def test_the_memory_of_a_new_machine_is_kept(self, day: ProjectDirectory, before: dict[str, Any]) -> None:
        day.with_layers()
        day.write("Vmfile", VMFILE)
        day.write("note", "first\n")
        rows = day.vmctl("up", "--json", timeout=1200).objects()
        assert did(rows, "keep") is True
        assert len(memories()) == 1
        before["same"] = day.ssh(SAME)
        before["log"] = day.ssh("cat /var/lib/log /project/note").splitlines()
        assert before["log"][2:] == ["always", "first"]
        assert day.vmctl("up").out.startswith("default is up"), "it is as ready as before"
        day.ssh("echo by hand | sudo tee -a /var/lib/log")

    def test_it_goes_on_after_destroy(self, day: ProjectDirectory, before: dict[str, Any]) -> None:
        drawn = set()
        for text in ("second", "third"):
            day.vmctl("destroy", "--yes")
            assert virtiofsds() == []
            day.write("note", f"{text}\n")
            started = time.monotonic()
            rows = day.vmctl("up", "--json").objects()
            print("up from memory", time.monotonic() - started)  # noqa: T201
            assert did(rows, "thaw") is True
            assert did(rows, "create") is None
            assert rows[-1]["provisioned"]["machines"]["default"]["ran"] == ["always"]
            said = (day.state / "machines" / "default" / "console.log").read_text(errors="replace")
            assert said.count("vmctl-awake") == 1, "it woke by itself, before anybody logged in"
            drawn.add(day.ssh("head -c 32 /dev/urandom | base64"))
            assert day.ssh(SAME) == before["same"], "it is the same machine, and did not boot"
            log = day.ssh("cat /var/lib/log /project/note").splitlines()
            assert log == [*before["log"][:3], "always", text], "nothing of what was done by hand, and a live folder"
            assert abs(float(day.ssh("date +%s.%N")) - time.time()) < 5, "its clock was a year late"
            assert day.ssh("systemctl list-timers --no-legend | wc -l").strip() != "0"
        assert len(drawn) == 2, "each draws random numbers of its own"

    def test_memory_survives_suspend_and_snapshots_of_a_live_folder(self, day: ProjectDirectory) -> None:
        boot = day.ssh("cat /proc/sys/kernel/random/boot_id")
        day.vmctl("suspend")
        assert day.states() == {"default": "saved"}
        day.write("note", "after suspend\n")
        day.vmctl("up")
        assert day.ssh("cat /proc/sys/kernel/random/boot_id /project/note") == f"{boot}after suspend\n"
        day.vmctl("snapshot", "save", "one")
        (kept,) = day.vmctl("snapshot", "list", "--json").answer["machines"]["default"]
        assert kept["memory"] is True
        day.ssh("echo gone | sudo tee /var/lib/log; echo from the guest >/project/made")
        assert (day.root / "made").read_text() == "from the guest\n"
        day.vmctl("snapshot", "restore", "one")
        assert "gone" not in day.ssh("cat /var/lib/log")
        assert day.ssh("cat /proc/sys/kernel/random/boot_id /project/note") == f"{boot}after suspend\n"
        day.vmctl("snapshot", "delete", "one")

    def test_a_folder_in_use_stays_where_it_is(self, day: ProjectDirectory) -> None:
        day.ssh("(cd /project && exec sleep 600) </dev/null >/dev/null 2>&1 & sleep 1")
        ran = day.vmctl("snapshot", "save", "disk")
        assert "/project is in use in the guest" in ran.err
        (kept,) = day.vmctl("snapshot", "list", "--json").answer["machines"]["default"]
        assert kept["memory"] is False
        assert day.ssh("cat /project/note") == "after suspend\n"
        assert day.vmctl("up").out.startswith("default is up")
        day.vmctl("snapshot", "delete", "disk")

    def test_it_can_be_started_anew(self, day: ProjectDirectory, before: dict[str, Any]) -> None:
        day.vmctl("reload")
        now, then = day.ssh(SAME).splitlines(), before["same"].splitlines()
        assert [one == other for one, other in zip(now, then, strict=True)] == [True, False, True, True]
        assert day.ssh("cat /project/note") == "after suspend\n"

    @pytest.mark.parametrize("seconds", [0.0, 0.5, 1.5])
    def test_a_vmctl_that_is_killed_while_it_goes_on(
        self, day: ProjectDirectory, before: dict[str, Any], seconds: float
    ) -> None:
        day.vmctl("destroy", "--yes")
        child = day.start("up", "--json")
        assert child.stdout is not None
        assert any(json.loads(line).get("step") == "thaw" for line in child.stdout)
        time.sleep(seconds)
        os.kill(child.pid, signal.SIGKILL)
        child.communicate()
        day.vmctl("up")
        assert day.ssh("head -n 2 /var/lib/log").splitlines() == before["log"][:2], "it was not provisioned again"
        assert day.ssh("cat /project/note") == "after suspend\n"
        assert day.vmctl("up").out.startswith("default is up")

    def test_spoiled_memory_is_told_and_a_vmctl_killed_while_it_keeps_the_next(
        self, day: ProjectDirectory, before: dict[str, Any]
    ) -> None:
        (written,) = (path for path in POOL.glob("*.memory") if path.name not in memories())
        day.vmctl("destroy", "--yes")
        spoil(written)
        child = day.start("up", "--json")
        assert child.stdout is not None
        rows = []
        for line in child.stdout:
            rows.append(json.loads(line))
            if rows[-1].get("step") == "keep":
                break
        time.sleep(4)  # its folder is out, or its memory half written
        os.kill(child.pid, signal.SIGKILL)
        child.communicate()
        warned = [row["text"] for row in rows if row.get("event") == "warned"]
        assert any("its kept memory is of no use, so it is made anew" in text for text in warned)
        assert did(rows, "create") is True
        day.vmctl("up")
        assert day.ssh("head -n 2 /var/lib/log").splitlines() == before["log"][:2], "it stands on its layer"
        assert day.ssh(SAME).splitlines()[2] != before["same"].splitlines()[2], "with keys of its own"
        assert day.ssh("cat /project/note") == "after suspend\n"
        assert day.ssh("systemctl list-timers --no-legend | wc -l").strip() != "0"

    def test_nothing_is_left(self, day: ProjectDirectory) -> None:
        day.vmctl("destroy", "--yes")
        day.vmctl("cache", "prune", "--all")
        assert [name for name in volumes() if not name.startswith("base-")] == []
        assert virtiofsds() == []
