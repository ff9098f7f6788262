from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from msgspec import structs

from tests.unit.openssh_server import Sshd
from tests.unit.test_ssh_login_shell import GREETING, RUN, Greeting
from vmctl import ssh
from vmctl.driver import Address
from vmctl.errors import Unreachable
from vmctl.folders import rsync
from vmctl.login import Login
from vmctl.process import CommandFailed
from vmctl.spec import Folder
from vmctl.ssh import Connection

OWNER = (os.getuid(), os.getgid())


@dataclass
class Copy:
    """A host directory and its copy, in directories whose names need quoting everywhere."""

    connection: Connection
    folder: Folder
    login: Login
    sshd: Sshd

    @property
    def host(self) -> Path:
        return self.folder.host

    @property
    def guest(self) -> Path:
        return Path(self.folder.guest)

    def send(self) -> rsync.Sent:
        return rsync.send(self.connection, self.folder, self.login, owner=OWNER)

    def names(self) -> list[str]:
        return sorted(str(path.relative_to(self.guest)) for path in self.guest.rglob("*"))


@pytest.fixture
def copy(sshd: Sshd, tmp_path: Path) -> Iterator[Copy]:
    folder = Folder(host=tmp_path / "my  'host' dir", guest=str(tmp_path / "my $guest 'dir'"), kind="rsync")
    folder.host.mkdir()
    Path(folder.guest).mkdir()
    config = tmp_path / 'a "machine\'s" own' / "ssh_config"
    login = sshd.but(config=config)
    ssh.write_config(login)
    with Connection.connect(login) as connection:
        yield Copy(connection, folder, login, sshd)


def test_content_modes_times_and_links_arrive(copy: Copy) -> None:
    (copy.host / "bin").mkdir()
    script = copy.host / "bin" / "run me"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o750)
    os.utime(script, (1_000_000_000, 1_000_000_000))
    (copy.host / "link").symlink_to("bin/run me")
    sent = copy.send()
    arrived = copy.guest / "bin" / "run me"
    assert (arrived.read_text(), arrived.stat().st_mode & 0o777) == ("#!/bin/sh\n", 0o750)
    assert arrived.stat().st_mtime == 1_000_000_000
    assert (arrived.stat().st_uid, arrived.stat().st_gid) == OWNER
    assert (copy.guest / "link").readlink() == Path("bin/run me")
    assert str(sent) == "2 sent (10 B)"
    assert set(sent.changed) == {"bin/run me", "link"}


def test_a_second_copy_sends_what_changed_only(copy: Copy) -> None:
    (copy.host / "same").write_text("same")
    (copy.host / "other").write_text("one")
    copy.send()
    (copy.host / "other").write_text("three")
    assert copy.send() == rsync.Sent(changed=("other",), size=5)
    assert str(copy.send()) == "nothing to do"


def test_what_the_guest_made_stays_and_what_the_host_lost_goes(copy: Copy) -> None:
    (copy.host / "src").mkdir()
    (copy.host / "src" / "a.c").write_text("a")
    (copy.host / "src" / "b.c").write_text("b")
    (copy.host / "old").mkdir()
    (copy.host / "old" / "file").write_text("x")
    copy.send()
    (copy.guest / "src" / "a.o").write_text("built")
    (copy.guest / "node_modules").mkdir()
    for name in ("src/a.c", "src/b.c", "old/file"):
        (copy.host / name).unlink()
    (copy.host / "src").rmdir()
    (copy.host / "old").rmdir()
    sent = copy.send()
    assert copy.names() == ["node_modules", "src", "src/a.o"]
    assert set(sent.removed) == {"src/a.c", "src/b.c", "src/", "old/file", "old/"}
    assert copy.send() == rsync.Sent()


def test_what_was_sent_is_known_to_the_disk_wherever_that_goes(copy: Copy) -> None:
    for name in ("a", "b\n\udcff"):
        (copy.host / name).write_text(name[:1])
    copy.send()
    for known in (copy.login.config.parent / "synced").iterdir():
        known.write_bytes(b"of another machine")
    (copy.host / "b\n\udcff").unlink()
    (copy.guest / "built").write_text("")
    assert len(copy.send().removed) == 1
    assert copy.names() == ["a", "built"]
    lists = list((copy.sshd.bin / ".local" / "state" / "vmctl" / "copied").iterdir())
    assert [one.stat().st_mode & 0o777 for one in lists] == [0o600] * len(lists)


