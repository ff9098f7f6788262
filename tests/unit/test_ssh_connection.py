from __future__ import annotations

import hashlib
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.openssh_server import Sshd, free_port
from vmctl import interrupt, key_pairs, process, ssh
from vmctl.driver import Address
from vmctl.errors import Interrupted, Unreachable, VmctlError
from vmctl.process import CommandFailed
from vmctl.ssh import Connection, connection, kept_output
from vmctl.ssh.handshake import HostKeyWrong, LoginRefused


@pytest.fixture(scope="module")
def web(sshd: Sshd) -> Iterator[Connection]:
    with Connection.connect(sshd.login) as connection:
        yield connection


def test_arguments_arrive_exactly(web: Connection) -> None:
    words = ["a b", "", "$HOME", "'", '"', "\\", "*", "new\nline", "é"]
    assert web.run(["printf", "%s|", *words]).stdout == "".join(f"{word}|" for word in words)


def test_text_runs_in_a_shell(web: Connection) -> None:
    assert web.run("for i in 1 2; do echo $i; done").stdout == "1\n2\n"


def test_streams_and_status_are_kept_apart(web: Connection) -> None:
    completed = web.run("echo out; echo err >&2; exit 3", check=False)
    assert (completed.status, completed.stdout, completed.stderr) == (3, "out\n", "err\n")


def test_a_bad_status_is_an_error_with_the_output(web: Connection) -> None:
    with pytest.raises(CommandFailed) as caught:
        web.run("echo why >&2; exit 7")
    assert caught.value.brief.endswith("ended with status 7 in web")
    assert "why" in caught.value.details


def test_a_killed_command_is_told_from_a_lost_connection(web: Connection) -> None:
    completed = web.run("kill -KILL $$", check=False)
    assert completed.status == 128


def test_input_is_fed_and_ended(web: Connection) -> None:
    data = bytes(range(256)) * 4096
    assert web.run(["sha256sum"], input=data).stdout.split()[0] == hashlib.sha256(data).hexdigest()
    assert web.run(["cat"]).stdout == ""


def test_a_command_may_leave_its_input_unread(web: Connection) -> None:
    assert web.run("exec <&-; echo done", input=b"x" * 5_000_000).stdout == "done\n"


def test_much_output_on_both_streams(web: Connection) -> None:
    completed = web.run("head -c 3000000 /dev/zero >&2; head -c 3000000 /dev/zero")
    assert (len(completed.stdout), len(completed.stderr)) == (3_000_000, 3_000_000)


def test_a_command_that_prints_without_end_is_given_up(web: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_output, "MOST", 1_000_000)
    for words in ("yes", "yes >&2"):
        with pytest.raises(VmctlError, match="does not stop printing"):
            web.run(words)
    assert web.run("echo on").stdout == "on\n"


def test_of_what_is_told_line_by_line_beginning_and_end_are_kept(
    web: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_output, "END", 1000)
    lines: list[str] = []
    kept = web.run("seq 100000", on_line=lines.append).stdout
    assert lines == [str(number) for number in range(1, 100_001)]
    assert kept.startswith("1\n2\n")
    assert kept.endswith("\n100000\n")
    assert "\n[...]\n" in kept
    assert len(kept) < 200_000


def test_a_line_without_end_is_told_in_parts(web: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "LONGEST_LINE", 100_000)
    lines: list[str] = []
    web.run("head -c 1000000 /dev/zero | tr '\\0' x; echo y", on_line=lines.append)
    assert "".join(lines) == 1_000_000 * "x" + "y"
    assert max(map(len, lines)) < 200_000


def test_variables_and_sudo(web: Connection) -> None:
    shown = web.run("echo $GREETING ${VIA_SUDO:-direct}", env={"GREETING": "a  'b'"}, sudo=True).stdout
    assert shown == ("a 'b' direct\n" if web.login.is_root else "a 'b' yes\n")


