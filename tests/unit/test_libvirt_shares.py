from __future__ import annotations

import errno
import json
import os
import re
import socket
import stat
import struct
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmctl.driver import Share
from vmctl.errors import VmctlError
from vmctl.spec import Folder
from vmctl_libvirt import confined_virtiofsd, rootless, shares
from vmctl_libvirt.confined_virtiofsd import LAST_ID, NOBODY, exceptions, id_map
from vmctl_libvirt.libvirt_connection import Abilities
from vmctl_libvirt.rootless import Obstacle
from vmctl_libvirt.shares import ShareKinds

IDS = st.integers(0, 70_000) | st.sampled_from([0, 1000, NOBODY, LAST_ID])


def abilities(*, local: bool = True, session: bool = False, guests: bool = True) -> Abilities:
    return Abilities(uri="qemu:///x", version=9_000_000, is_local=local, is_session=session, runs_guests=guests)


@given(guest=IDS, host=IDS)
def test_no_id_has_two_meanings_and_the_hosts_root_is_nobody_but_its_folders_owner(guest: int, host: int) -> None:
    rows = id_map(exceptions(guest, host))
    for position in (0, 1):
        ranges = sorted((row[position], row[position] + row[2]) for row in rows)
        assert ranges[-1][1] <= LAST_ID + 1
        assert all(before[1] <= after[0] for before, after in pairwise(ranges))
        assert sum(row[2] for row in rows) >= LAST_ID
    inside = {_inside(rows, 0)} - {None}
    assert inside == ({guest} if host == 0 != guest else set())
    assert _outside(rows, 0) != 0
    if guest or host:
        assert _outside(rows, guest) == host


def test_the_root_of_the_guest_is_nobody_here() -> None:
    for host in (0, 1000, 1001):
        rows = id_map(exceptions(1000, host))
        assert [_outside(rows, each) for each in (0, 1000, 1002)] == [NOBODY, host, 1002]


def test_the_root_of_the_guest_as_login_user_is_the_folders_owner() -> None:
    rows = id_map(exceptions(0, 1000))
    assert [_outside(rows, each) for each in (0, 1000, 1001)] == [1000, None, 1001]


def test_two_people_change_places() -> None:
    rows = id_map(exceptions(1000, 1001))
    assert [_outside(rows, each) for each in (1000, 1001)] == [1001, 1000]


@pytest.mark.parametrize(
    ("arguments", "folder", "changed"),
    [
        (["--fd=3", "-o", "source=/a b,cache=auto"], "/a b", ["--fd=3", "-o", "source={},cache=auto"]),
        (["-o", "cache=auto,source=/a,,b"], "/a,b", ["-o", "cache=auto,source={}"]),
        (["--shared-dir", "/a", "--readonly"], "/a", ["--shared-dir", "{}", "--readonly"]),
        (["--shared-dir=/a=b"], "/a=b", ["--shared-dir={}"]),
    ],
)
def test_the_folder_is_shared_from_its_room(arguments: list[str], folder: str, changed: list[str]) -> None:
    room = confined_virtiofsd.ROOM
    assert confined_virtiofsd.moved(arguments) == (folder, [word.format(room) for word in changed])


def test_without_a_folder_nothing_is_run() -> None:
    with pytest.raises(SystemExit, match="no folder"):
        confined_virtiofsd.moved(["-o", "cache=auto", "--fd=3"])