def test_the_guests_list_tells_it_nothing_of_the_host(
    copy: Copy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (copy.host / "a").write_text("")
    copy.send()
    (name,) = [one.name for one in (copy.login.config.parent / "synced").iterdir()]
    kept = copy.sshd.bin / ".local" / "state" / "vmctl" / "copied" / name
    (tmp_path / "there").write_text("")
    strange = [b"../there", b"../not", b"/etc/passwd", b"/not", b"x/../../not", str(tmp_path / "there").encode()]
    kept.write_bytes(b"\0".join([b"a", *strange, b"gone"]))
    looked: list[str] = []
    real = os.path.lexists

    def lexists(path: bytes) -> bool:
        looked.append(os.fsdecode(path))
        return real(path)

    monkeypatch.setattr(os.path, "lexists", lexists)
    assert copy.send().removed == ("gone",)
    assert looked == [str(copy.host / "gone")]


def test_a_list_of_the_host_alone_serves_as_well(copy: Copy) -> None:
    (copy.host / "a").write_text("")
    copy.send()
    lists = list((copy.sshd.bin / ".local" / "state" / "vmctl" / "copied").iterdir())
    for one in lists:
        one.unlink()
    copy.send()
    assert any(one.exists() for one in lists), "the guest has it from then on, though nothing has changed"
    for one in lists:
        one.unlink(missing_ok=True)
    (copy.host / "a").unlink()
    assert copy.send().removed == ("a",)


def test_removal_never_leaves_the_folder(copy: Copy, tmp_path: Path) -> None:
    (copy.host / "data").mkdir()
    (copy.host / "data" / "precious").write_text("x")
    copy.send()
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("keep me")
    (copy.guest / "data" / "precious").unlink()
    (copy.guest / "data").rmdir()
    (copy.guest / "data").symlink_to(outside)
    (copy.host / "data" / "precious").unlink()
    (copy.host / "data").rmdir()
    copy.send()
    assert (outside / "precious").read_text() == "keep me"


def test_keys_and_excluded_files_are_not_sent(copy: Copy) -> None:
    for name in (".vmctl/machines/web/id_ed25519", "sub/.vmctl/key", "build/out", "a.log", ".git/HEAD"):
        (copy.host / name).parent.mkdir(parents=True, exist_ok=True)
        (copy.host / name).write_text("x")
    copy.folder = structs.replace(copy.folder, exclude=("/build/", "*.log"))
    copy.send()
    assert copy.names() == [".git", ".git/HEAD", "sub"]


def test_a_newly_excluded_file_is_left_in_the_guest(copy: Copy) -> None:
    (copy.host / "notes.txt").write_text("x")
    copy.send()
    copy.folder = structs.replace(copy.folder, exclude=("*.txt",))
    assert copy.send() == rsync.Sent()
    assert copy.names() == ["notes.txt"]


def test_a_read_only_folder_is_read_only_to_the_login_user(copy: Copy) -> None:
    (copy.host / "file").write_text("x")
    copy.folder = structs.replace(copy.folder, read_only=True)
    copy.send()
    assert (copy.guest / "file").stat().st_mode & 0o222 == 0
    assert copy.send() == rsync.Sent()


@pytest.mark.parametrize(
    "name",
    [b"new\nline", b"back\\slash", b"\\#101", b"-rf", b"a -> b", b"\xff\xfe", "é 🐧".encode(), b" lead", b"tab\t"],
)
def test_odd_names_come_and_go(copy: Copy, name: bytes) -> None:
    path = copy.host / os.fsdecode(name)
    path.write_bytes(b"x")
    copy.send()
    assert [os.fsencode(entry.name) for entry in copy.guest.iterdir()] == [name]
    path.unlink()
    copy.send()
    assert copy.names() == []


def test_a_guest_that_does_not_answer_is_told_from_a_failed_copy(copy: Copy) -> None:
    (copy.host / "file").write_text("x")
    ssh.write_config(structs.replace(copy.login, address=Address(host="127.0.0.1", port=1)))
    with pytest.raises(Unreachable, match="rsync lost the guest"):
        copy.send()
    ssh.write_config(copy.login)
    copy.folder = structs.replace(copy.folder, host=copy.host / "gone")
    with pytest.raises(CommandFailed, match="rsync ended with status 23"):
        copy.send()


def test_what_start_up_files_print_does_not_confuse_it(copy: Copy, sshd: Sshd) -> None:
    (copy.host / "one").write_text("1")
    with Greeting(sshd, GREETING + RUN):
        sent = copy.send()
    assert (sent.changed, (copy.guest / "one").read_text()) == (("one",), "1")


def test_what_is_no_file_is_left_out_and_told(copy: Copy) -> None:
    (copy.host / "one").write_text("1")
    (copy.host / "lock").symlink_to("me@host.1234")
    os.mkfifo(copy.host / "a 'pipe' ü")
    with socket.socket(socket.AF_UNIX) as sock, contextlib.chdir(copy.host):
        sock.bind("s.sock")
    sent = copy.send()
    assert copy.names() == ["lock", "one"]
    assert (copy.guest / "lock").readlink() == Path("me@host.1234")
    assert sorted(sent.skipped) == ["a 'pipe' ü", "s.sock"]
