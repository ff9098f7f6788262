"""The script that takes the seed in vmctl's own boxes, run on a small root directory."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from msgspec import structs

from vmctl import key_pairs, seed
from vmctl.boxes import recipe
from vmctl.boxes.user_namespace import as_root
from vmctl.driver import Definition, Features, Nic, Tag
from vmctl.seed.guest_identity import GuestIdentity
from vmctl.spec import BoxRef, MachineSpec

SCRIPT = recipe.load("debian-12").directory / "root/usr/lib/vmctl/seed"
ACCOUNTS = "root:x:0:0:root:/root:/bin/bash\ndaemon:x:1:1::/usr/sbin:/usr/sbin/nologin\n"
GROUP = "root:x:0:\ndaemon:x:1:\nusers:x:100:\n"
HOSTS = "127.0.0.1\tlocalhost\n127.0.1.1\tformer\n192.0.2.1\tof-the-user\n"
DIRECTORIES = ("etc/ssh", "etc/sudoers.d", "home", "root", "run", "var/lib/systemd", "var/lib/vmctl")


class Guest:
    """A root directory, and what a machine's seed would have in it."""

    def __init__(self, place: Path) -> None:
        self.root, self.source = place / "root", place / "seed/vmctl"
        for name in DIRECTORIES:
            (self.root / name).mkdir(parents=True)
        for name, text in {"passwd": ACCOUNTS, "group": GROUP, "shadow": "root:*:1::::::\n", "hosts": HOSTS}.items():
            (self.root / "etc" / name).write_text(text)
        for name in ("gshadow", "subuid", "subgid"):
            (self.root / "etc" / name).touch()
        key_pairs.ensure(place / "host")
        self.identity = GuestIdentity(
            definition=Definition(
                name="x",
                tag=Tag(project="0123456789abcdef" * 2, machine="web", version="0"),
                spec=MachineSpec(name="web", box=BoxRef(address="debian-12"), hostname="web.example.org"),
                mac="52:54:00:AB:CD:01",
                console=place / "console",
                nics=(Nic(network="back", mac="52:54:00:ab:cd:02", ip="192.168.56.10", prefix=24),),
            ),
            features=Features(formats=("qcow2",), folders=()),
            user="me",
            public_key=key_pairs.ensure(place / "user"),
            host_key=place / "host",
            uid=1234,
        )
        self.pack()

    def pack(self, **changes: object) -> None:
        """Lay out the seed that says this."""
        self.identity = structs.replace(self.identity, **changes)
        shutil.rmtree(self.source.parent, ignore_errors=True)
        for name, data in seed.contents(self.identity).items():
            path = self.source.parent / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)

    def forge(self, name: str, text: str) -> None:
        """Have the seed say what vmctl would not, with sums that are right."""
        (self.source / name).write_text(text)
        files = sorted(path for path in self.source.rglob("*") if path.is_file() and path.name != "SHA256SUMS")
        sums = (f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(self.source)}" for path in files)
        (self.source / "SHA256SUMS").write_text("".join(f"{line}\n" for line in sums))

    def boot(self, *, status: int = 0, path: str = "") -> str:
        """Run the script as the unit does at each boot; return what it says."""
        shutil.rmtree(self.root / "run")
        (self.root / "run").mkdir()
        script = SCRIPT
        if path:
            script = self.root.parent / "script"
            script.write_text(SCRIPT.read_text().replace("PATH=", f"PATH={path}:"))
        argv = as_root("sh", str(script), str(self.source), str(self.root))
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == status, done.stderr
        return done.stderr

    def read(self, name: str) -> str:
        return (self.root / name).read_text()

    def names(self, directory: str) -> list[str]:
        return sorted(path.name for path in (self.root / directory).iterdir())

    def mode(self, name: str) -> int:
        return (self.root / name).lstat().st_mode & 0o7777


@pytest.fixture
def guest(tmp_path: Path) -> Guest:
    return Guest(tmp_path)