ATTACK = """
import json, os, stat
os.chdir({room!r})
def tried(act):
    try:
        act()
    except OSError as error:
        return error.errno
    return 0
def make(name, mode):
    os.close(os.open(name, os.O_CREAT | os.O_WRONLY | os.O_EXCL, mode))
def acts(who):
    file, other = who + "-file", who + "-other"
    yield "make", lambda: make(file, 0o644)
    yield "chmod", lambda: os.chmod(file, 0o755)
    yield "mkdir", lambda: os.mkdir(who + "-directory")
    yield "fifo", lambda: os.mkfifo(who + "-fifo")
    yield "make set-uid", lambda: make(other, 0o4755)
    yield "make set-gid", lambda: make(other, 0o2755)
    yield "chmod set-uid", lambda: os.chmod(file, 0o4755)
    yield "chmod set-gid", lambda: os.chmod(file, 0o2755)
    yield "fchmod set-uid", lambda: os.fchmod(os.open(file, os.O_RDONLY), 0o4755)
    yield "chmod set-uid by directory", lambda: os.chmod(file, 0o4755, dir_fd=os.open(".", os.O_RDONLY))
    yield "make a set-uid node", lambda: os.mknod(other, 0o104755)
    yield "make a character device", lambda: os.mknod(other, 0o20666, os.makedev(1, 3))
    yield "make a block device", lambda: os.mknod(other, 0o60666, os.makedev(7, 0))
    yield "set a capability", lambda: os.setxattr(file, "security.capability", bytes(20))
    yield "take root's", lambda: os.chown("kept", os.getuid(), -1)
done = {{}}
os.umask(0)
done["root"] = {{name: tried(act) for name, act in acts("root")}}
os.setresgid(1000, 1000, 1000)
os.setresuid(1000, 1000, 1000)
done["user"] = {{name: tried(act) for name, act in acts("user")}}
print(json.dumps(done))
"""
PYTHON = "/usr/bin/python3"
"""One that is not below a directory that root alone may enter."""
WORK = ("make", "chmod", "mkdir", "fifo")


def attack(folder: Path, owner: int, mode: str) -> dict[str, dict[str, int]]:
    """What the guest's root and login user get when they try; 0 = it was done."""
    ids = f"1000:{owner}"
    argv = [sys.executable, "-IS", confined_virtiofsd.__file__, ids, ids, mode, PYTHON, "-IS", "-c"]
    script = ATTACK.format(room=confined_virtiofsd.ROOM)
    done = subprocess.run([*argv, script, "-o", f"source={folder}"], capture_output=True, text=True, check=True)
    answer: dict[str, dict[str, int]] = json.loads(done.stdout)
    return answer


@pytest.fixture
def share(tmp_path: Path) -> Path:
    """A folder below one that root alone may enter, with a file of root's in it."""
    folder = tmp_path / "closed" / "a, b"
    folder.mkdir(mode=0o777, parents=True)
    (folder / "kept").touch()
    folder.parent.chmod(0o700)
    return folder


ONLY_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root maps other users' ids; `make test` runs as root")


@ONLY_ROOT
@pytest.mark.parametrize("owner", [0, 1000, 1234])
def test_a_guest_makes_files_but_nothing_that_is_dangerous_on_the_host(share: Path, owner: int) -> None:
    os.chown(share, owner, owner)
    done = attack(Path(str(share).replace(",", ",,")), owner, "rw")
    for who in ("root", "user"):
        assert [done[who].pop(name) for name in WORK] == [0, 0, 0, 0]
        taken = done[who].pop("take root's")
        assert taken in (0, errno.EPERM)
        assert set(done[who].values()) == {errno.EPERM, errno.EOPNOTSUPP}
    found = {path.name: path.lstat() for path in share.iterdir()}
    assert {name for name in found if "other" in name} == set()
    assert not any(status.st_mode & (stat.S_ISUID | stat.S_ISGID) for status in found.values())
    assert {found["root-file"].st_uid, found["root-file"].st_gid} == {NOBODY}
    assert {found["user-file"].st_uid, found["user-file"].st_gid} == {owner}
    if owner:
        assert found["kept"].st_uid == 0


@ONLY_ROOT
@pytest.mark.parametrize("owner", [0, 1000])
def test_a_read_only_folder_is_so_for_virtiofsd_itself(share: Path, owner: int) -> None:
    os.chown(share, owner, owner)
    done = attack(Path(str(share).replace(",", ",,")), owner, "ro")
    assert {done[who][name] for who in done for name in ("make", "mkdir", "fifo", "take root's")} <= {
        errno.EROFS, errno.EPERM,
    }  # fmt: skip
    assert done["user"]["make"] == errno.EROFS
    assert [path.name for path in share.iterdir()] == ["kept"]


