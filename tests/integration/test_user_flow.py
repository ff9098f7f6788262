"""What a user does, on real guests through real libvirt: a long session per mode, and one whose `up` is ended.

Boots cost half a minute each where guests are emulated, so each session visits many promises on one machine: the tests
of a class are its steps, in their order.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.host.ordinary_user import FIRST_SUBORDINATE, UID
from tests.integration.conftest import ProjectDirectory, domains, fetch, volumes
from vmctl_libvirt import shares

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1500)]

HELLO = Path(__file__).parents[2] / "examples" / "hello"

TWO_MACHINES = """\
box: debian-12
cpus: 1
memory: 512MiB
networks: [{name: backend}]
machines:
  web:
    ports: ["auto:80", "auto:53/udp"]
    depends_on: [db]
    synced_folders:
      - {host: ., guest: /project}
      - {host: src, guest: /srv/fixed, read_only: true}
      - {host: src, guest: /srv/copy, type: rsync}
  db: {hostname: store, instant: true}
provision:
  - name: greet
    shell: {inline: 'echo "$1 $NAME" > /etc/greeting', args: ["it's"], env: {NAME: "a \\"b\\" c"}}
"""

FIRMWARE = """\
box: debian-12
memory: 512MiB
boot_timeout: 600
synced_folders: []
libvirt: {firmware: uefi}
"""


def nothing_is_left(project: ProjectDirectory, uri: str) -> None:
    """No domain, volume, port lease, key or process of the project."""
    name = project.root.name
    assert not [domain for domain in domains(uri) if name[:20].replace("_", "-") in domain]
    assert not [volume for volume in volumes(uri) if name[:20].replace("_", "-") in volume]
    leases = json.loads((Path(project.environment["VMCTL_HOME"]) / "ports.json").read_text())
    assert not [lease for lease in leases if lease["owner"]["root"] == str(project.root)]
    assert list((project.state / "machines").iterdir()) == []
    listed = subprocess.run(["ps", "-eo", "args"], check=True, capture_output=True, text=True).stdout
    assert not [line for line in listed.splitlines() if str(project.root) in line and "pytest" not in line]


def serving() -> list[int]:
    """The processes that serve live folders on this test host; where one waits for another, both."""
    virtiofsd = shares.find()
    assert virtiofsd is not None, "sudo apt-get install qemu-system-common"
    lines = [path.parent for path in Path("/proc").glob("[0-9]*/cmdline") if begins(path, str(virtiofsd))]
    return sorted(int(path.name) for path in lines)


def begins(path: Path, program: str) -> bool:
    """Whether a process, by its command line, is one of the program."""
    with suppress(OSError):
        return path.read_text(errors="replace").partition("\0")[0] == program
    return False


def up_at(project: ProjectDirectory, step: str) -> subprocess.Popen[str]:
    """Start `vmctl up` and wait until it begins a step."""
    child = project.start("up", "--json")
    assert child.stdout is not None
    begun = (json.loads(line).get("step") == step for line in child.stdout)
    assert any(begun), f"`up` ended before {step}"
    return child


@pytest.fixture(scope="class")
def vmfile(day: ProjectDirectory) -> str:
    shutil.copytree(HELLO, day.root, dirs_exist_ok=True)
    text = (day.root / "Vmfile").read_text().replace("provision:\n", "disk: 12GiB\nprovision:\n")
    day.write("Vmfile", text)
    return text.replace("port: 8080", "port: auto")


class TestADayInSystemMode:
    """The example, with a disk that grows; every later command says the same port."""

    @pytest.fixture
    def project(self, day: ProjectDirectory, vmfile: str) -> ProjectDirectory:
        return day

    @pytest.fixture
    def index(self, project: ProjectDirectory) -> Path:
        return project.root / "site" / "index.html"

    @pytest.fixture
    def url(self, project: ProjectDirectory) -> str:
        return f"http://127.0.0.1:{int(project.vmctl('port', '--guest', '80').out)}/"

    def test_up_creates_and_provisions(self, project: ProjectDirectory) -> None:
        ran = project.vmctl("--set", "port=auto", "up", "--json").answer
        assert ran["machines"][0]["state"] == "running"
        counts = ran["provisioned"]["machines"]["default"]
        assert counts["changed"] >= 2
        assert counts["failed"] == counts["unreachable"] == 0

    def test_up_again_has_nothing_to_do(self, project: ProjectDirectory, vmfile: str) -> None:
        # As a user with a busy port would put it into the Vmfile.
        project.write("Vmfile", vmfile)
        assert project.vmctl("up").out.startswith("default is up; nothing to do")
        assert project.states() == {"default": "running"}

    def test_the_service_answers_and_the_folder_is_live_in_both_directions(
        self, project: ProjectDirectory, index: Path, url: str
    ) -> None:
        assert fetch(url) == index.read_text()
        index.write_text("<p>edited on the host</p>")
        assert fetch(url) == "<p>edited on the host</p>"
        assert "virtiofs" in project.ssh("echo from the guest > /project/from-guest; findmnt -no FSTYPE /project")
        assert (project.root / "from-guest").read_text() == "from the guest\n"
        assert (project.root / "from-guest").stat().st_uid == project.root.stat().st_uid

    def test_the_guest_is_what_the_vmfile_says(self, project: ProjectDirectory) -> None:
        printed = project.ssh("id -un; hostname; nproc; df --output=size -B1 / | tail -1").split()
        assert printed[:3] == ["vmctl", "default", "2"]
        assert int(printed[3]) > 11 * 1024**3

    def test_commands_arrive_and_their_status_comes_back(self, project: ProjectDirectory) -> None:
        project.ssh("exit 7", status=7)
        assert project.vmctl("exec", "default", "--", "printf", "%s|", "a b", "it's", "").out == "a b|it's||"

    def test_openssh_by_itself_is_strict_from_the_first_connection(self, project: ProjectDirectory) -> None:
        config = project.root / "ssh_config"
        config.write_text(project.vmctl("ssh-config").out)
        argv = ["ssh", "-F", str(config), "default", "cat", "/etc/hostname"]
        done = subprocess.run(argv, check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        assert done.stdout == "default\n"
        known = project.state / "machines" / "default" / "known_hosts"
        assert len(known.read_text().splitlines()) == 1

    def test_a_file_goes_in(self, project: ProjectDirectory) -> None:
        project.write("upload me", "content")
        project.vmctl("upload", "upload me", "/tmp/uploaded here")
        assert project.ssh("cat '/tmp/uploaded here'") == "content"

    def test_asleep_and_awake(self, project: ProjectDirectory, url: str) -> None:
        project.ssh("echo kept > /dev/shm/memory")
        project.vmctl("suspend")
        assert project.states()["default"] in ("saved", "paused")
        project.vmctl("resume")
        memory, now = project.ssh("cat /dev/shm/memory; date +%s").split()
        assert memory == "kept"
        assert abs(int(now) - time.time()) < 10
        assert fetch(url) == "<p>edited on the host</p>"

    def test_a_change_of_the_hardware_is_told_and_applied_when_it_is_off_and_on(
        self, project: ProjectDirectory, url: str
    ) -> None:
        text = (project.root / "Vmfile").read_text()
        text = text.replace("memory: 512MiB", "memory: 768MiB").replace("disk: 12GiB", "disk: 13GiB")
        project.write("Vmfile", text)
        assert "`vmctl reload default` applies it" in project.vmctl("up").err
        project.vmctl("halt")
        assert project.states() == {"default": "stopped"}
        project.vmctl("ssh", "-c", "true", status=3)
        project.vmctl("up")
        memory, size = project.ssh(
            "awk '/MemTotal/ {print $2}' /proc/meminfo; df --output=size -B1 / | tail -1"
        ).split()
        assert int(memory) > 600 * 1024
        assert int(size) > 12 * 1024**3
        assert url == f"http://127.0.0.1:{int(project.vmctl('port', '--guest', '80').out)}/"
        assert fetch(url) == "<p>edited on the host</p>"  # the folder and the service are back

    def test_a_guest_without_sshd_is_diagnosed_before_the_deadline(self, project: ProjectDirectory) -> None:
        project.write("Vmfile", (project.root / "Vmfile").read_text() + "boot_timeout: 600\n")
        project.ssh("sudo systemctl mask ssh.service ssh.socket")
        started = time.monotonic()
        ran = project.vmctl("reload", status=5)
        assert time.monotonic() - started < 300
        assert "login:" in ran.err
        assert "vmctl logs default" in ran.err
        assert project.states() == {"default": "running"}

    def test_the_console_is_kept(self, project: ProjectDirectory) -> None:
        assert "login:" in project.vmctl("logs").out

    def test_destroy_leaves_nothing_but_the_project(self, project: ProjectDirectory, index: Path) -> None:
        project.vmctl("destroy", "--yes")
        nothing_is_left(project, "qemu:///system")
        assert index.exists()


class TestADayInSessionMode:
    """Two machines of an ordinary user, whose live folders vmctl itself serves; memory on disk, and a copied folder.

    One of them is instant: it goes on from the memory that its first `up` has kept.
    """

    @pytest.fixture
    def project(self, user_day: ProjectDirectory) -> ProjectDirectory:
        return user_day

    def test_both_come_up_in_their_order(self, project: ProjectDirectory) -> None:
        project.with_layers()
        project.write("src/page", "one")
        project.write("Vmfile", TWO_MACHINES)
        ran = project.vmctl("up", "--json")
        assert {row["name"]: row["state"] for row in ran.answer["machines"]} == {"web": "running", "db": "running"}
        started = [
            row["machine"] for row in ran.objects() if (row.get("event"), row.get("step")) == ("step-started", "start")
        ]
        assert started == ["db", "web"]
        assert project.vmctl("up").out.startswith("web, db are up; nothing to do")

    def test_they_are_provisioned_and_named(self, project: ProjectDirectory) -> None:
        assert project.ssh("cat /etc/greeting", "web") == 'it\'s a "b" c\n'
        assert project.ssh("hostname", "db") == "store\n"

    def test_one_reaches_the_other_on_the_private_network(self, project: ProjectDirectory) -> None:
        config = project.vmctl("config", "--json").answer
        address = config["machines"]["db"]["networks"][0]["ip"]
        assert project.ssh(f"ping -c 1 -W 20 {address} >/dev/null && echo reached", "web") == "reached\n"

    def test_folders_are_live_both_ways_and_copies_are_sent_by_sync(self, project: ProjectDirectory) -> None:
        project.write("src/page", "two")
        printed = project.ssh(
            "findmnt -rno FSTYPE,TARGET -t virtiofs | sort; cat /project/src/page /srv/fixed/page /srv/copy/page;"
            "echo mine > /project/from-guest; sudo touch /project/from-root; echo; stat -c %U /project/src",
            "web",
        )
        assert printed.splitlines() == ["virtiofs /project", "virtiofs /srv/fixed", "twotwoone", "vmctl"]
        owners = [(project.root / name).stat().st_uid for name in ("from-guest", "from-root")]
        assert owners[0] == UID
        assert owners[1] in range(FIRST_SUBORDINATE, FIRST_SUBORDINATE + 65536)
        project.vmctl("sync")
        assert project.ssh("cat /srv/copy/page", "web") == "two"

    def test_its_root_is_nobody_else_on_this_host(self, project: ProjectDirectory) -> None:
        printed = project.ssh(
            "for each in 'touch /srv/fixed/x' 'mount -o remount,rw /srv/fixed' 'touch /srv/fixed/x'"
            " 'chmod u+s /project/from-guest' 'mknod /project/null c 1 3' 'chown 4242 /project/from-root';"
            " do sudo $each 2>/dev/null; echo $?; done",
            "web",
        )
        assert printed.split() == ["1", "0", "1", "1", "1", "0"]
        assert (project.root / "from-guest").stat().st_mode & stat.S_ISUID == 0
        servers = serving()
        assert len(servers) == 2 * 3, "each has a process that waits for the one that serves"
        allowed = {UID, *range(FIRST_SUBORDINATE, FIRST_SUBORDINATE + 65536)}
        for server in servers:
            for name in ("uid_map", "gid_map"):
                rows = [tuple(map(int, row.split())) for row in Path(f"/proc/{server}/{name}").read_text().splitlines()]
                assert all({first, first + many - 1} <= allowed for _, first, many in rows), rows

    def test_memory_goes_to_disk_and_comes_back_with_the_folders_as_they_are_by_then(
        self, project: ProjectDirectory
    ) -> None:
        project.ssh("echo kept > /dev/shm/memory", "web")
        project.vmctl("suspend", "web")
        assert project.states() == {"web": "saved", "db": "running"}
        assert len(serving()) == 2, "those of db"
        project.write("src/page", "three")
        project.vmctl("up", "web")
        assert project.ssh("cat /dev/shm/memory /project/src/page /srv/fixed/page", "web") == "kept\nthreethree"

    def test_both_are_kept_at_once_and_one_goes_back_while_the_other_stays(self, project: ProjectDirectory) -> None:
        assert project.vmctl("snapshot", "save", "both fine").out.count("saved 'both fine'; running") == 2
        assert project.vmctl("up").out.startswith("web, db are up; nothing to do")
        for machine in ("web", "db"):
            project.ssh("echo changed | sudo tee /etc/greeting > /dev/shm/memory && sync", machine)
        project.vmctl("snapshot", "restore", "both fine", "web")
        lines = project.ssh("cat /dev/shm/memory /etc/greeting; date +%s; cat /project/from-guest", "web").splitlines()
        assert lines[:2] == ["kept", 'it\'s a "b" c']
        assert abs(int(lines[2]) - time.time()) < 10
        assert lines[3] == "mine"
        assert project.ssh("cat /etc/greeting", "db") == "changed\n"
        assert project.vmctl("up").out.startswith("web, db are up; nothing to do")

    def test_snapshots_are_listed_and_deleted(self, project: ProjectDirectory) -> None:
        kept = project.vmctl("snapshot", "list", "--json").answer["machines"]
        assert {name: [(row["name"], row["memory"]) for row in rows] for name, rows in kept.items()} == {
            "web": [("both fine", True)],
            "db": [("both fine", True)],
        }
        project.vmctl("snapshot", "delete", "both fine", "db")

    def test_a_virtiofsd_that_was_killed_is_told_and_its_folder_back_when_the_machine_is(
        self, project: ProjectDirectory
    ) -> None:
        of_both = serving()
        project.vmctl("halt", "db", "--force")
        assert project.states() == {"web": "running", "db": "stopped"}
        assert len(serving()) == 4
        assert set(serving()) < set(of_both)
        project.vmctl("up", "db", "--no-provision")
        assert project.ssh("cat /etc/greeting /project/src/page", "db") == "changed\nthree"
        assert len(serving()) == 6
        (killed, *_) = set(serving()) - set(of_both)
        os.kill(killed, signal.SIGKILL)
        ran = project.vmctl("status")
        assert "db: warning: a virtiofsd has ended" in ran.err
        assert "(vmctl reload db)" in ran.err
        assert "db: warning: a virtiofsd has ended" in project.vmctl("up").err
        rows = project.vmctl("status", "--json").answer["machines"]
        assert [bool(row["problem"]) for row in rows] == [False, True]

    def test_it_goes_on_from_its_memory_with_a_virtiofsd_that_lives(self, project: ProjectDirectory) -> None:
        project.vmctl("destroy", "db", "--yes")
        assert len(serving()) == 4
        project.write("src/page", "four")
        rows = project.vmctl("up", "db", "--json").objects()
        assert [row["changed"] for row in rows if row.get("event") == "step-done" and row["step"] == "thaw"] == [True]
        told = project.ssh("cat /etc/greeting /project/src/page; echo thawed > /project/from-guest", "db")
        assert told == 'it\'s a "b" c\nfour', "as it was provisioned, with the folder of now"
        assert (project.root / "from-guest").read_text() == "thawed\n"
        assert (project.root / "from-guest").stat().st_uid == UID
        assert len(serving()) == 6
        assert project.states() == {"web": "running", "db": "running"}
        assert project.vmctl("status").err == ""

    def test_destroy_leaves_nothing(self, project: ProjectDirectory) -> None:
        project.vmctl("destroy", "--yes")
        project.vmctl("cache", "prune", "--all")
        nothing_is_left(project, "qemu:///session")
        assert serving() == []
        assert list((Path(project.environment["VMCTL_HOME"]) / "libvirt" / "live").iterdir()) == []


class TestAnUpThatIsEnded:
    """One machine whose `up` is killed or interrupted at each step that matters; each time the next command goes on."""

    @pytest.fixture
    def project(self, day: ProjectDirectory) -> ProjectDirectory:
        day.write("Vmfile", "box: debian-12\ncpus: 1\nmemory: 512MiB\nboot_timeout: 600\n")
        return day

    def test_killed_while_it_starts_then_destroy_leaves_nothing(self, project: ProjectDirectory) -> None:
        os.kill(up_at(project, "start").pid, signal.SIGKILL)
        project.vmctl("destroy", "--yes")
        nothing_is_left(project, "qemu:///system")

    def test_killed_while_it_creates_then_up_goes_on(self, project: ProjectDirectory) -> None:
        os.kill(up_at(project, "create").pid, signal.SIGKILL)
        os.kill(up_at(project, "await_ssh").pid, signal.SIGKILL)
        assert project.states() == {"default": "running"}

    def test_ctrl_c_while_it_waits_ends_quickly_and_the_machine_stays(self, project: ProjectDirectory) -> None:
        child = up_at(project, "await_ssh")
        sent = time.monotonic()
        child.send_signal(signal.SIGINT)
        child.communicate(timeout=30)
        assert time.monotonic() - sent < 5
        assert child.returncode == 130
        assert project.states() == {"default": "running"}

    def test_up_finishes_what_was_killed_and_interrupted(self, project: ProjectDirectory) -> None:
        project.vmctl("up")
        assert project.ssh("echo in; findmnt -no FSTYPE /project") == "in\nvirtiofs\n"

    def test_a_power_cut_right_after_the_first_boot(self, project: ProjectDirectory) -> None:
        project.vmctl("halt", "--force")
        project.vmctl("up")
        assert project.ssh("echo in") == "in\n"

    def test_destroy_leaves_nothing(self, project: ProjectDirectory) -> None:
        project.vmctl("destroy", "--yes")
        nothing_is_left(project, "qemu:///system")


class TestAFirstBootWithoutPower:
    """One machine that boots by UEFI; the power goes where its first boot writes, and where it has just written."""

    @pytest.fixture
    def project(self, day: ProjectDirectory) -> ProjectDirectory:
        day.write("Vmfile", FIRMWARE)
        return day

    @pytest.mark.parametrize("unit", ["vmctl-seed", "ssh"])
    def test_power_cut_before_it_is_up(self, project: ProjectDirectory, unit: str) -> None:
        project.cut_power_at(f"Starting {unit}.serv")
        assert project.states() == {"default": "stopped"}

    def test_up_brings_up_what_the_seed_says(self, project: ProjectDirectory) -> None:
        project.vmctl("up")
        key = (project.state / "machines" / "default" / "host_ed25519.pub").read_text().split()[1]
        printed = project.ssh("id -un; sudo true && uname -n; sudo cat /etc/ssh/*_key.pub; ls -d /sys/firmware/efi")
        user, name, shown, firmware = printed.splitlines()
        assert (user, name, shown.split()[1], firmware) == ("vmctl", "default", key, "/sys/firmware/efi")

    def test_destroy_leaves_nothing(self, project: ProjectDirectory) -> None:
        project.vmctl("destroy", "--yes")
        nothing_is_left(project, "qemu:///system")
