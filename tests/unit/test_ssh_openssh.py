"""A link through the OpenSSH client, against a real server."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import structs

from tests.unit.openssh_server import Sshd, free_port, sshd
from vmctl import process
from vmctl.errors import Unreachable
from vmctl.process import CommandFailed
from vmctl.ssh.openssh import Destination, OpenSsh

__all__ = ["sshd"]


def destination(server: Sshd) -> Destination:
    return Destination(name="web-a", host="web", options=("-F", str(server.login.config)), enter="try this")


@pytest.fixture
def link(sshd: Sshd) -> Iterator[OpenSsh]:
    with OpenSsh.connect(destination(sshd)) as made:
        yield made


def test_words_arrive_exactly_and_the_status_comes_back(link: OpenSsh) -> None:
    words = ["printf", "[%s]", "a b", "$HOME", "'\"", "", "ü\n", "-"]
    assert link.run(words).stdout == "[a b][$HOME]['\"][][ü\n][-]"
    assert link.run("exit 7", check=False).status == 7
    with pytest.raises(CommandFailed, match="ended with status 3 in web-a"):
        link.run(["sh", "-c", "exit 3"])


def test_input_env_and_both_streams(link: OpenSsh) -> None:
    data = bytes(range(256)) * 1000
    assert link.run(["wc", "-c"], input=data).stdout.strip() == "256000"
    assert link.run('echo "$X"; echo no >&2', env={"X": "a 'b'"}).stdout == "a 'b'\n"
    lines: list[str] = []
    done = link.run("echo one; cat; echo; echo two >&2", input="three", on_line=lines.append)
    assert (done.status, sorted(lines)) == (0, ["one", "three", "two"])


def test_nothing_that_runs_is_on_a_command_line_here(link: OpenSsh) -> None:
    shown: list[str] = []
    script = "tr '\\0' ' ' </proc/$PPID/cmdline >/dev/null; cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '"
    link.run(["sh", "-c", script, "sh", "hunter2"], on_line=shown.append)
    ssh_clients = [word for word in " ".join(shown).split("ssh ") if "StrictHostKeyChecking" in word]
    assert ssh_clients
    assert all("hunter2" not in word.partition("count=")[0] for word in ssh_clients)


def test_a_file_appears_with_its_mode(link: OpenSsh, tmp_path: Path) -> None:
    link.put(b"content", str(tmp_path / "new"), mode=0o640)
    assert (tmp_path / "new").read_bytes() == b"content"
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640


def test_a_deadline_holds(link: OpenSsh) -> None:
    with pytest.raises(CommandFailed, match="did not end within"):
        link.run("exec sleep 20", deadline=0.3)


def test_nobody_there_is_unreachable_with_the_words_of_ssh(sshd: Sshd) -> None:
    nowhere = structs.replace(destination(sshd), options=(*destination(sshd).options, "-p", str(free_port())))
    with pytest.raises(Unreachable, match="web-a: ssh could not log in") as caught:
        OpenSsh.connect(nowhere)
    assert "Connection refused" in caught.value.details
    assert caught.value.hint == "try this"


def test_an_unknown_host_key_is_refused_whatever_the_options_say(sshd: Sshd, tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    known.touch()
    options = ("-o", f"UserKnownHostsFile={known}", "-o", "StrictHostKeyChecking=no", *destination(sshd).options)
    with pytest.raises(Unreachable) as caught:
        OpenSsh.connect(structs.replace(destination(sshd), options=options))
    assert "Host key verification failed" in caught.value.details
    assert caught.value.hint.startswith("ssh-keyscan HOST")
    assert known.read_text() == ""


def test_the_master_goes_with_the_link(sshd: Sshd) -> None:
    made = OpenSsh.connect(destination(sshd))
    made.close()
    assert not made.directory.exists()
    # No way back in by a socket that is gone, where ssh is told of no other.
    lost = OpenSsh(
        Destination(name="gone", host="web", options=("-F", "/dev/null", "-o", "ProxyCommand=false")), Path("/nowhere")
    )
    with pytest.raises(Unreachable, match="gone: the SSH connection broke"):
        lost.run(["true"])
    running = process.run(["ps", "-eo", "args"]).stdout
    assert str(made.directory) not in running
