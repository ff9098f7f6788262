from __future__ import annotations

import stat
from pathlib import Path

import pytest

from tests.unit.openssh_server import Sshd
from vmctl import process, ssh
from vmctl.driver import Address
from vmctl.errors import Unreachable, VmctlError
from vmctl.login import Login
from vmctl.process import ProgramMissing


def login_in(directory: Path, machine: str = "web") -> Login:
    return Login(
        machine=machine,
        address=Address(host="127.0.0.1", port=2222),
        user="vmctl",
        key=directory / "id_ed25519",
        known_hosts=directory / "known_hosts",
        config=directory / "ssh_config",
    )


def effective(login: Login) -> dict[str, str]:
    """What OpenSSH makes of the configuration."""
    ssh.write_config(login)
    lines = process.run(["ssh", "-F", login.config, "-G", login.machine]).stdout.splitlines()
    return {key: value for key, _, value in (line.partition(" ") for line in lines)}


@pytest.mark.parametrize("name", ["plain", "with space", 'with "quotes" and \'', "back\\slash", "per%cent %h", "ha#sh"])
def test_openssh_reads_what_was_meant(tmp_path: Path, name: str) -> None:
    login = login_in(tmp_path / name)
    found = effective(login)
    assert found["identityfile"].replace("%%", "%").strip('"') == str(login.key)
    assert (found["hostname"], found["port"], found["user"]) == ("127.0.0.1", "2222", "vmctl")
    assert found["stricthostkeychecking"] == "true"
    assert found["identitiesonly"] == "yes"
    assert found["hostkeyalias"] == "web"
    assert stat.S_IMODE(login.config.stat().st_mode) == 0o600


@pytest.mark.parametrize("name", ["${HOME}", "new\nline"])
def test_what_openssh_can_not_be_told_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(VmctlError, match="OpenSSH cannot be told"):
        ssh.render([login_in(tmp_path / name)])


def test_several_machines_make_several_blocks(tmp_path: Path) -> None:
    text = ssh.render([login_in(tmp_path / "a", "web"), login_in(tmp_path / "b", "db")])
    assert [line for line in text.splitlines() if line.startswith("Host ")] == ["Host web", "Host db"]


def test_files_that_say_the_same_are_left_alone(tmp_path: Path) -> None:
    login = login_in(tmp_path)
    ssh.write_config(login)
    ssh.write_known_hosts(login.known_hosts, "web", "ssh-ed25519 AAAA comment")
    before = [path.stat().st_ino for path in (login.config, login.known_hosts)]
    ssh.write_config(login)
    ssh.write_known_hosts(login.known_hosts, "web", "ssh-ed25519 AAAA another comment")
    assert [path.stat().st_ino for path in (login.config, login.known_hosts)] == before
    assert login.known_hosts.read_text() == "web ssh-ed25519 AAAA\n"


def test_the_command_line_of_a_session(tmp_path: Path) -> None:
    login = login_in(tmp_path)
    program, *words = ssh.session_argv(login, "echo $HOME", tty=True, options=["-L", "80:localhost:80"])
    assert program.endswith("/ssh")
    assert words == ["-F", str(login.config), "-t", "-L", "80:localhost:80", "--", "web", "echo $HOME"]
    assert ssh.session_argv(login, tty=False)[1:] == ["-F", str(login.config), "-T", "--", "web"]


def test_a_session_hands_streams_and_status_through(sshd: Sshd, capfd: pytest.CaptureFixture[str]) -> None:
    assert ssh.run_session(sshd.login, "echo out; echo err >&2; exit 9", tty=False) == 9
    assert capfd.readouterr() == ("out\n", "err\n")


def test_the_commands_own_255_is_not_mistaken_for_a_failed_connection(sshd: Sshd) -> None:
    assert ssh.run_session(sshd.login, "exit 255", tty=False) == 255


def test_a_session_with_a_machine_that_does_not_answer(tmp_path: Path, sshd: Sshd) -> None:
    login = sshd.but(config=tmp_path / "ssh_config", address=Address(host="127.0.0.1", port=1))
    ssh.write_config(login)
    with pytest.raises(Unreachable, match="nothing answers"):
        ssh.run_session(login, "true", tty=False)


def test_a_session_without_openssh(sshd: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda *_args, **_kwargs: None)
    with pytest.raises(ProgramMissing) as caught:
        ssh.run_session(sshd.login, "true")
    assert caught.value.hint == "sudo apt-get install openssh-client"