def test_shellcheck_has_nothing_to_say() -> None:
    scripts = [path for path in SCRIPT.parent.iterdir() if path.is_file()]
    done = subprocess.run(["shellcheck", *map(str, scripts)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_a_new_instance_is_who_the_seed_says(guest: Guest) -> None:
    assert guest.boot() == ""
    assert guest.read("etc/hostname") == "web\n"
    assert guest.read("etc/hosts") == ("127.0.0.1\tlocalhost\n192.0.2.1\tof-the-user\n127.0.1.1\tweb.example.org web\n")
    assert guest.read("run/vmctl/resolv.conf") == "nameserver 10.0.2.3\n"
    assert "Name=eth1\n" in guest.read("run/systemd/network/10-vmctl-eth1.link")
    assert "Address=192.168.56.10/24\n" in guest.read("run/systemd/network/10-vmctl-eth1.network")
    (line,) = [line for line in guest.read("etc/passwd").splitlines() if line.startswith("me:")]
    assert line.split(":")[2:] == ["1234", "1234", "vmctl login user", "/home/me", "/bin/bash"]
    assert guest.read("etc/shadow").splitlines()[-1].split(":")[1].startswith("!")
    assert guest.read("home/me/.ssh/authorized_keys") == f"{guest.identity.public_key}\n"
    assert (guest.mode("home/me/.ssh"), guest.mode("home/me/.ssh/authorized_keys")) == (0o700, 0o600)
    assert guest.read("etc/sudoers.d/90-vmctl") == "me ALL=(ALL) NOPASSWD:ALL\n"
    assert guest.mode("etc/sudoers.d/90-vmctl") == 0o440
    assert guest.read("etc/ssh/ssh_host_ed25519_key") == guest.identity.host_key.read_text()
    assert guest.mode("etc/ssh/ssh_host_ed25519_key") == 0o600
    assert len(guest.read("etc/machine-id").strip()) == 32
    assert (guest.root / "var/lib/systemd/random-seed").stat().st_size == 512
    assert guest.mode("var/lib/systemd/random-seed") == 0o600
    assert guest.read("var/lib/vmctl/instance-id") == f"{guest.identity.instance}\n"


def test_every_boot_follows_the_vmfile_and_leaves_the_rest(guest: Guest) -> None:
    guest.boot()
    for name, text in {"etc/machine-id": "a\n", "home/me/.ssh/authorized_keys": "of-the-user\n"}.items():
        (guest.root / name).unlink()
        (guest.root / name).write_text(text)
    spec = structs.replace(guest.identity.definition.spec, hostname="other")
    guest.pack(definition=structs.replace(guest.identity.definition, spec=spec, nics=()))
    assert guest.boot() == ""
    assert guest.read("etc/hostname") == "other\n"
    assert "127.0.1.1\tother\n" in guest.read("etc/hosts")
    assert "web" not in guest.read("etc/hosts")
    assert guest.names("run/systemd/network") == ["10-vmctl-eth0.link", "10-vmctl-eth0.network"]
    assert guest.read("etc/machine-id") == "a\n"  # the same instance
    assert guest.read("home/me/.ssh/authorized_keys") == "of-the-user\n"


def test_what_is_right_is_not_written_again(guest: Guest) -> None:
    guest.boot()
    names = ("etc/hostname", "etc/hosts", "etc/passwd", "var/lib/vmctl/instance-id", "etc/ssh/ssh_host_ed25519_key")
    before = [(guest.root / name).stat().st_ino for name in names]
    guest.boot()
    assert [(guest.root / name).stat().st_ino for name in names] == before


def test_a_copied_disk_becomes_another_machine(guest: Guest, tmp_path: Path) -> None:
    guest.boot()
    machine_id = guest.read("etc/machine-id")
    with (guest.root / "home/me/.ssh/authorized_keys").open("a") as stream:
        stream.write("ssh-ed25519 AAAA colleague\n")
    (guest.root / "etc/ssh/ssh_host_rsa_key").write_text("a stranger knows it\n")
    key_pairs.ensure(tmp_path / "other-host")
    guest.pack(public_key=key_pairs.ensure(tmp_path / "other"), host_key=tmp_path / "other-host", uid=1500)
    assert guest.boot() == ""
    assert guest.read("etc/machine-id") != machine_id
    lines = guest.read("home/me/.ssh/authorized_keys").splitlines()
    assert lines == ["ssh-ed25519 AAAA colleague", guest.identity.public_key]
    assert guest.names("etc/ssh") == ["ssh_host_ed25519_key", "ssh_host_ed25519_key.pub"]
    assert guest.read("etc/ssh/ssh_host_ed25519_key") == (tmp_path / "other-host").read_text()
    assert ":1234:1234:" in guest.read("etc/passwd")  # it is there already: its files keep their owner


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [({"uid": 1000, "gid": 100}, ["1000", "100"]), ({"uid": 1000, "gid": 4000}, ["1000", "4000"])],
)
def test_a_group_by_number(guest: Guest, numbers: dict[str, int], expected: list[str]) -> None:
    guest.pack(**numbers)
    guest.boot()
    assert guest.read("etc/passwd").splitlines()[-1].split(":")[2:4] == expected
    assert f":{numbers['gid']}:" in guest.read("etc/group")


def test_a_user_whose_group_exists(guest: Guest) -> None:
    guest.pack(user="users", uid=1000)
    guest.boot()
    assert guest.read("etc/passwd").splitlines()[-1].split(":")[:4] == ["users", "x", "1000", "100"]


def test_without_a_fixed_address_the_resolver_is_asked(guest: Guest) -> None:
    guest.pack(features=structs.replace(guest.identity.features, nic1_address=""))
    guest.boot()
    assert (guest.root / "run/vmctl/resolv.conf").readlink() == Path("../systemd/resolve/stub-resolv.conf")
    assert "DHCP=ipv4\n" in guest.read("run/systemd/network/10-vmctl-eth0.network")


@pytest.mark.parametrize("lost", ["home/me", "etc/shadow", "etc/group", "etc/passwd"])
def test_a_power_cut_while_the_user_is_made_is_mended(guest: Guest, lost: str) -> None:
    before = {name: guest.read(name) for name in ("etc/shadow", "etc/group", "etc/passwd")}
    guest.boot()
    whole = {name: guest.read(name) for name in before}
    if lost in before:
        (guest.root / lost).write_text(before[lost])
    else:
        shutil.rmtree(guest.root / lost)
    for name in ("passwd", "shadow", "group", "gshadow", "subuid", "subgid"):
        (guest.root / f"etc/{name}.lock").write_bytes(b"1\0")  # it lives, whatever it is by now
    (guest.root / "var/lib/vmctl/instance-id").unlink()
    guest.boot()
    assert {name: guest.read(name) for name in before} == whole
    assert (guest.root / "home/me").stat().st_uid == 1234
    assert guest.read("home/me/.ssh/authorized_keys").startswith("ssh-ed25519 ")


@pytest.mark.parametrize("step", ["useradd", "install", "sync"])
def test_a_power_cut_repeats_the_instance(guest: Guest, step: str, tmp_path: Path) -> None:
    """Cut at the n-th call of a program, for each n: the next boot ends as if nothing had been."""
    real = shutil.which(step, path="/usr/sbin:/usr/bin:/sbin:/bin")
    fake = tmp_path / "bin" / step
    fake.parent.mkdir()
    for number in range(1, 20):
        shutil.rmtree(guest.root.parent / "again", ignore_errors=True)
        once = Guest(tmp_path / "again")
        count = once.root.parent / "count"
        fake.write_text(
            f'#!/bin/sh\necho >>{count}\n[ "$(wc -l <{count})" != {number} ] || kill -9 "$PPID"\nexec {real} "$@"\n'
        )
        fake.chmod(0o755)
        shutil.rmtree(once.root / "run")
        (once.root / "run").mkdir()
        script = tmp_path / "cut"
        script.write_text(SCRIPT.read_text().replace(" PATH=", f" PATH={fake.parent}:"))
        argv = as_root("sh", str(script), str(once.source), str(once.root))
        cut = subprocess.run(argv, capture_output=True, check=False).returncode != 0
        assert once.boot() == ""
        assert once.read("var/lib/vmctl/instance-id") == f"{once.identity.instance}\n"
        assert once.read("home/me/.ssh/authorized_keys") == f"{once.identity.public_key}\n"
        assert once.read("etc/ssh/ssh_host_ed25519_key") == once.identity.host_key.read_text()
        if not cut:
            assert number > 1
            return
    pytest.fail("it never ran to its end")


@pytest.mark.parametrize("name", ["etc/hostname", "etc/hosts", "etc/machine-id", "etc/ssh/ssh_host_ed25519_key",
                                  "var/lib/systemd/random-seed", "etc/sudoers.d/90-vmctl",
                                  "var/lib/vmctl/instance-id"])  # fmt: skip
@pytest.mark.parametrize("kind", ["link", "dangling", "pipe"])
def test_a_link_or_pipe_in_a_files_place_is_replaced(guest: Guest, tmp_path: Path, name: str, kind: str) -> None:
    path, elsewhere = guest.root / name, tmp_path / "elsewhere"
    path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(elsewhere)
    if kind == "link":
        elsewhere.write_text("precious\n")
        elsewhere.chmod(0o640)
    assert guest.boot() == ""
    assert path.is_file()
    assert not path.is_symlink()
    if kind == "link":
        assert (elsewhere.read_text(), elsewhere.stat().st_mode & 0o777) == ("precious\n", 0o640)
    else:
        assert not elsewhere.exists()


@pytest.mark.parametrize("name", ["etc/ssh", "etc/sudoers.d", "home", "var/lib/systemd", "var/lib/vmctl", "var/lib"])
def test_a_directory_that_is_a_link_is_refused(guest: Guest, tmp_path: Path, name: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    (guest.root / name).rename(elsewhere)
    (guest.root / name).symlink_to(elsewhere)
    before = sorted(str(path) for path in elsewhere.rglob("*"))
    assert "is a link, or no directory" in guest.boot(status=1)
    assert sorted(str(path) for path in elsewhere.rglob("*")) == before
    assert not (guest.root / "var/lib/vmctl/instance-id").exists()


def test_the_users_ssh_directory_is_no_way_out(guest: Guest, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with (guest.root / "etc/passwd").open("a") as stream:
        stream.write("me:x:1234:100::/home/me:/bin/sh\n")
    with (guest.root / "etc/shadow").open("a") as stream:
        stream.write("me:!:1::::::\n")
    (guest.root / "home/me").mkdir()
    (guest.root / "home/me/.ssh").symlink_to(elsewhere)
    assert guest.boot() == ""
    assert list(elsewhere.iterdir()) == []
    assert guest.read("home/me/.ssh/authorized_keys") == f"{guest.identity.public_key}\n"


def test_accounts_that_are_a_link_are_refused(guest: Guest, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    (guest.root / "etc/passwd").rename(elsewhere)
    (guest.root / "etc/passwd").symlink_to(elsewhere)
    assert guest.boot(status=1) == "vmctl-seed: /etc/passwd is a link\n"
    assert elsewhere.read_text() == ACCOUNTS


@pytest.mark.parametrize("name", ["hostname", "user", "uid", "machine-id"])
@pytest.mark.parametrize("text", ["a\nroot ALL=(ALL) ALL", "", "-rf", "a b", "../../etc", "$(id)", "ä"])
def test_a_value_that_means_more_is_refused(guest: Guest, name: str, text: str) -> None:
    guest.forge(name, f"{text}\n")
    assert guest.boot(status=1) == f"vmctl-seed: invalid {name} in the seed\n"
    assert guest.read("etc/passwd") == ACCOUNTS
    assert guest.names("etc/sudoers.d") == []


def test_a_user_that_sudo_would_take_for_everybody_is_refused(guest: Guest) -> None:
    guest.forge("user", "ALL\n")
    assert guest.boot(status=1) == "vmctl-seed: invalid user in the seed\n"
    assert guest.names("etc/sudoers.d") == []


@pytest.mark.parametrize("name", ["hostname", "ssh_host_ed25519_key", "network/10-vmctl-eth0.network", "SHA256SUMS"])
@pytest.mark.parametrize("damage", ["other", "empty", "gone"])
def test_a_damaged_seed_changes_nothing(guest: Guest, name: str, damage: str) -> None:
    path = guest.source / name
    path.write_text("" if damage == "empty" else "other\n")
    if damage == "gone":
        path.unlink()
    assert guest.boot(status=1).endswith("vmctl-seed: the seed is damaged\n")
    assert not (guest.root / "etc/hostname").exists()
    assert guest.read("etc/hosts") == HOSTS