def test_lines_come_one_by_one(web: Connection) -> None:
    lines: list[str] = []
    web.run("printf 'one\\r\\ntw'; printf 'o\\nlast'", on_line=lines.append)
    assert lines == ["one", "two", "last"]


def test_a_background_process_is_not_waited_for(web: Connection) -> None:
    started = time.monotonic()
    assert web.run("sleep 30 & echo started $!").stdout.startswith("started ")
    assert time.monotonic() - started < 5


def test_a_deadline_ends_a_command(web: Connection) -> None:
    with pytest.raises(CommandFailed, match=r"did not end within 0\.2 s in web"):
        web.run("echo so far; exec sleep 30", deadline=0.2)


@pytest.mark.usefixtures("clean_interrupt")
def test_an_interruption_ends_a_command_at_once(web: Connection) -> None:
    timer = threading.Timer(0.2, interrupt.request, [signal.SIGTERM])
    timer.start()
    started = time.monotonic()
    with pytest.raises(Interrupted) as caught:
        web.run(["sleep", "30"])
    assert caught.value.signal == signal.SIGTERM
    assert time.monotonic() - started < 5  # of 30
    timer.join()


def test_files_appear_whole_with_their_mode(web: Connection, tmp_path: Path) -> None:
    target = tmp_path / "with space" / "file"
    target.parent.mkdir()
    web.put(b"one", str(target), mode=0o600)
    assert (target.read_bytes(), target.stat().st_mode & 0o777) == (b"one", 0o600)
    source = tmp_path / "source"
    source.write_bytes(b"two\0")
    web.put(source, str(target))
    assert (target.read_bytes(), target.stat().st_mode & 0o777) == (b"two\0", 0o644)
    assert [entry.name for entry in target.parent.iterdir()] == ["file"]


def test_a_file_that_can_not_be_written_or_read_is_an_error(web: Connection, tmp_path: Path) -> None:
    with pytest.raises(CommandFailed):
        web.put(b"x", str(tmp_path / "absent" / "file"))
    with pytest.raises(VmctlError, match="cannot be read"):
        web.put(tmp_path / "absent", str(tmp_path / "file"))


def test_nothing_answers(sshd: Sshd) -> None:
    login = sshd.but(address=Address(host="127.0.0.1", port=free_port()))
    with pytest.raises(Unreachable, match=r"nothing answers on 127\.0\.0\.1") as caught:
        Connection.connect(login)
    assert caught.value.hint == "vmctl up web"


def test_another_host_key_is_refused(sshd: Sshd, tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    ssh.write_known_hosts(known, "web", key_pairs.ensure(tmp_path / "other"))
    with pytest.raises(HostKeyWrong, match="another SSH host key"):
        Connection.connect(sshd.but(known_hosts=known))


def test_an_unknown_host_is_refused(sshd: Sshd, tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    known.write_text("")
    with pytest.raises(HostKeyWrong):
        Connection.connect(sshd.but(known_hosts=known))


def test_another_user_key_is_refused(sshd: Sshd, tmp_path: Path) -> None:
    key_pairs.ensure(tmp_path / "other")
    with pytest.raises(LoginRefused, match="refuses user"):
        Connection.connect(sshd.but(key=tmp_path / "other"))


def test_a_damaged_private_key_is_told(sshd: Sshd, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("nonsense")
    with pytest.raises(VmctlError, match="cannot be read"):
        Connection.connect(sshd.but(key=tmp_path / "key"))


def test_a_lost_connection_is_told(sshd: Sshd) -> None:
    connection = Connection.connect(sshd.login)
    with pytest.raises(Unreachable, match="connection broke"):
        connection.run("kill -KILL $PPID; sleep 30")
    with pytest.raises(Unreachable):
        connection.run("true")


def test_the_end_of_the_input_is_told_at_once(web: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "POLL", 60.0)
    started = time.monotonic()
    assert web.run(["cat"], input="x").stdout == "x"
    assert time.monotonic() - started < 10.0


def test_small_packets_are_sent_at_once(web: Connection) -> None:
    sock = web.transport.sock
    assert isinstance(sock, socket.socket)
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