@ONLY_ROOT
def test_a_read_only_folder_can_not_be_made_writable_from_inside(share: Path) -> None:
    script = (
        "import ctypes, os; libc = ctypes.CDLL(None, use_errno=True); libc.unshare(0x20000);"
        f"print(libc.mount(None, b{confined_virtiofsd.ROOM!r}, None, ctypes.c_ulong(0x20 | 0x1000), None),"
        " ctypes.get_errno())"
    )
    argv = [sys.executable, "-IS", confined_virtiofsd.__file__, "1000:0", "1000:0", "ro", PYTHON, "-c", script]
    folder = str(share).replace(",", ",,")
    done = subprocess.run([*argv, "-o", f"source={folder}"], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["-1", str(errno.EPERM)]


SERVES = re.compile("Waiting for VU event|Client connected")
"""What virtiofsd says then, the one in C and the one in Rust."""


@ONLY_ROOT
@pytest.mark.parametrize("mode", ["rw", "ro"])
def test_virtiofsd_itself_starts_in_there(share: Path, tmp_path: Path, mode: str) -> None:
    """As libvirt starts it, with a listening socket; its own sandbox and filter come on top."""
    os.chown(share, 1000, 1000)
    virtiofsd = shares.find()
    assert virtiofsd is not None, "sudo apt-get install qemu-system-common"
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(str(tmp_path / "s"))
        server.listen()
        client.connect(str(tmp_path / "s"))
        folder = str(share).replace(",", ",,")
        argv = [sys.executable, "-IS", confined_virtiofsd.__file__, "1000:1000", "1000:1000", mode, str(virtiofsd),
                f"--fd={server.fileno()}", "-o", f"source={folder},cache=auto", "-d"]  # fmt: skip
        with subprocess.Popen(argv, pass_fds=[server.fileno()], stderr=subprocess.PIPE, text=True) as daemon:
            assert daemon.stderr is not None
            lines = []
            for line in daemon.stderr:
                lines.append(line)
                if SERVES.search(line):
                    client.close()
            assert daemon.wait() == 0, "".join(lines)


@ONLY_ROOT
def test_questions_to_virtiofsd_are_answered_by_it() -> None:
    argv = [sys.executable, "-IS", confined_virtiofsd.__file__, "1:1", "1:1", "rw", "/bin/echo", "--print-capabilities"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert done.stdout == "--print-capabilities\n"


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_filter_is_whole(machine: str) -> None:
    """No jump leads out of it, and it ends by allowing the rest."""
    program = list(struct.iter_unpack("=HBBI", confined_virtiofsd.filter_program(machine)))
    for at, (code, yes, no, _operand) in enumerate(program):
        if code in (confined_virtiofsd.EQUAL, confined_virtiofsd.ANY_BIT, confined_virtiofsd.AT_LEAST):
            assert at + 1 + max(yes, no) < len(program)
    assert program[-1] == confined_virtiofsd.ALLOW
    with pytest.raises(SystemExit, match="not possible on vax"):
        confined_virtiofsd.filter_program("vax")


def test_live_folders_need_a_local_connection_and_virtiofsd_and_else_it_is_said_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shares, "may_run", lambda _directory: True)
    program = tmp_path / "virtiofsd"
    assert shares.offer(abilities(), tmp_path, [program]).why_not == "there is no virtiofsd"
    program.touch()
    assert shares.offer(abilities(), tmp_path, [program]) == ShareKinds(("virtiofs",))
    for unable in (abilities(local=False), abilities(guests=False)):
        assert "does not see the folders" in shares.offer(unable, tmp_path, [program]).why_not
    monkeypatch.setattr(shares, "may_run", lambda _directory: False)
    refused = shares.offer(abilities(), tmp_path, [program])
    assert (refused.kinds, "AppArmor" in refused.why_not) == ((), True)
    assert f"{tmp_path}/libvirt/* PUx" in refused.remedy


def test_in_session_mode_it_is_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rootless, "obstacle", lambda _home, _virtiofsd: None)
    assert shares.offer(abilities(session=True), tmp_path) == ShareKinds(("virtiofs",))
    monkeypatch.setattr(rootless, "obstacle", lambda _home, _virtiofsd: Obstacle("no ids", "sudo usermod"))
    assert shares.offer(abilities(session=True), tmp_path) == ShareKinds((), "no ids", "sudo usermod")


def test_a_folder_of_another_user_or_group_is_not_live_in_session_mode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, copied = Folder(host=tmp_path, guest="/a"), Folder(host=tmp_path, guest="/b", kind="rsync")
    assert shares.foreign([own, copied]) == ""
    monkeypatch.setattr("vmctl_libvirt.shares.os.getegid", lambda: 4242)
    assert f"{tmp_path} belongs to group {os.getgid()}, not to yours (4242)" in shares.foreign([copied, own])
    assert shares.foreign([copied]) == ""


