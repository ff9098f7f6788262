from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.unit.openssh_server import Sshd
from vmctl.errors import Unreachable
from vmctl.ssh import Connection, login_shell
from vmctl.ssh.openssh import Destination, OpenSsh

GREETING = """printf 'Welcome back; '; echo "3 updates are pending"; echo "(lastlog: never)" >&2; """
RUN = 'eval "$SSH_ORIGINAL_COMMAND"'
WORDS = ["a b", "", "$HOME", "'", '"', "\\", "\\\\x\\'", "!x", "*", "new\nline", "é"]


@pytest.fixture
def forced(sshd: Sshd) -> Destination:
    """The way to it through the OpenSSH client."""
    return Destination(name="web-a", host="web", options=("-F", str(sshd.login.config)), enter="try this")


class Greeting:
    """An account whose start-up file prints, or which runs something else than it is told."""

    def __init__(self, sshd: Sshd, does: str) -> None:
        self.keys = sshd.root / "id_ed25519.pub"
        self.own = self.keys.read_text()
        self.script = sshd.root / "forced"
        self.script.write_text(does)
        self.command = f"sh {shlex.quote(str(self.script))}"

    def __enter__(self) -> None:
        quoted = self.command.replace('"', '\\"')
        self.keys.write_text(f'command="{quoted}" {self.own}')

    def __exit__(self, *_exception: object) -> None:
        self.keys.write_text(self.own)


def test_what_start_up_files_print_is_no_answer_of_a_guest(sshd: Sshd) -> None:
    lines: list[str] = []
    with Greeting(sshd, GREETING + RUN), Connection.connect(sshd.login) as link:
        assert link.run(["printf", "%s|", *WORDS]).stdout == "".join(f"{word}|" for word in WORDS)
        assert link.run("echo one; exit 3", check=False).status == 3
        assert link.run("cat", input=b"in", on_line=lines.append).stdout == "in"
    assert [line for line in lines if "lastlog" not in line] == ["in"]


def test_what_start_up_files_print_is_no_answer_of_a_server(sshd: Sshd, forced: Destination) -> None:
    lines: list[str] = []
    with Greeting(sshd, GREETING + RUN), OpenSsh.connect(forced) as link:
        assert link.run(["printf", "%s|", *WORDS]).stdout == "".join(f"{word}|" for word in WORDS)
        assert "Welcome" not in link.run("cat", input=b"in", on_line=lines.append).stdout
    assert [line for line in lines if "lastlog" not in line] == ["in"]


@pytest.mark.parametrize("status", [0, 1])
def test_an_account_that_runs_something_else_is_told_as_such(sshd: Sshd, forced: Destination, status: int) -> None:
    nologin = f"echo This account is currently not available.; exit {status}"
    with Greeting(sshd, nologin), Connection.connect(sshd.login) as link, pytest.raises(Unreachable) as caught:
        link.run(["test", "-e", "/"], check=False)
    assert caught.value.brief == "web: the login shell did not run what it was told"
    assert "not available" in caught.value.details
    with Greeting(sshd, nologin), OpenSsh.connect(forced) as other, pytest.raises(Unreachable) as caught:
        other.run(["test", "-e", "/"], check=False)
    assert caught.value.brief == "web-a: the login shell did not run what it was told"
    assert "not available" in caught.value.details


@pytest.mark.parametrize("shell", [shell for shell in ("sh", "bash", "zsh", "fish") if shutil.which(shell)])
def test_every_shell_reads_words_the_same(shell: str) -> None:
    done = subprocess.run([shell, "-c", login_shell.line(["printf", "%s|", *WORDS])], capture_output=True, check=True)
    assert login_shell.answer(done.stdout.decode()) == "".join(f"{word}|" for word in WORDS)


def test_backslashes_and_quotes_stand_alone_for_fish_reads_them_between_quotes() -> None:
    assert login_shell.quoted(["a\\\\b", "it's", "plain", "a b", "wow!"]) == (
        "'a'\\\\\\\\'b' 'it'\\''s' plain 'a b' 'wow'\\!"
    )


HOSTILE = """\
RequestTTY force
RemoteCommand tmux new -A -s main
SessionType none
StdinNull yes
ForkAfterAuthentication yes
PermitLocalCommand yes
LocalCommand echo local
VisualHostKey yes
LogLevel DEBUG1
ForwardX11 yes
ControlMaster auto
ControlPath {root}/mine-%C
ControlPersist yes
LocalForward {port} 127.0.0.1:1
ExitOnForwardFailure yes
EscapeChar x
"""


def test_what_the_users_configuration_says_of_sessions_is_for_people(sshd: Sshd, tmp_path: Path) -> None:
    from tests.unit.openssh_server import free_port

    config = tmp_path / "config"
    text = HOSTILE.format(root=tmp_path, port=free_port())
    config.write_text(sshd.login.config.read_text() + "Host *\n" + text)
    destination = Destination(name="web-a", host="web", options=("-F", str(config)), enter="try this")
    lines: list[str] = []
    with OpenSsh.connect(destination) as first, OpenSsh.connect(destination) as link:
        assert first.run(["echo", "first"]).stdout == "first\n"
        done = link.run("cat; tty; exit 3", input=b"in x~.\n", check=False)
        assert (done.status, done.stdout, done.stderr) == (3, "in x~.\nnot a tty\n", "")
        link.run("cat", input=b"in", on_line=lines.append)
    assert lines == ["in"]
    assert not list(tmp_path.glob("mine-*"))