@pytest.mark.parametrize("read_only", [False, True])
def test_every_share_gets_a_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, read_only: bool) -> None:
    monkeypatch.setattr(shares, "find", lambda: Path("/usr/lib/qemu/virtiofsd"))
    programs = tmp_path / "it's here"
    owner = (os.getuid() or 4242, os.getgid() or 4243)
    (folder,) = shares.shared_folders(
        [Share(tag="t", host=tmp_path, kind="virtiofs", owner=owner, read_only=read_only)], programs
    )
    text = Path(folder.binary).read_text()
    ids = f"{owner[0]}:{os.getuid()} {owner[1]}:{os.getgid()} {'ro' if read_only else 'rw'}"
    assert text.splitlines()[0] == "#!/bin/sh"
    assert text.splitlines()[1].endswith(f'{ids} /usr/lib/qemu/virtiofsd "$@"')
    assert os.access(folder.binary, os.X_OK)
    assert [entry.name for entry in programs.iterdir()] == [Path(folder.binary).name]


def test_an_unknown_login_user_is_not_roots_equal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "stat", lambda _path: os.stat_result((0o40755, 0, 0, 2, 0, 0, 0, 0, 0, 0)))
    assert shares.Owners.of(Share(tag="t", host=tmp_path, kind="virtiofs")).guest == (1000, 1000)


def test_apparmor_must_allow_the_programs(tmp_path: Path) -> None:
    flag, profile, programs = tmp_path / "enabled", tmp_path / "profile", tmp_path / "programs"
    assert shares.may_run(programs, flag, [profile])
    flag.write_text("Y\n")
    assert not shares.may_run(programs, flag, [profile])
    profile.write_text(f"{programs}/* PUx,\n")
    assert shares.may_run(programs, flag, [profile])
    assert not shares.may_run(tmp_path / "other", flag, [profile])


@pytest.mark.parametrize(
    ("owner", "user", "foreign"), [(0, 1000, 0), (1001, 1000, 1001), (1000, 1000, None), (0, 0, None), (1000, 0, None)]
)
def test_whose_folder_is_not_for_the_user_to_give(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: int, user: int, foreign: int | None
) -> None:
    monkeypatch.setattr(Path, "stat", lambda _path: os.stat_result((0o40755, 0, 0, 2, owner, owner, 0, 0, 0, 0)))
    monkeypatch.setattr("vmctl_libvirt.shares.os.geteuid", lambda: user)
    assert shares.foreign_owner(tmp_path) == foreign


def test_a_folder_that_is_gone_is_an_error(tmp_path: Path) -> None:
    share = Share(tag="t", host=tmp_path / "absent", kind="virtiofs")
    with pytest.raises(VmctlError, match="cannot share"):
        shares.shared_folders([share], tmp_path)


def _outside(rows: list[tuple[int, int, int]], inside: int) -> int | None:
    return next((out + inside - start for start, out, count in rows if start <= inside < start + count), None)


def _inside(rows: list[tuple[int, int, int]], outside: int) -> int | None:
    return next((start + outside - out for start, out, count in rows if out <= outside < out + count), None)


def test_virtiofsd_of_our_own_does_not_wait_for_ever_for_a_vmctl_that_was_killed(tmp_path: Path) -> None:
    program = [sys.executable, "-IS", confined_virtiofsd.__file__, "1000:0", "1000:0", "rw", "/bin/false"]
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind(str(tmp_path / "socket"))
        listener.listen(1)
        number = listener.fileno()

        def run(seconds: int, *words: str) -> subprocess.CompletedProcess[str]:
            argv = [*program, f"--connect-within={seconds},fd={number}", *words]
            return subprocess.run(argv, pass_fds=[number], capture_output=True, text=True, check=False, timeout=60)

        client.connect(str(tmp_path / "socket"))
        assert run(60).stderr == "virtiofsd is told to share no folder\n", "it goes on"
        assert not (tmp_path / "socket").exists(), "and nobody connects a second time"
        listener.accept()[0].close()
        assert run(0).stderr == "nobody connected\n"
